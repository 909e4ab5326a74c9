import { describe, expect, test } from 'vitest';
import { Timer } from '../devices/clock.ts';
import { MachineClock } from '../machine/clock.ts';
import type { Cpu } from './cpus.ts';
import type { Platform } from './platform.ts';
import { type ClockMode, Scheduler, Task } from './sched.ts';
import { HostTimers } from './timers.ts';

const CPU = { id: 0 } as Cpu;

/** Wall time that the test moves. */
class TestPlatform implements Platform {
  ms = 0;
  readonly sleeping: { ms: number; done: () => void }[] = [];
  wallMs(): number {
    return this.ms;
  }
  turn(done: () => void): void {
    setImmediate(done);
  }
  sleep(ms: number, done: () => void): () => void {
    const entry = { ms, done };
    this.sleeping.push(entry);
    return () => {
      const at = this.sleeping.indexOf(entry);
      if (at >= 0) this.sleeping.splice(at, 1);
    };
  }
}

function make(mode: ClockMode = 'virtual') {
  const clock = new MachineClock();
  const timers = new HostTimers(clock);
  const platform = new TestPlatform();
  let interrupts = 0;
  const sched = new Scheduler({
    clock,
    timers,
    platform,
    switchTo: () => {},
    interrupt: () => interrupts++,
  });
  sched.mode = mode;
  return { clock, timers, platform, sched, interrupts: () => interrupts };
}

/** Executes for `ns` of machine time. */
function compute(clock: MachineClock, ns: number): void {
  clock.retire(ns);
  clock.runTimers();
}

