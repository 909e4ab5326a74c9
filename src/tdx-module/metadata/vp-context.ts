/**
 * Metadata of a virtual processor: the fields of its TD VMCS, which must be loaded, then those of its TDVPS.
 *
 * @tdx "ABI Reference: Metadata", VCPU-scope metadata
 */
import { PIN } from '../../machine/vtx/controls.ts';
import { F } from '../../machine/vtx/field-slots.ts';
import { isSharedPa } from '../objects/checks.ts';
import { TD_CTLS } from '../objects/tdcs.ts';
import { type Tdvps, VAPIC_PAGE } from '../objects/tdvps.ts';
import { STATUS, status } from '../status.ts';
import { classCodeOf, type Field } from './field.ts';
import { type Element, MetadataTable, NO_FIELD_ID, type Party } from './metadata-table.ts';
import { findIn, type MetadataContext } from './read-element.ts';
import { TD_VMCS_FIELDS, vmcsFieldOf } from './td-vmcs-fields.ts';
import { TDVPS_FIELDS, type TdvpsFieldName } from './tdvps-fields.ts';
import { debuggerState, unsetForPosting } from './vmcs-rules.ts';

/** Fields of L2 virtual machines exist in no virtual processor. */
const IN_USE = Object.entries(TDVPS_FIELDS).filter(([name]) => !/^L2_(VMCS|MSR_BITMAPS|SHADOW)/.test(name));
export const TDVPS_TABLE: MetadataTable = new MetadataTable(Object.fromEntries(IN_USE));

const VMCS_CLASS = 0;
export const TD_VMCS_TABLE: MetadataTable = new MetadataTable(TD_VMCS_FIELDS);

const invalidValue = (): bigint => status(STATUS.METADATA_FIELD_VALUE_NOT_VALID);

/** XSAVE header in XBUFF, in elements of 8 bytes: not even a debugger may write it. */
const XSAVE_HEADER: readonly [first: number, end: number] = [64, 72];
/** Processor priority in the virtual APIC page. */
const VAPIC_PPR = 0xa0;
/** Bit of VCPU_STATE_DETAILS: an interrupt is pending and would be delivered but for RFLAGS.IF. */
const VMXIP = 1n;
const LAST_NOTIFICATION_VECTOR = 255n;
/** IA32_DEBUGCTL.ENABLE_UNCORE_PMI. */
const UNCORE_PMI = 1n << 13n;

export class VpContext implements MetadataContext {
  readonly #tdvps: Tdvps;

  constructor(tdvps: Tdvps) {
    this.#tdvps = tdvps;
  }

  find(id: bigint): Element | bigint {
    return findIn(classCodeOf(id) === VMCS_CLASS ? TD_VMCS_TABLE : TDVPS_TABLE, id);
  }

  read({ field, index }: Element): { readonly value: bigint } {
    if (field.classCode === VMCS_CLASS) return { value: this.#readVmcs(field) };
    const name = field.name as TdvpsFieldName;
    return { value: name === 'VCPU_STATE_DETAILS' ? this.#stateDetails() : this.#tdvps.get(name, index) };
  }

  write({ field, index }: Element, value: bigint): bigint | null {
    if (field.classCode === VMCS_CLASS) return this.#writeVmcs(field, value);
    return this.#writeTdvps(field.name as TdvpsFieldName, index, value);
  }

  next(element: Element | undefined, party: Party): bigint {
    if (element !== undefined && element.field.classCode !== VMCS_CLASS) {
      return this.#idOf(TDVPS_TABLE.next(element, party));
    }
    const vmcs = element === undefined ? TD_VMCS_TABLE.firstReadable(party) : TD_VMCS_TABLE.next(element, party);
    return vmcs === undefined ? this.#idOf(TDVPS_TABLE.firstReadable(party)) : TD_VMCS_TABLE.idOf(vmcs);
  }

  #idOf(element: Element | undefined): bigint {
    return element === undefined ? NO_FIELD_ID : TDVPS_TABLE.idOf(element);
  }

  #readVmcs({ code, size }: Field): bigint {
    const { vmcs } = this.#tdvps;
    const { slot } = vmcsFieldOf(code);
    return size === 8 ? vmcs.get64(slot) : BigInt(vmcs.low(slot));
  }

  #writeVmcs({ code, size }: Field, written: bigint): bigint | null {
    const { vmcs, tdcs } = this.#tdvps;
    const { slot } = vmcsFieldOf(code);
    let value = written;
    switch (slot) {
      case F.POSTED_INTERRUPT_NOTIFICATION_VECTOR:
        if (value > LAST_NOTIFICATION_VECTOR) return invalidValue();
        break;
      case F.POSTED_INTERRUPT_DESCRIPTOR_ADDRESS:
      case F.SHARED_EPT_POINTER:
        if (!isSharedPa(value)) return invalidValue();
        break;
      case F.PIN_CONTROLS:
        if (value & BigInt(PIN.POSTED_INTERRUPTS)) {
          const missing = unsetForPosting(vmcs);
          if (missing !== null) return status(STATUS.TD_VMCS_FIELD_NOT_INITIALIZED, missing);
        }
        break;
      case F.SECONDARY_CONTROLS:
        if (value & ~BigInt(this.#tdvps.tdr.module.machine.processors[0]!.vtx.capabilities.secondary.mayBeOne >>> 0))
          return invalidValue();
        break;
      case F.GUEST_DEBUGCTL:
        // The host's own bit.
        value = (value & ~UNCORE_PMI) | (vmcs.get64(slot) & UNCORE_PMI);
        break;
      default: {
        const state = debuggerState(vmcs, tdcs, slot, value);
        if (state === null) return invalidValue();
        value = state;
      }
    }
    if (size === 8) vmcs.set64(slot, value);
    else vmcs.setLow(slot, Number(value));
    vmcs.touch(slot);
    return null;
  }

  #writeTdvps(name: TdvpsFieldName, index: number, value: bigint): bigint | null {
    const tdvps = this.#tdvps;
    if (name === 'XBUFF' && index >= XSAVE_HEADER[0] && index < XSAVE_HEADER[1]) {
      return status(STATUS.METADATA_FIELD_NOT_WRITABLE);
    }
    const guarded = name === 'CPUID_CONTROL' || name === 'CPUID_SUPERVISOR_VE' || name === 'CPUID_USER_VE';
    if (guarded && tdvps.tdcs.get('TD_CTLS') & TD_CTLS.LOCK) {
      return value === tdvps.get(name, index) ? null : invalidValue();
    }
    tdvps.set(name, value, index);
    return null;
  }

  #stateDetails(): bigint {
    const tdvps = this.#tdvps;
    const requested = tdvps.vmcs.low(F.GUEST_INTERRUPT_STATUS) & 0xff;
    const { keyed } = tdvps.tdr.module.platform;
    const priority = keyed.read8(tdvps.pages[VAPIC_PAGE]! + VAPIC_PPR, tdvps.keyId);
    return requested >> 4 > priority >> 4 ? VMXIP : 0n;
  }
}
