import type { Clock, Timer } from './clock.ts';
import { TimerQueue } from './timer-queue.ts';

/** A clock that moves only when told to: for tests, and for device models used without a machine. */
export class ManualClock implements Clock {
  readonly queue: TimerQueue = new TimerQueue();
  #now = 0;

  now(): number {
    return this.#now;
  }

  setTimer(timer: Timer, deadline: number): void {
    this.queue.set(timer, deadline);
  }

  cancel(timer: Timer): void {
    this.queue.cancel(timer);
  }

  /** Moves `ns` nanoseconds on, firing every timer on the way at its own deadline. */
  advance(ns: number): void {
    this.advanceTo(this.#now + ns);
  }

  /** Moves on to `time`, firing every timer on the way at its own deadline. */
  advanceTo(time: number): void {
    while (this.queue.nextDeadline <= time) {
      this.#now = Math.max(this.#now, this.queue.nextDeadline);
      this.queue.runExpired(this.#now);
    }
    this.#now = Math.max(this.#now, time);
  }
}
