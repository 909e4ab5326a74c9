/**
 * The cooperative scheduler: tasks are vCPU threads, one runs at a time, round robin.
 *
 * A task is in user mode (its owner's code runs or awaits), ready, running, or blocked. Calls that may have to wait give
 * a promise, or null when there is nothing to wait for, so that a lone vCPU never leaves synchronous code. When every
 * task is blocked, machine time jumps to the next timer (virtual clock) or passes with wall time (real clock).
 *
 * What runs next depends only on the order of calls, so runs repeat exactly.
 */
import { Timer } from '../devices/clock.ts';
import type { MachineClock } from '../machine/clock.ts';
import type { Cpu } from './cpus.ts';
import type { Platform } from './platform.ts';
import type { HostTimers } from './timers.ts';

/** Nanoseconds a task runs while another one is ready. */
const SHARED_SLICE = 200_000;
/** Nanoseconds a task runs when it is alone: it only stops to let the event loop have its turn. */
const LONE_SLICE = 1_000_000;
/** Exits take some microseconds each. */
const ENTRIES_PER_SLICE = 1000;
/** Wall milliseconds after which the event loop gets a turn. */
const TURN_MS = 8;

/** One thread of the host. */
export class Task {
  readonly name: string;
  /** Where it runs; changes only while it does not run. */
  cpu: Cpu;
  state: 'user' | 'ready' | 'running' | 'blocked' = 'user';
  /** The slice is over, or a better task waits: leave the guest and call yield. @upstream TIF_NEED_RESCHED */
  needResched = false;
  /** Something wants this task out of the call it is in. @upstream TIF_SIGPENDING */
  signalPending = false;
  /** Entries into the guest since the slice began. */
  entries = 0;
  /** Continues the task when it is chosen. */
  resume: (() => void) | null = null;

  constructor(name: string, cpu: Cpu) {
    this.name = name;
    this.cpu = cpu;
  }

  /**
   * Counts an entry into the guest, and ends the slice after many: exits take time that the guest's clock does not
   * show. Counted and not timed, so that runs repeat.
   */
  countEntry(): void {
    if (++this.entries >= ENTRIES_PER_SLICE) this.needResched = true;
  }
}

/** How idle time passes. */
export type ClockMode = 'virtual' | 'real';

/** What the scheduler drives. */
export interface SchedulerOptions {
  readonly clock: MachineClock;
  readonly timers: HostTimers;
  readonly platform: Platform;
  /** Makes `cpu` current, for the task about to run. */
  readonly switchTo: (cpu: Cpu) => void;
  /** Interrupts the running guest because its slice is over. */
  readonly interrupt: () => void;
}

