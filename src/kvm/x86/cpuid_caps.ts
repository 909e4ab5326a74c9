/**
 * CPUID features by name: what KVM can give a guest, and what a guest was given.
 *
 * @upstream arch/x86/kvm/cpuid.c kvm_initialize_cpu_caps(), cpuid.h guest_cpuid_has()
 */
import { cpuid } from '../../machine/cpuid/cpuid.ts';
import { type FeatureBit, featureBit } from '../../machine/cpuid/features.ts';
import type { Processor } from '../../machine/processor.ts';
import type { X86Vcpu } from './kvm_host.ts';

/**
 * Features that KVM passes on where the processor has them. What is missing here is hidden: VMX (no nesting), MONITOR
 * (it exits), PERFMON, power management, machine check extensions that need the host.
 */
const PASSED_ON: ReadonlySet<string> = new Set(
  `pni pclmulqdq ssse3 fma cx16 pcid sse4_1 sse4_2 movbe popcnt aes xsave avx f16c rdrand
   fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ss ht
   arat
   fsgsbase tsc_adjust bmi1 avx2 fdp_excptn_only smep bmi2 erms invpcid zero_fcs_fds rdseed adx smap clflushopt clwb sha_ni
   umip pku la57 rdpid gfni vaes vpclmulqdq movdiri movdir64b
   fsrm md_clear serialize spec_ctrl stibp arch_capabilities ssbd
   fzrm fsrs fsrcs bhi_ctrl mcdt_no
   xsaveopt xsavec xgetbv1 xsaves
   lahf_lm abm 3dnowprefetch syscall nx pdpe1gb rdtscp lm constant_tsc wbnoinvd`
    .trim()
    .split(/\s+/),
);
/** Features that KVM itself provides. */
const EMULATED: readonly string[] = ['x2apic', 'tsc_deadline_timer', 'hypervisor', 'tsc_adjust'];

/** Register values of a leaf. */
export interface CpuidWords {
  eax: number;
  ebx: number;
  ecx: number;
  edx: number;
}

/** The feature bits of one register of a leaf that KVM can offer on this processor, unsigned. */
export function kvmCpuCaps(p: Processor, leaf: number, subleaf: number, register: keyof CpuidWords): number {
  const host = cpuid(p, leaf, subleaf)[register];
  const mask = (names: Iterable<string>): number =>
    [...names]
      .map(featureBit)
      .filter((at) => at.leaf === leaf && at.subleaf === subleaf && at.register === register)
      .reduce((word, at) => word | (1 << at.bit), 0);
  return ((mask(PASSED_ON) & host) | mask(EMULATED)) >>> 0;
}

const bits: Map<string, FeatureBit> = new Map();

/** Whether the guest's CPUID has a feature. @upstream guest_cpuid_has() */
export function guestCpuidHas(vcpu: X86Vcpu, name: string): boolean {
  let at = bits.get(name);
  if (at === undefined) {
    at = featureBit(name);
    bits.set(name, at);
  }
  for (const entry of vcpu.arch.cpuidEntries) {
    if (entry.function !== at.leaf) continue;
    if (entry.flags & 1 && entry.index !== at.subleaf) continue;
    return (entry[at.register] & (1 << at.bit)) !== 0;
  }
  return false;
}
