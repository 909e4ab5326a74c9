/** Shapes the CPUID that KVM offers into what one vCPU of a VM shows. */

import type { CpuidEntry } from './kvm-api.ts';

/** The subleaf counts. @upstream KVM_CPUID_FLAG_SIGNIFCANT_INDEX */
const SIGNIFICANT_INDEX = 1;
const HYPERVISOR = 1 << 31;
const TSC_DEADLINE = 1 << 24;
const HTT = 1 << 28;
const LEVEL_SMT = 1;
const LEVEL_CORE = 2;

/** What a vCPU is and where it sits. */
export interface VcpuTopology {
  readonly apicId: number;
  /** vCPUs of the VM: cores of one package, one thread each. */
  readonly cpus: number;
  /** Whether KVM emulates the TSC-deadline timer, which its list of supported leaves does not say. */
  readonly tscDeadline: boolean;
}

/** Bits that an id below `count` needs. */
const idBits = (count: number): number => 32 - Math.clz32(count - 1);

/** Extended topology, leaf 0xB or 0x1F. @sdm "CPUID", extended topology enumeration leaf */
function topologyLeaf(leaf: number, { apicId, cpus }: VcpuTopology): CpuidEntry[] {
  const level = (index: number, shift: number, count: number, type: number): CpuidEntry => ({
    function: leaf,
    index,
    flags: SIGNIFICANT_INDEX,
    eax: shift,
    ebx: count,
    ecx: index | (type << 8),
    edx: apicId,
  });
  return [level(0, 0, 1, LEVEL_SMT), level(1, idBits(cpus), cpus, LEVEL_CORE), level(2, 0, 0, 0)];
}

/** The entries for one vCPU, from those that KVM supports. */
export function guestCpuid(supported: readonly CpuidEntry[], topology: VcpuTopology): CpuidEntry[] {
  const { apicId, cpus, tscDeadline } = topology;
  const entries: CpuidEntry[] = [];
  for (const entry of supported) {
    switch (entry.function) {
      case 1: {
        // Initial APIC id, and how many ids the package reserves.
        const low = entry.ebx & 0xffff;
        const ebx = (low | (Math.min(1 << idBits(cpus), 255) << 16) | ((apicId & 0xff) << 24)) >>> 0;
        const ecx = (entry.ecx | HYPERVISOR | (tscDeadline ? TSC_DEADLINE : 0)) >>> 0;
        const edx = (cpus > 1 ? entry.edx | HTT : entry.edx & ~HTT) >>> 0;
        entries.push({ ...entry, ebx, ecx, edx });
        break;
      }
      case 4: {
        // Cores of the package, and who shares the cache: everybody shares only the third level.
        const cacheLevel = (entry.eax >> 5) & 7;
        const sharing = cacheLevel === 3 ? cpus - 1 : 0;
        const cores = Math.min((1 << idBits(cpus)) - 1, 63);
        const none = (entry.eax & 0x1f) === 0;
        entries.push(none ? entry : { ...entry, eax: ((entry.eax & 0x3fff) | (sharing << 14) | (cores << 26)) >>> 0 });
        break;
      }
      case 0xb:
      case 0x1f:
        if (entry.index === 0) entries.push(...topologyLeaf(entry.function, topology));
        break;
      default:
        entries.push(entry);
    }
  }
  return entries;
}
