/**
 * The machine's one clock: the instructions retired by all processors, in execution order, one nanosecond each.
 *
 * It drives every TSC (1 GHz), timer and the host's ktime. Where everything is idle its owner jumps to the next timer.
 */
import type { Clock, Timer } from '../devices/clock.ts';
import { TimerQueue } from '../devices/timer-queue.ts';

export class MachineClock implements Clock {
  /** Retired instructions; equal to the time in ns minus what idle jumps have skipped. */
  instructions = 0;
  readonly queue: TimerQueue = new TimerQueue();
  #now = 0;

  /** Nanoseconds since machine reset. */
  now(): number {
    return this.#now;
  }

  /** Accounts for executed instructions; does not run timers. */
  retire(count: number): void {
    this.instructions += count;
    this.#now += count;
  }

  /** Lets idle time pass up to `deadline`; does not run timers. */
  skipTo(deadline: number): void {
    if (deadline > this.#now) this.#now = deadline;
  }

  setTimer(timer: Timer, deadline: number): void {
    this.queue.set(timer, deadline);
  }
  cancel(timer: Timer): void {
    this.queue.cancel(timer);
  }

  /** Runs the callbacks of all timers that are due. */
  runTimers(): void {
    if (this.queue.nextDeadline <= this.#now) this.queue.runExpired(this.#now);
  }
}
