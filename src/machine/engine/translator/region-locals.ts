/** Where a region keeps its state while it runs: parameters, locals, and the keys under which code.ts knows them. */
import type { Code } from '../../isa/code.ts';
import { I32, I64 } from '../wasm.ts';
import type { Region } from './region.ts';

/** Parameters of a region's function. */
export const IP = 0;
export const TLB = 1;

/** Keys of mutable state: 0 to 15 are GPRs. */
export const KEY = {
  kind: 16,
  a: 17,
  b: 18,
  left: 19,
  vector: 20,
  x87: 21,
  words: 22,
  page: 23,
  next: 24,
  offset: 25,
  upper: 26,
} as const;

export class RegionLocals {
  /** Locals of the GPRs, -1 for those that the region does not use. */
  readonly gprs: number[] = new Array(16).fill(-1);
  /** GPRs that the region writes. */
  readonly dirty: number[] = [];
  readonly writesFlags: boolean;
  /** Lazy flags. */
  readonly kind: number;
  readonly a: number;
  readonly b: number;
  /** Budget. */
  readonly left: number;
  /** RIP of the page's first byte. */
  readonly page: number;
  /** Record to go on with, or where the region stopped. */
  readonly next: number;
  /** Why it leaves: an exit reason, or 0 to go on. */
  readonly why: number;
  /** Offset that an indirect block goes to, from the page's first byte. */
  readonly offset: number;
  /** Budget with which control came to a loop. */
  readonly first: number;
  /** Index of the next block, where blocks are dispatched by br_table. */
  readonly target: number;

  constructor(code: Code, region: Region) {
    let reads = 0,
      writes = 0,
      flags = false;
    for (const block of region.order) {
      for (const { effects } of block.steps) {
        reads |= effects.reads;
        writes |= effects.writes;
        flags ||= effects.writesFlags !== 'no';
      }
    }
    for (let r = 0; r < 16; r++) {
      if ((reads | writes) & (1 << r)) this.gprs[r] = code.newLocal(I64);
      if (writes & (1 << r)) this.dirty.push(r);
    }
    this.writesFlags = flags;
    this.kind = code.newLocal(I32);
    this.a = code.newLocal(I64);
    this.b = code.newLocal(I64);
    this.left = code.newLocal(I32);
    this.page = code.newLocal(I64);
    this.next = code.newLocal(I32);
    this.offset = code.newLocal(I64);
    this.why = code.newLocal(I32);
    this.first = code.newLocal(I32);
    this.target = code.newLocal(I32);
  }
}
