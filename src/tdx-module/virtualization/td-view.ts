/** A TD's configuration as the virtualization rules look at it. */
import { featureBit } from '../../machine/cpuid/features.ts';
import type { Tdcs } from '../objects/tdcs.ts';
import type { Tdvps } from '../objects/tdvps.ts';
import type { CpuidRow, Registers } from './cpuid-rows.ts';
import { cpuidRow } from './cpuid-rows.ts';

export interface TdView {
  readonly attributes: bigint;
  readonly xfam: bigint;
  readonly tdCtls: bigint;
  /** A computed row of the TD's CPUID. */
  cpuidValues(row: CpuidRow): Registers;
}

const REGISTER = { eax: 0, ebx: 1, ecx: 2, edx: 3 } as const;

/** Whether the TD's CPUID offers a feature, by the names of the machine's feature table. */
export function hasVirtualFeature(td: TdView, name: string): boolean {
  const { leaf, subleaf, register, bit } = featureBit(name);
  const row = cpuidRow(leaf, subleaf);
  return row !== undefined && ((td.cpuidValues(row)[REGISTER[register]] >>> bit) & 1) !== 0;
}

/** A TD's view from its TDCS, field by field when it is asked for. */
class TdcsView implements TdView {
  readonly #tdcs: Tdcs;

  constructor(tdcs: Tdcs) {
    this.#tdcs = tdcs;
  }
  get attributes(): bigint {
    return this.#tdcs.get('ATTRIBUTES');
  }
  get xfam(): bigint {
    return this.#tdcs.get('XFAM');
  }
  get tdCtls(): bigint {
    return this.#tdcs.get('TD_CTLS');
  }
  cpuidValues({ index }: CpuidRow): Registers {
    const low = this.#tdcs.get('CPUID_VALUES', index * 2);
    const high = this.#tdcs.get('CPUID_VALUES', index * 2 + 1);
    return [Number(low & 0xffff_ffffn), Number(low >> 32n), Number(high & 0xffff_ffffn), Number(high >> 32n)];
  }
}

export const viewOf = (tdcs: Tdcs): TdView => new TdcsView(tdcs);

/** The x2APIC id that the host gave to a virtual processor. */
export const x2apicIdOf = ({ tdcs, index }: Tdvps): number => tdcs.num('X2APIC_IDS', index);