/** Round-robin scheduler of cooperative tasks. */
export class Scheduler {
  mode: ClockMode = 'virtual';
  /** Called when every task is blocked and no timer is armed: nothing but input can wake anything. */
  onStuck: () => void = () => {};
  readonly #options: SchedulerOptions;
  readonly #ready: Task[] = [];
  readonly #slice: Timer;
  #running: Task | null = null;
  /** Whose slice the slice timer ends. */
  #sliceOwner: Task | null = null;
  #blocked = 0;
  #holds = 0;
  #idle: (() => void) | null = null;
  #deferred = false;
  /** The event loop has its turn; then the scheduler goes on by itself. */
  #turning = false;
  #lastTurn = 0;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#slice = new Timer(() => {
      if (this.#sliceOwner !== null) this.#sliceOwner.needResched = true;
      if (this.#running !== null) options.interrupt();
    });
  }

  /** The task that runs. */
  get running(): Task | null {
    return this.#running;
  }

  /** Whether another task waits for the processor. */
  get contended(): boolean {
    return this.#ready.length > 0;
  }

  /** The task leaves user mode and wants to run. Null: it runs now. */
  enter(task: Task): Promise<void> | null {
    if (this.#running === task) return null;
    if (this.#running === null && !this.#turning && (this.#ready.length === 0 || !task.needResched)) {
      this.#run(task);
      return null;
    }
    return this.#wait(task);
  }

  /** The task goes back to user mode: its caller has something to do. It may enter again at once and keep its slice. */
  leave(task: Task): void {
    task.state = 'user';
    if (this.#running === task) this.#running = null;
    if (this.#ready.length > 0 || this.#blocked > 0) this.#dispatchLater();
  }

  /** Lets others run. Null: nobody else wants to, go on. */
  yield(task: Task): Promise<void> | null {
    task.needResched = false;
    const turn = this.#turnDue();
    if (this.#ready.length === 0 && !turn) {
      this.#startSlice();
      return null;
    }
    this.#running = null;
    this.#endSlice();
    this.#ready.push(task);
    task.state = 'ready';
    const wait = this.#pause(task);
    if (turn) this.#turn(() => this.#dispatch());
    else this.#dispatch();
    return wait;
  }

  /** The running task only waits for others: its slice is over if one of them could run. */
  spinning(): void {
    if (this.#running === null || this.#ready.length === 0) return;
    this.#running.needResched = true;
    this.#options.interrupt();
  }

  /** Stops until {@link wake}. Null: it was woken already (time jumped to the timer that woke it). */
  block(task: Task): Promise<void> | null {
    task.state = 'blocked';
    this.#blocked++;
    this.#running = null;
    this.#endSlice();
    if (this.#ready.length === 0 && this.mode === 'virtual' && this.#holds === 0) {
      while (this.#ready.length === 0 && this.#jump()) {
        if (this.#turnDue()) {
          const wait = this.#pause(task);
          this.#turn(() => this.#idleStep());
          return wait;
        }
      }
      if (this.#ready[0] === task) {
        this.#ready.shift();
        this.#run(task);
        return null;
      }
    }
    const wait = this.#pause(task);
    this.#idleStep();
    return wait;
  }

  /** Makes a blocked task ready. Anything else stays as it is. */
  wake(task: Task): void {
    if (task.state !== 'blocked') return;
    task.state = 'ready';
    this.#blocked--;
    this.#ready.push(task);
    if (this.#running !== null) this.#shortenSlice();
    else this.#idle?.();
  }

  /**
   * Keeps machine time from passing while work outside the machine is under way: nobody is chosen, as nobody knows how long
   * that takes. Call the result when it is done; whoever enters in the same turn of the event loop is first.
   */
  hold(): () => void {
    this.#holds++;
    const hold = { released: false };
    return () => {
      if (hold.released) return;
      hold.released = true;
      this.#holds--;
      if (this.#idle !== null) this.#idle();
      else if (this.#running === null && this.#ready.length > 0) this.#dispatchLater();
    };
  }

  /** Lets tasks that `begin` starts enter in their order before the first one runs. */
  startTogether(begin: () => void): void {
    if (this.#running !== null || this.#turning) return begin();
    this.#turning = true;
    begin();
    this.#turning = false;
    if (this.#ready.length > 0) this.#dispatch();
  }

  /** Gives the event loop a turn. Whoever comes meanwhile queues, so that what runs next does not depend on the wall clock. */
  #turn(next: () => void): void {
    this.#turning = true;
    this.#options.platform.turn(() => {
      this.#turning = false;
      next();
    });
  }

  #pause(task: Task): Promise<void> {
    return new Promise((resolve) => {
      task.resume = resolve;
    });
  }

  #wait(task: Task): Promise<void> {
    task.state = 'ready';
    this.#ready.push(task);
    if (this.#running !== null) this.#shortenSlice();
    else if (!this.#turning) this.#dispatchLater();
    return this.#pause(task);
  }

  #run(task: Task): void {
    this.#running = task;
    task.state = 'running';
    this.#options.switchTo(task.cpu);
    if (this.#sliceOwner === task && this.#slice.armed) return;
    this.#sliceOwner = task;
    this.#startSlice();
  }

  #endSlice(): void {
    this.#options.clock.cancel(this.#slice);
    this.#sliceOwner = null;
  }

  #startSlice(): void {
    const { clock } = this.#options;
    if (this.#running !== null) {
      this.#running.needResched = false;
      this.#running.entries = 0;
    }
    clock.setTimer(this.#slice, clock.now() + (this.#ready.length > 0 ? SHARED_SLICE : LONE_SLICE));
  }

  /** A second task became ready: the running one no longer has a lone task's slice. */
  #shortenSlice(): void {
    const { clock } = this.#options;
    const end = clock.now() + SHARED_SLICE;
    if (this.#slice.armed && this.#slice.deadline > end) clock.setTimer(this.#slice, end);
  }

  #dispatchLater(): void {
    if (this.#deferred) return;
    this.#deferred = true;
    this.#options.platform.turn(() => {
      this.#deferred = false;
      // Where the event loop has its turn, what comes after it dispatches.
      if (this.#running === null && !this.#turning) this.#dispatch();
    });
  }

  #dispatch(): void {
    if (this.#running !== null || this.#holds > 0) return;
    const task = this.#ready.shift();
    if (task === undefined) {
      this.#endSlice();
      return this.#idleStep();
    }
    this.#run(task);
    const { resume } = task;
    task.resume = null;
    resume?.();
  }

  /** Nothing runs: start what is ready, or let time pass until something is. */
  #idleStep(): void {
    this.#idle = null;
    if (this.#running !== null) return;
    if (this.#ready.length > 0) return this.#dispatch();
    if (this.mode === 'real') return this.#sleep();
    while (this.#holds === 0 && this.#jump()) {
      if (this.#ready.length > 0) return this.#dispatch();
      if (this.#turnDue()) {
        this.#turn(() => this.#idleStep());
        return;
      }
    }
    this.#idle = () => {
      this.#idle = null;
      this.#turn(() => this.#idleStep());
    };
    if (this.#holds === 0) this.onStuck();
  }

  /** Jumps to the next timer and runs it; false without one. */
  #jump(): boolean {
    const { clock, timers } = this.#options;
    const next = clock.queue.nextDeadline;
    if (next === Number.POSITIVE_INFINITY) return false;
    clock.skipTo(next);
    clock.runTimers();
    timers.run();
    return true;
  }

  /** Real clock: sleeps until the next timer or a wake-up. */
  #sleep(): void {
    const { clock, timers, platform } = this.#options;
    const next = clock.queue.nextDeadline;
    const before = platform.wallMs();
    const start = clock.now();
    let cancel = (): void => {};
    const done = (): void => {
      cancel();
      this.#idle = null;
      clock.skipTo(Math.min(next, start + Math.round((platform.wallMs() - before) * 1e6)));
      clock.runTimers();
      timers.run();
      this.#idleStep();
    };
    this.#idle = done;
    if (next === Number.POSITIVE_INFINITY) return this.onStuck();
    cancel = platform.sleep(Math.max(0, (next - start) / 1e6), () => {
      clock.skipTo(next);
      done();
    });
  }

  #turnDue(): boolean {
    const now = this.#options.platform.wallMs();
    if (now - this.#lastTurn < TURN_MS) return false;
    this.#lastTurn = now;
    return true;
  }
}
