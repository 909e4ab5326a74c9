/**
 * The key ownership table: what each HKID is used for, and on which packages its cache lines wait to be written back.
 *
 * @tdx "Key Ownership Table (KOT)"
 */

export const HKID = { FREE: 0, ASSIGNED: 1, FLUSHED: 2, RESERVED: 3 } as const;
export type HkidState = (typeof HKID)[keyof typeof HKID];

export interface KotEntry {
  state: HkidState;
  /** Packages whose caches may hold lines of a flushed HKID, one bit each. */
  writeBack: bigint;
}

/** A write-back of a package's caches. */
export interface WriteBack {
  /** The HKIDs it is for. */
  readonly flushed: readonly KotEntry[];
  /** Parts of the caches written so far. */
  done: number;
}

export class Kot {
  readonly entries: readonly KotEntry[];
  /** The private HKIDs are [first, last]. */
  readonly first: number;
  readonly last: number;

  /** @param shared number of shared KeyIDs, KeyID 0 not counted; private ones follow */
  constructor(shared: number, count: number) {
    this.first = shared + 1;
    this.last = shared + count;
    this.entries = Array.from({ length: this.last + 1 }, (_, hkid) => ({
      state: hkid < this.first ? HKID.RESERVED : HKID.FREE,
      writeBack: 0n,
    }));
  }

  isPrivate(hkid: number): boolean {
    return hkid >= this.first && hkid <= this.last;
  }
}
