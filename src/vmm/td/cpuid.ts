/** CPUID of a TD: what the VMM asks the module to show, and what KVM answers where the module raises #VE. */

import type { KvmTdxCapabilities } from '../../kvm/x86/uapi_tdx.ts';
import type { CpuidEntry } from '../kvm-api.ts';

const KVM_FEATURES = 0x4000_0001;
const ADDRESS_SIZES = 0x8000_0008;
/** Guest-physical address width, in EAX[23:16] of the address sizes. */
const GPAW_SHIFT = 16;
const GPAW_MASK: number = 0xff << GPAW_SHIFT;
const GPAW = 48;
/** Features that take no MSR beyond those that KVM emulates for TDs: no delay after port accesses, control of polling. */
const FEATURES: number = (1 << 1) | (1 << 12);

const same = (a: CpuidEntry, b: CpuidEntry): boolean => a.function === b.function && a.index === b.index;

/** What KVM offers in `entries`, without the paravirtual features whose MSRs a TD cannot reach. */
export function tdVcpuCpuid(entries: readonly CpuidEntry[]): CpuidEntry[] {
  return entries.map((entry) =>
    entry.function === KVM_FEATURES ? { ...entry, eax: (entry.eax & FEATURES) >>> 0 } : entry,
  );
}

/**
 * The entries of KVM_TDX_INIT_VM: of `wanted` those bits that the module lets the VMM choose, and 48-bit guest addresses.
 *
 * @upstream KVM_TDX_INIT_VM: every entry must be one that KVM_TDX_CAPABILITIES lists
 */
export function tdConfigCpuid(wanted: readonly CpuidEntry[], { cpuid }: KvmTdxCapabilities): CpuidEntry[] {
  return cpuid.entries.map((mask) => {
    const given = wanted.find((entry) => same(entry, mask)) ?? { ...mask, eax: 0, ebx: 0, ecx: 0, edx: 0 };
    const chosen = {
      ...mask,
      eax: (given.eax & mask.eax) >>> 0,
      ebx: (given.ebx & mask.ebx) >>> 0,
      ecx: (given.ecx & mask.ecx) >>> 0,
      edx: (given.edx & mask.edx) >>> 0,
    };
    return mask.function === ADDRESS_SIZES
      ? { ...chosen, eax: ((chosen.eax & ~GPAW_MASK) | (GPAW << GPAW_SHIFT)) >>> 0 }
      : chosen;
  });
}
