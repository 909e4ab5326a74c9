/**
 * Time as the device models see it: a clock that counts nanoseconds and timers that fire at one.
 *
 * Timers are intrusive, reusable objects, so that arming one allocates nothing.
 */

/** Called when a timer fires, with the deadline (ns) it was armed for; the clock may already show a later time. */
export type TimerCallback = (deadline: number) => void;

/** One alarm. Belongs to one clock at a time and may be armed again and again, also from its own callback. */
export class Timer {
  /** What happens at the deadline. */
  readonly callback: TimerCallback;
  /** Nanoseconds on the clock; meaningful while armed. */
  deadline = 0;
  /** Place in the queue's heap, −1 while not armed. Belongs to the queue. */
  slot = -1;
  /** Order of arming, which decides between equal deadlines. Belongs to the queue. */
  sequence = 0;

  constructor(callback: TimerCallback) {
    this.callback = callback;
  }

  /** Whether the timer is waiting in a queue. */
  get armed(): boolean {
    return this.slot >= 0;
  }
}

/** A source of time with alarms. */
export interface Clock {
  /** Nanoseconds since the clock started, an integer that never decreases. */
  now(): number;
  /** Arms `timer` for `deadline` (ns, an integer; a past one fires as soon as the clock's owner looks). An armed timer moves. */
  setTimer(timer: Timer, deadline: number): void;
  /** Disarms `timer`; nothing happens if it is not armed. */
  cancel(timer: Timer): void;
}
