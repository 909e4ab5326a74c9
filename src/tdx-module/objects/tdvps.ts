/**
 * The TDVPS: the state of a TD's virtual processor, on pages encrypted with the TD's key. Its first page is the TDVPR, by
 * whose address the host names the virtual processor.
 *
 *   page 0 #VE information, management, registers, MSRs | 1 TD VMCS | 2 virtual APIC | 3 to 5 XSAVE state
 *
 * @tdx "TD VCPU", TD Virtual Processor State (TDVPS)
 */

import type { KeyedMemory } from '../../machine/keyed-memory.ts';
import { LEGACY_SIZE } from '../../machine/system/xstate-layout.ts';
import { Vmcs } from '../../machine/vtx/vmcs.ts';
import type { Hpa } from '../../util/address.ts';
import type { Field } from '../metadata/field.ts';
import { TDVPS_FIELDS, type TdvpsFieldName } from '../metadata/tdvps-fields.ts';
import { PAGE } from '../platform.ts';
import { FieldArea } from './field-area.ts';
import type { Tdcs } from './tdcs.ts';
import type { Tdr } from './tdr.ts';

/** VCPU_STATE. @tdx "TD VCPU State Machine" */
export const VCPU_STATE = { UNINITIALIZED: 0, READY: 2, ACTIVE: 4, DISABLED: 8, IMPORT: 0x10 } as const;

/** LAST_TD_EXIT. */
export const LAST_TD_EXIT = { ASYNC_FAULT: 0, ASYNC_TRAP: 1, TDVMCALL: 2 } as const;

/** Pages that a TDVPS must have before its virtual processor can be initialised. */
export const TDVPS_BASE_PAGES = 6;
export const VMCS_PAGE = 1;
export const VAPIC_PAGE = 2;
export const XBUFF_PAGE = 3;

/** ASSOC_LPID of a virtual processor that no logical processor has. */
export const NO_LP = 0xffff_ffff;

export class Tdvps extends FieldArea<TdvpsFieldName> {
  readonly tdr: Tdr;
  /** Address of the TDVPR. */
  readonly pa: Hpa;
  protected override readonly fields: Readonly<Record<TdvpsFieldName, Field>> = TDVPS_FIELDS;
  protected override readonly keyed: KeyedMemory;
  /** Addresses of its pages, the TDVPR's first, as TDVPS_PAGE_PA has them. */
  readonly pages: Hpa[];
  #vmcs: Vmcs | null = null;
  #legacy: DataView | null = null;

  constructor(tdr: Tdr, pa: Hpa) {
    super();
    this.tdr = tdr;
    this.pa = pa;
    this.pages = [pa];
    this.keyed = tdr.module.platform.keyed;
  }

  override get keyId(): number {
    return this.tdr.hkid;
  }
  get tdcs(): Tdcs {
    return this.tdr.tdcs;
  }

  override address(offset: number): Hpa {
    return this.pages[offset >>> 12]! + (offset & 0xfff);
  }

  /** The TD VMCS: on the heap while a logical processor has the virtual processor, else in its page. */
  get vmcs(): Vmcs {
    return (this.#vmcs ??= new Vmcs(this.pages[VMCS_PAGE]!));
  }
  /** Takes the VMCS from its page: the virtual processor becomes a logical processor's. */
  loadVmcs(): void {
    this.vmcs.load(this.tdr.module.machine.memory, this.keyId);
  }
  /** Writes the VMCS to its page. */
  storeVmcs(): void {
    this.vmcs.store(this.tdr.module.machine.memory, this.keyId);
  }

  /** The legacy region of the XSAVE image, as memory, while its page is the TD's; else null. */
  get legacyRegion(): DataView | null {
    const at = this.pages[XBUFF_PAGE]!;
    if (this.#legacy === null) this.#legacy = this.keyed.window(at, this.keyId, LEGACY_SIZE);
    return this.keyed.owns(at, LEGACY_SIZE, this.keyId) ? this.#legacy : null;
  }

  /** Whether all its pages are the TD's still: nobody else has written to them. */
  get intact(): boolean {
    return this.pages.every((page) => this.keyed.owns(page, PAGE, this.keyId));
  }

  get state(): number {
    return this.num('VCPU_STATE');
  }
  get index(): number {
    return this.num('VCPU_INDEX');
  }
  /** Index of the logical processor that has it, or NO_LP. */
  get associatedLp(): number {
    return this.num('ASSOC_LPID');
  }
}
