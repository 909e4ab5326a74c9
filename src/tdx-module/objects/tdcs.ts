/**
 * The TDCS: a TD's control structure, on pages encrypted with the TD's key.
 *
 *   page 0 management, controls, epoch, measurement, CPUID | 2 MSR bitmaps | 3 S-EPT root | 4 zeros | 5 migration links
 *
 * @tdx "TD Life Cycle", TD Control Structure (TDCS)
 */
import type { KeyedMemory } from '../../machine/keyed-memory.ts';
import type { Hpa } from '../../util/address.ts';
import type { HashStream } from '../../util/crypto/hash.ts';
import type { Field } from '../metadata/field.ts';
import { TDCS_FIELDS, type TdcsFieldName } from '../metadata/tdcs-fields.ts';
import { PAGE } from '../platform.ts';
import { FieldArea } from './field-area.ts';
import type { Tdr } from './tdr.ts';

/** OP_STATE. @tdx "TD Operation State Machine" */
export const OP_STATE = {
  UNINITIALIZED: 0,
  INITIALIZED: 1,
  RUNNABLE: 2,
  LIVE_EXPORT: 3,
  PAUSED_EXPORT: 4,
  POST_EXPORT: 5,
  MEMORY_IMPORT: 6,
  STATE_IMPORT: 7,
  POST_IMPORT: 8,
  LIVE_IMPORT: 9,
  FAILED_IMPORT: 10,
} as const;

/** Bits of ATTRIBUTES. @tdx "ABI Reference: Data Types", ATTRIBUTES */
export const ATTRIBUTES: Readonly<
  Record<'DEBUG' | 'SEPT_VE_DISABLE' | 'MIGRATABLE' | 'PKS' | 'KL' | 'PERFMON', bigint>
> = {
  DEBUG: 1n << 0n,
  SEPT_VE_DISABLE: 1n << 28n,
  MIGRATABLE: 1n << 29n,
  PKS: 1n << 30n,
  KL: 1n << 31n,
  PERFMON: 1n << 63n,
};

/** Bits of CONFIG_FLAGS. @tdx "ABI Reference: Data Types", CONFIG_FLAGS */
export const CONFIG_FLAGS: Readonly<Record<'GPAW' | 'FLEXIBLE_PENDING_VE' | 'NO_RBP_MOD', bigint>> = {
  GPAW: 1n << 0n,
  FLEXIBLE_PENDING_VE: 1n << 1n,
  NO_RBP_MOD: 1n << 2n,
};

/** Bits of TD_CTLS. @tdx "ABI Reference: Data Types", TD_CTLS */
export const TD_CTLS: Readonly<
  Record<'PENDING_VE_DISABLE' | 'ENUM_TOPOLOGY' | 'VIRT_CPUID2' | 'REDUCE_VE' | 'LOCK', bigint>
> = {
  PENDING_VE_DISABLE: 1n << 0n,
  ENUM_TOPOLOGY: 1n << 1n,
  VIRT_CPUID2: 1n << 2n,
  REDUCE_VE: 1n << 3n,
  LOCK: 1n << 63n,
};

/** Index of the TDCS page with the S-EPT root. */
export const SEPT_ROOT_PAGE = 3;
export const MSR_BITMAP_PAGE = 2;

export class Tdcs extends FieldArea<TdcsFieldName> {
  readonly tdr: Tdr;
  protected override readonly fields: Readonly<Record<TdcsFieldName, Field>> = TDCS_FIELDS;
  protected override readonly keyed: KeyedMemory;
  /** Addresses of its pages, as TDR.TDCX_PA has them. */
  readonly pages: Hpa[] = [];
  /** What was measured so far, until TDH.MR.FINALIZE; the real module keeps the context in the TDCS. */
  measurement: HashStream | null = null;
  /** SHA-384 of TDINFO, until something in it changes. */
  infoHash: Uint8Array | null = null;

  constructor(tdr: Tdr) {
    super();
    this.tdr = tdr;
    this.keyed = tdr.module.platform.keyed;
  }

  override get keyId(): number {
    return this.tdr.hkid;
  }
  /** The TD's private KeyID. */
  get hkid(): number {
    return this.tdr.hkid;
  }

  override address(offset: number): Hpa {
    return this.pages[offset >>> 12]! + (offset & 0xfff);
  }

  /** Whether all its pages are the TD's still: nobody else has written to them. */
  get intact(): boolean {
    return this.pages.every((page) => this.keyed.owns(page, PAGE, this.keyId));
  }

  get opState(): number {
    return this.num('OP_STATE');
  }
  hasAttribute(bit: bigint): boolean {
    return (this.get('ATTRIBUTES') & bit) !== 0n;
  }
  /** Bit number of the GPA that says shared: 47 or 51. */
  get sharedBit(): number {
    return this.num('GPAW') !== 0 ? 51 : 47;
  }
  /** Guest-physical address width: 48 or 52. */
  get gpaw(): number {
    return this.sharedBit + 1;
  }
  /** Level of the entries in the S-EPT root page: 3 for a 4-level tree, 4 for a 5-level one. */
  get rootLevel(): number {
    return Number((this.get('EPTP') >> 3n) & 7n);
  }
}