describe('Scheduler', () => {
  test('a lone task never waits', () => {
    const { sched, clock } = make();
    const task = new Task('a', CPU);
    expect(sched.enter(task)).toBeNull();
    compute(clock, 5_000_000);
    expect(task.needResched).toBe(true);
    expect(sched.yield(task)).toBeNull();
    expect(task.needResched).toBe(false);
  });

  test('a task that spins gives up its slice if another one could run, and else goes on', () => {
    const { sched, interrupts } = make();
    const [one, two] = [new Task('a', CPU), new Task('b', CPU)];
    void sched.enter(one);
    sched.spinning();
    expect([one.needResched, interrupts()]).toEqual([false, 0]);
    void sched.enter(two);
    sched.spinning();
    expect([one.needResched, interrupts()]).toEqual([true, 1]);
  });

  test('tasks take turns in order', async () => {
    const { sched, clock } = make();
    const order: string[] = [];
    const life = async (name: string): Promise<void> => {
      const task = new Task(name, CPU);
      await sched.enter(task);
      for (let i = 0; i < 3; i++) {
        order.push(name);
        compute(clock, 1_000_000);
        expect(task.needResched).toBe(true);
        await sched.yield(task);
      }
      sched.leave(task);
    };
    await Promise.all([life('a'), life('b'), life('c')]);
    expect(order.join('')).toBe('abcabcabc');
  });

  test('when everybody waits, time jumps to the next timer', () => {
    const { sched, clock, timers } = make();
    const task = new Task('a', CPU);
    void sched.enter(task);
    timers.setTimer(new Timer(() => sched.wake(task)), 12_345_678);
    expect(sched.block(task)).toBeNull();
    expect(clock.now()).toBe(12_345_678);
    expect(sched.running).toBe(task);
  });

  test('a blocked task lets the others run, and is woken by one', async () => {
    const { sched, clock } = make();
    const a = new Task('a', CPU);
    const b = new Task('b', CPU);
    const order: string[] = [];
    const first = (async () => {
      await sched.enter(a);
      order.push('a blocks');
      await sched.block(a);
      order.push('a woken');
      sched.leave(a);
    })();
    const second = (async () => {
      await sched.enter(b);
      order.push('b runs');
      compute(clock, 1000);
      sched.wake(a);
      sched.leave(b);
    })();
    await Promise.all([first, second]);
    expect(order).toEqual(['a blocks', 'b runs', 'a woken']);
  });

  test('a second task shortens the slice of the first', () => {
    const { sched, clock, interrupts } = make();
    const a = new Task('a', CPU);
    const b = new Task('b', CPU);
    void sched.enter(a);
    compute(clock, 300_000);
    expect(interrupts()).toBe(0);
    expect(sched.enter(b)).not.toBeNull();
    compute(clock, 200_000);
    expect(interrupts()).toBe(1);
    expect(a.needResched).toBe(true);
  });

  test('a task that goes to user mode and comes back keeps its slice', () => {
    const { sched, clock } = make();
    const task = new Task('a', CPU);
    for (let i = 0; i < 20; i++) {
      expect(sched.enter(task)).toBeNull();
      compute(clock, 100_000);
      sched.leave(task);
    }
    expect(task.needResched).toBe(true);
  });

  test('with nothing to wait for it says that it is stuck, and goes on when woken', async () => {
    const { sched } = make();
    const task = new Task('a', CPU);
    let stuck = 0;
    sched.onStuck = () => stuck++;
    void sched.enter(task);
    const wait = sched.block(task);
    expect(stuck).toBe(1);
    sched.wake(task);
    await wait;
    expect(sched.running).toBe(task);
  });

  test('work under way outside holds time', async () => {
    const { sched, clock, timers } = make();
    const task = new Task('a', CPU);
    void sched.enter(task);
    timers.setTimer(new Timer(() => sched.wake(task)), 1_000_000);
    const release = sched.hold();
    const wait = sched.block(task);
    expect(wait).not.toBeNull();
    expect(clock.now()).toBe(0);
    release();
    await wait;
    expect(clock.now()).toBe(1_000_000);
  });

  test('whoever waits for work outside is not overtaken, however long that takes', async () => {
    const { sched } = make();
    const [a, b] = [new Task('a', CPU), new Task('b', CPU)];
    void sched.enter(a);
    const second = sched.enter(b);
    sched.leave(a);
    const release = sched.hold();
    for (let turns = 0; turns < 3; turns++) await new Promise(setImmediate);
    expect(sched.running).toBeNull();
    release();
    expect(sched.enter(a)).toBeNull();
    sched.leave(a);
    await second;
    expect(sched.running).toBe(b);
  });

  test.each([0, 1_000_000])('tasks that start together run in their order (wall clock at %i)', async (ms) => {
    const { sched, platform } = make();
    platform.ms = ms;
    const order: string[] = [];
    const run = async (task: Task): Promise<void> => {
      await sched.enter(task);
      order.push(task.name);
      await sched.yield(task);
      order.push(task.name);
      sched.leave(task);
    };
    const runs: Promise<void>[] = [];
    sched.startTogether(() => {
      for (const name of ['a', 'b', 'c']) runs.push(run(new Task(name, CPU)));
      expect(order).toEqual([]);
    });
    await Promise.all(runs);
    expect(order).toEqual(['a', 'b', 'c', 'a', 'b', 'c']);
  });

  test('on the real clock idle time is slept through, and a wake-up ends the sleep', async () => {
    const { sched, clock, timers, platform } = make('real');
    const task = new Task('a', CPU);
    void sched.enter(task);
    timers.setTimer(new Timer(() => sched.wake(task)), 50_000_000);
    let wait = sched.block(task);
    expect(platform.sleeping.map((entry) => entry.ms)).toEqual([50]);
    platform.ms = 50;
    platform.sleeping[0]!.done();
    await wait;
    expect(clock.now()).toBe(50_000_000);
    // Input arrives after 7 ms of another sleep.
    timers.setTimer(new Timer(() => {}), 1_000_000_000);
    wait = sched.block(task);
    platform.ms = 57;
    sched.wake(task);
    await wait;
    expect(clock.now()).toBe(57_000_000);
    expect(platform.sleeping).toEqual([]);
  });
});
