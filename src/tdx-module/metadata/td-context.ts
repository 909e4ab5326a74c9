/**
 * Metadata of a TD: the fields of its TDR and TDCS, with those whose value is not simply what the page holds.
 *
 * CPUID_VALUES has a field per CPUID leaf, whose code names the leaf:
 *
 *   23:17 reserved | 16 bit 31 of the leaf | 15:9 its bits 6:0 | 8 no subleaf | 7:1 subleaf | 0 element
 *
 * A leaf without subleaves is read by any subleaf; as a next identifier it has all bits 8:1 set.
 *
 * @tdx "ABI Reference: Metadata", TD-scope metadata
 */
import { CONFIG_FLAGS, TD_CTLS, type Tdcs } from '../objects/tdcs.ts';
import { STATUS, status } from '../status.ts';
import { CPUID_ROWS, cpuidRow } from '../virtualization/cpuid-rows.ts';
import { TD_CTLS_DEFINED } from '../virtualization/features.ts';
import { classCodeOf, fieldCodeOf } from './field.ts';
import { type Element, MetadataTable, NO_FIELD_ID, type Party } from './metadata-table.ts';
import { findIn, type MetadataContext } from './read-element.ts';
import { TDCS_FIELDS, type TdcsFieldName } from './tdcs-fields.ts';
import { TDR_FIELDS, type TdrFieldName } from './tdr-fields.ts';

/** Fields of L2 virtual machines exist in no TD. */
const IN_USE = Object.entries(TDCS_FIELDS).filter(([name]) => !name.startsWith('L2_SEPT_ROOT'));
/** Both structures, the TDR first. */
export const TD_TABLE: MetadataTable = new MetadataTable({ ...TDR_FIELDS, ...Object.fromEntries(IN_USE) });

const CPUID_CLASS = 0x14;
const CPUID_RESERVED = 0xfe_0000;
const NO_SUBLEAF = 0x100;
const ANY_SUBLEAF = 0x1fe;
const LEAF_BIT_31 = 0x1_0000;

/** Timeouts of host-priority locks that the host may set, in µs; the TSC counts 1000 a µs. */
const MIN_TIMEOUT_US = 10_000n;
const MAX_TIMEOUT_US = 100_000_000n;
const TICKS_PER_US = 1000n;
/** What it is at first. */
export const HP_LOCK_TIMEOUT_TICKS: bigint = 1_000_000n * TICKS_PER_US;

const ALL_BITS = 0xffff_ffff_ffff_ffffn;

const invalidValue = (): bigint => status(STATUS.METADATA_FIELD_VALUE_NOT_VALID);
const isTdrField = (name: string): name is TdrFieldName => name in TDR_FIELDS;

/** Row of the CPUID table that a field code names, or -1. */
function cpuidRowOf(code: number): number {
  const leaf = ((code & LEAF_BIT_31 ? 0x8000_0000 : 0) | ((code >> 9) & 0x7f)) >>> 0;
  return cpuidRow(leaf, code & NO_SUBLEAF ? -1 : (code >> 1) & 0x7f)?.index ?? -1;
}

/** Field code of the first element of a row of the CPUID table. */
function cpuidCodeOf(index: number): number {
  const { leaf, subleaf } = CPUID_ROWS[index]!;
  return (
    (leaf >= 0x8000_0000 ? LEAF_BIT_31 : 0) | ((leaf & 0x7f) << 9) | (subleaf === null ? ANY_SUBLEAF : subleaf << 1)
  );
}

export class TdContext implements MetadataContext {
  readonly #tdcs: Tdcs;

  constructor(tdcs: Tdcs) {
    this.#tdcs = tdcs;
  }

  find(id: bigint): Element | bigint {
    if (classCodeOf(id) !== CPUID_CLASS) return findIn(TD_TABLE, id);
    const code = fieldCodeOf(id);
    if (code & CPUID_RESERVED) return status(STATUS.METADATA_FIELD_ID_INCORRECT);
    const row = cpuidRowOf(code);
    if (row < 0) return status(STATUS.METADATA_FIELD_ID_INCORRECT);
    return { field: TDCS_FIELDS.CPUID_VALUES, index: row * 2 + (code & 1) };
  }

  read({ field, index }: Element): { readonly value: bigint } | { readonly error: bigint } {
    const tdcs = this.#tdcs;
    const name = field.name as TdrFieldName | TdcsFieldName;
    if (isTdrField(name)) return { value: tdcs.tdr.get(name, index) };
    switch (name) {
      case 'NUM_CPUID_VALUES':
        return { value: BigInt(CPUID_ROWS.length) };
      case 'HP_LOCK_TIMEOUT':
        return { value: tdcs.get(name) / TICKS_PER_US };
      case 'CPUID_VALUES':
        if (tdcs.num('CPUID_VALID', index >> 1) === 0) return { error: status(STATUS.METADATA_FIELD_NOT_READABLE) };
        return { value: tdcs.get(name, index) };
      default:
        return { value: tdcs.get(name, index) };
    }
  }

  write({ field, index }: Element, value: bigint, _party: Party, mask: bigint): bigint | null {
    const name = field.name as TdcsFieldName;
    if (name === 'HP_LOCK_TIMEOUT') {
      if (mask !== ALL_BITS) return status(STATUS.METADATA_WR_MASK_NOT_VALID);
      if (value < MIN_TIMEOUT_US || value > MAX_TIMEOUT_US) return invalidValue();
      this.#tdcs.set(name, value * TICKS_PER_US);
      return null;
    }
    if (name === 'TD_CTLS') return this.#writeTdCtls(value);
    this.#tdcs.set(name, value, index);
    return null;
  }

  /** @tdx "ABI Reference: Data Types", TD_CTLS */
  #writeTdCtls(value: bigint): bigint | null {
    const tdcs = this.#tdcs;
    const old = tdcs.get('TD_CTLS');
    if (old & TD_CTLS.LOCK) return value === old ? null : invalidValue();
    const flexible = (tdcs.get('CONFIG_FLAGS') & CONFIG_FLAGS.FLEXIBLE_PENDING_VE) !== 0n;
    if (!flexible && (value ^ old) & TD_CTLS.PENDING_VE_DISABLE) return invalidValue();
    if (value & TD_CTLS.ENUM_TOPOLOGY && tdcs.num('TOPOLOGY_ENUM_CONFIGURED') === 0) return invalidValue();
    if (value & ~TD_CTLS_DEFINED) return invalidValue();
    tdcs.set('TD_CTLS', value);
    return null;
  }

  next(element: Element | undefined, party: Party): bigint {
    if (element?.field === TDCS_FIELDS.CPUID_VALUES) {
      const code = fieldCodeOf(this.#idOf(element));
      if ((code & 1) === 0) return this.#idOf({ field: element.field, index: element.index + 1 });
      let row = (element.index >> 1) + 1;
      while (row < CPUID_ROWS.length && this.#tdcs.num('CPUID_VALID', row) === 0) row++;
      if (row < CPUID_ROWS.length) return this.#idOf({ field: element.field, index: row * 2 });
      return this.#idOf(TD_TABLE.firstReadable(party, TD_TABLE.fields.indexOf(element.field) + 1));
    }
    return this.#idOf(element === undefined ? TD_TABLE.firstReadable(party) : TD_TABLE.next(element, party));
  }

  #idOf(element: Element | undefined): bigint {
    if (element === undefined) return NO_FIELD_ID;
    const { field, index } = element;
    if (field !== TDCS_FIELDS.CPUID_VALUES) return TD_TABLE.idOf(element);
    return field.id | BigInt(cpuidCodeOf(index >> 1) | (index & 1));
  }
}
