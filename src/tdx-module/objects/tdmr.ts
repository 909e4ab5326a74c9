/**
 * A trust domain memory region: memory that may become private, and where its PAMT lies.
 *
 * @tdx "Physical Memory Management", TDMR
 */
import type { Hpa } from '../../util/address.ts';

export const GIB: number = 2 ** 30;
export const MIB2: number = 2 ** 21;

/** Sizes of a page by level: 4 KiB, 2 MiB, 1 GiB. */
export const LEVEL_BYTES: readonly number[] = [4096, MIB2, GIB];
export type PageLevel = 0 | 1 | 2;
/** Bytes of a PAMT entry of any level. */
export const PAMT_ENTRY_SIZE = 16;

export interface Area {
  readonly base: Hpa;
  readonly size: number;
}

export class Tdmr {
  readonly base: Hpa;
  readonly size: number;
  /** PAMT areas by level. */
  readonly pamt: readonly Area[];
  /** Parts without memory or with the PAMT, ascending. */
  readonly reserved: readonly Area[];
  /** Where the PAMT is made next. */
  next: Hpa;
  /** Memory below can be used: whole GiB whose PAMT is there. */
  initialized: Hpa;

  constructor(area: Area, pamt: readonly Area[], reserved: readonly Area[]) {
    this.base = area.base;
    this.size = area.size;
    this.pamt = pamt;
    this.reserved = reserved;
    this.next = area.base;
    this.initialized = area.base;
  }

  get end(): Hpa {
    return this.base + this.size;
  }

  contains(pa: Hpa): boolean {
    return pa >= this.base && pa < this.end;
  }

  /** Whether the PAMT of [pa, pa + size) is there. */
  isInitialized(pa: Hpa, size: number): boolean {
    return pa >= this.base && pa + size <= this.initialized;
  }
}
