/** A set of guest frames, kept as ranges: a large range costs what a small one does. @upstream kvm->mem_attr_array */
import type { Gfn } from '../../util/address.ts';

/** Frames, in ascending ranges that do not touch. */
export class FrameSet {
  /** First frame of each range. */
  readonly #starts: Gfn[] = [];
  /** First frame after each range. */
  readonly #ends: Gfn[] = [];

  /** How many ranges there are. */
  get ranges(): number {
    return this.#starts.length;
  }

  has(gfn: Gfn): boolean {
    const at = this.#firstEndAfter(gfn);
    return at < this.#starts.length && this.#starts[at]! <= gfn;
  }

  /** Whether every frame of [start, end) is in the set (`present`), or none. */
  all(start: Gfn, end: Gfn, present: boolean): boolean {
    const at = this.#firstEndAfter(start);
    if (at === this.#starts.length) return !present;
    return present ? this.#starts[at]! <= start && end <= this.#ends[at]! : this.#starts[at]! >= end;
  }

  /** Puts the frames of [start, end) in or takes them out. */
  set(start: Gfn, end: Gfn, present: boolean): void {
    // Ranges from `first` to before `last` overlap; ones that only touch are joined when frames come in.
    const first = this.#firstEndAfter(present ? start - 1 : start);
    let last = first;
    while (last < this.#starts.length && (present ? this.#starts[last]! <= end : this.#starts[last]! < end)) last++;
    const low = first < last ? this.#starts[first]! : start;
    const high = first < last ? this.#ends[last - 1]! : end;
    const starts: Gfn[] = [];
    const ends: Gfn[] = [];
    const keep = (from: Gfn, to: Gfn): void => {
      if (from >= to) return;
      starts.push(from);
      ends.push(to);
    };
    if (present) {
      keep(Math.min(low, start), Math.max(high, end));
    } else {
      keep(low, start);
      keep(end, high);
    }
    this.#starts.splice(first, last - first, ...starts);
    this.#ends.splice(first, last - first, ...ends);
  }

  /** Index of the first range that ends after `gfn`. */
  #firstEndAfter(gfn: Gfn): number {
    let low = 0;
    let high = this.#ends.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#ends[middle]! > gfn) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
