/**
 * The host kernel's timers: a queue of alarms behind one clock event.
 *
 * Callbacks run in host context only. When the earliest deadline passes while a guest runs, the clock event interrupts
 * that processor, the guest exits, and the interrupt's handler runs what is due.
 *
 * @upstream kernel/time/hrtimer.c
 */
import { type Clock, Timer } from '../devices/clock.ts';
import { TimerQueue } from '../devices/timer-queue.ts';
import type { MachineClock } from '../machine/clock.ts';

/** High-resolution timers of the host; also the clock that device models and KVM's timers live on. */
export class HostTimers implements Clock {
  readonly #clock: MachineClock;
  readonly #queue: TimerQueue = new TimerQueue();
  readonly #event: Timer;
  /** Interrupts the processor that runs a guest, if one does; set by the host. */
  interrupt: () => void = () => {};
  #running = false;

  constructor(clock: MachineClock) {
    this.#clock = clock;
    this.#event = new Timer(() => this.interrupt());
  }

  /** Kernel time (ktime_get) in ns. */
  now(): number {
    return this.#clock.now();
  }

  setTimer(timer: Timer, deadline: number): void {
    this.#queue.set(timer, deadline);
    if (!this.#running) this.#program();
  }

  cancel(timer: Timer): void {
    this.#queue.cancel(timer);
    if (!this.#running) this.#program();
  }

  /** The earliest deadline, Infinity without one. */
  get nextDeadline(): number {
    return this.#queue.nextDeadline;
  }

  /** Runs every callback that is due; how many. */
  run(): number {
    if (this.#queue.nextDeadline > this.#clock.now()) return 0;
    this.#running = true;
    const count = this.#queue.runExpired(this.#clock.now());
    this.#running = false;
    this.#program();
    return count;
  }

  #program(): void {
    const next = this.#queue.nextDeadline;
    if (next === Number.POSITIVE_INFINITY) this.#clock.cancel(this.#event);
    else if (!this.#event.armed || this.#event.deadline !== next) this.#clock.setTimer(this.#event, next);
  }
}
