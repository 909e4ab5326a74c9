/**
 * The queue behind a clock: a binary heap of armed timers, ordered by deadline and then by order of arming, so that equal
 * deadlines fire in the same order in every run.
 */
import type { Timer } from './clock.ts';

/** Armed timers in order. Knows no time of its own: its owner says what time it is. */
export class TimerQueue {
  /** Deadline of the earliest timer in ns, Infinity without one. Kept as a field: run loops read it all the time. */
  nextDeadline: number = Number.POSITIVE_INFINITY;
  readonly #heap: Timer[] = [];
  #sequence = 0;

  /** How many timers are armed. */
  get size(): number {
    return this.#heap.length;
  }

  /** Arms `timer` for `deadline` (ns), or moves it there; a moved timer goes behind others with the same deadline. */
  set(timer: Timer, deadline: number): void {
    timer.deadline = deadline;
    timer.sequence = this.#sequence++;
    if (timer.slot < 0) {
      timer.slot = this.#heap.length;
      this.#heap.push(timer);
    }
    this.#siftDown(timer, this.#siftUp(timer, timer.slot));
    this.#noteNext();
  }

  /** Disarms `timer` if it is armed. */
  cancel(timer: Timer): void {
    const slot = timer.slot;
    if (slot < 0) return;
    timer.slot = -1;
    const last = this.#heap.pop() as Timer;
    if (last !== timer) this.#siftDown(last, this.#siftUp(last, slot));
    this.#noteNext();
  }

  /** Fires every timer whose deadline is at most `now`, including those armed meanwhile; returns how many fired. */
  runExpired(now: number): number {
    let fired = 0;
    while (this.nextDeadline <= now) {
      const timer = this.#heap[0] as Timer;
      this.cancel(timer);
      fired++;
      timer.callback(timer.deadline);
    }
    return fired;
  }

  #noteNext(): void {
    const first = this.#heap[0];
    this.nextDeadline = first === undefined ? Number.POSITIVE_INFINITY : first.deadline;
  }

  /** Moves `timer` from `slot` towards the root, returns where it ends. */
  #siftUp(timer: Timer, slot: number): number {
    let at = slot;
    while (at > 0) {
      const parent = this.#heap[(at - 1) >> 1] as Timer;
      if (!before(timer, parent)) break;
      this.#place(parent, at);
      at = (at - 1) >> 1;
    }
    this.#place(timer, at);
    return at;
  }

  #siftDown(timer: Timer, slot: number): void {
    let at = slot;
    for (;;) {
      const left = this.#heap[2 * at + 1];
      if (left === undefined) break;
      const right = this.#heap[2 * at + 2];
      const child = right !== undefined && before(right, left) ? right : left;
      if (!before(child, timer)) break;
      const next = child.slot;
      this.#place(child, at);
      at = next;
    }
    this.#place(timer, at);
  }

  #place(timer: Timer, slot: number): void {
    this.#heap[slot] = timer;
    timer.slot = slot;
  }
}

function before(a: Timer, b: Timer): boolean {
  return a.deadline < b.deadline || (a.deadline === b.deadline && a.sequence < b.sequence);
}
