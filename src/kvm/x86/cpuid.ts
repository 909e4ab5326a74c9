/**
 * CPUID of guests: what KVM supports, what user space set, and the answer to the instruction.
 *
 * @upstream arch/x86/kvm/cpuid.c
 */
import { E2BIG, EINVAL, type Errno } from '../../host/errno.ts';
import { cpuid } from '../../machine/cpuid/cpuid.ts';
import type { Processor } from '../../machine/processor.ts';
import { trace } from '../../util/trace.ts';
import { guestCpuidHas, kvmCpuCaps } from './cpuid_caps.ts';
import { kvmInjectGp } from './event_queue.ts';
import { kvmApicBase } from './irqchip_mode.ts';
import { kvmReadCr4Bits, kvmRegisterRead32, kvmRegisterWrite32 } from './kvm_cache_regs.ts';
import { VCPU_REGS_RAX, VCPU_REGS_RBX, VCPU_REGS_RCX, VCPU_REGS_RDX, type X86Vcpu } from './kvm_host.ts';
import { KVM_CPUID_FEATURES_BITS, KVM_CPUID_SIGNATURE } from './kvm_para.ts';
import { kvmApicAfterSetCpuid } from './lapic.ts';
import { kvmSkipEmulatedInstruction } from './skip.ts';

/** The index of an entry counts. */
export const KVM_CPUID_FLAG_SIGNIFCANT_INDEX = 1;
export const KVM_MAX_CPUID_ENTRIES = 256;

/** @upstream struct kvm_cpuid_entry2 */
export interface KvmCpuidEntry2 {
  readonly function: number;
  readonly index: number;
  readonly flags: number;
  eax: number;
  ebx: number;
  ecx: number;
  edx: number;
}

/** Guest-physical addresses have no more bits than tables of four levels translate. */
const TDP_ADDRESS_BITS = 48;
const CR4_OSXSAVE = 0x40000;
const OSXSAVE_BIT = 1 << 27;
const CR4_PKE = 0x400000;
const OSPKE_BIT = 1 << 4;
const APIC_BIT = 1 << 9;
const APIC_ENABLED = 0x800n;
/** IA32_MISC_ENABLE: MONITOR/MWAIT offered. */
const MISC_ENABLE_MWAIT = 1n << 18n;
const MWAIT_BIT = 1 << 3;

const MAX_BASIC = 0x1f;
const MAX_EXTENDED = 0x8000_0008;

/** Host leaves whose content goes to guests as it is. */
const VERBATIM: ReadonlySet<number> = new Set([
  0, 2, 4, 0x15, 0x16, 0x8000_0002, 0x8000_0003, 0x8000_0004, 0x8000_0006,
]);

/** What KVM supports on this processor. @upstream kvm_dev_ioctl_get_cpuid() */
export function kvmGetSupportedCpuid(p: Processor): KvmCpuidEntry2[] {
  const entries: KvmCpuidEntry2[] = [];
  const add = (
    leaf: number,
    index: number,
    significant: boolean,
    words: { eax: number; ebx: number; ecx: number; edx: number },
  ): void => {
    entries.push({
      function: leaf >>> 0,
      index,
      flags: significant ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
      eax: words.eax >>> 0,
      ebx: words.ebx >>> 0,
      ecx: words.ecx >>> 0,
      edx: words.edx >>> 0,
    });
  };
  const host = (leaf: number, index = 0) => ({ ...cpuid(p, leaf, index) });
  for (let leaf = 0; leaf <= MAX_BASIC; leaf++) addLeaf(p, leaf, host, add);
  add(KVM_CPUID_SIGNATURE, 0, false, {
    eax: KVM_CPUID_SIGNATURE + 1,
    // "KVMKVMKVM"
    ebx: 0x4b4d564b,
    ecx: 0x564b4d56,
    edx: 0x4d,
  });
  add(KVM_CPUID_SIGNATURE + 1, 0, false, {
    eax: KVM_CPUID_FEATURES_BITS,
    ebx: 0,
    ecx: 0,
    edx: 0,
  });
  for (let leaf = 0x8000_0000; leaf <= MAX_EXTENDED; leaf++) addLeaf(p, leaf, host, add);
  return entries;
}

type Words = { eax: number; ebx: number; ecx: number; edx: number };

/** @upstream __do_cpuid_func() */
function addLeaf(
  p: Processor,
  leaf: number,
  host: (leaf: number, index?: number) => Words,
  add: (leaf: number, index: number, significant: boolean, words: Words) => void,
): void {
  const caps = (index: number, register: 'eax' | 'ebx' | 'ecx' | 'edx'): number => kvmCpuCaps(p, leaf, index, register);
  const zero: Words = { eax: 0, ebx: 0, ecx: 0, edx: 0 };
  switch (leaf) {
    case 0:
      add(leaf, 0, false, { ...host(0), eax: MAX_BASIC });
      return;
    case 1: {
      const words = host(1);
      // Initial APIC id and count of processors are the business of whoever sets the guest's CPUID.
      add(leaf, 0, false, {
        eax: words.eax,
        ebx: words.ebx & 0xff00,
        ecx: caps(0, 'ecx'),
        edx: caps(0, 'edx'),
      });
      return;
    }
    case 4:
      for (let index = 0; index < 8; index++) {
        const words = host(4, index);
        add(leaf, index, true, words);
        if ((words.eax & 31) === 0) return;
      }
      return;
    case 6:
      add(leaf, 0, false, { ...zero, eax: 4 });
      return;
    case 7: {
      add(leaf, 0, true, {
        eax: 2,
        ebx: caps(0, 'ebx'),
        ecx: caps(0, 'ecx'),
        edx: caps(0, 'edx'),
      });
      add(leaf, 1, true, { ...zero, eax: caps(1, 'eax') });
      add(leaf, 2, true, { ...zero, edx: caps(2, 'edx') });
      return;
    }
    case 0xb:
    case 0x1f:
      // The topology is the guest's own: level 0 with nothing in it.
      add(leaf, 0, true, zero);
      return;
    case 0xd: {
      const words = host(0xd, 0);
      add(leaf, 0, true, words);
      const one = host(0xd, 1);
      add(leaf, 1, true, { ...one, eax: caps(1, 'eax') });
      for (let index = 2; index < 64; index++) {
        const component = host(0xd, index);
        if (component.eax !== 0) add(leaf, index, true, component);
      }
      return;
    }
    case 0x8000_0000:
      add(leaf, 0, false, { ...zero, eax: MAX_EXTENDED });
      return;
    case 0x8000_0001:
      add(leaf, 0, false, {
        ...zero,
        ecx: caps(0, 'ecx'),
        edx: caps(0, 'edx'),
      });
      return;
    case 0x8000_0007:
      add(leaf, 0, false, { ...zero, edx: host(leaf).edx & (1 << 8) });
      return;
    case 0x8000_0008:
      // The guest's addresses reach as far as EPT tables of four levels.
      add(leaf, 0, false, { ...zero, eax: (host(leaf).eax & 0xffff) | (TDP_ADDRESS_BITS << 16), ebx: caps(0, 'ebx') });
      return;
    default:
      if (VERBATIM.has(leaf)) add(leaf, 0, false, host(leaf));
      else add(leaf, 0, false, zero);
  }
}

/** @upstream kvm_find_cpuid_entry_index() */
export function kvmFindCpuidEntry(vcpu: X86Vcpu, leaf: number, index = 0): KvmCpuidEntry2 | undefined {
  for (const entry of vcpu.arch.cpuidEntries) {
    if (entry.function !== leaf) continue;
    if (entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX && entry.index !== index) continue;
    return entry;
  }
  return undefined;
}

/** KVM_SET_CPUID2. @upstream kvm_vcpu_ioctl_set_cpuid2() */
export function kvmVcpuIoctlSetCpuid2(vcpu: X86Vcpu, entries: readonly KvmCpuidEntry2[]): Errno {
  if (entries.length > KVM_MAX_CPUID_ENTRIES) return -E2BIG;
  const width = entries.find((entry) => entry.function === 0x8000_0008);
  if (width !== undefined) {
    const linear = (width.eax >>> 8) & 0xff;
    if (linear !== 48 && linear !== 57 && linear !== 0) return -EINVAL;
  }
  vcpu.arch.cpuidEntries = entries.map((entry) => ({ ...entry }));
  kvmVcpuAfterSetCpuid(vcpu);
  return 0;
}

/** @upstream kvm_vcpu_after_set_cpuid() */
export function kvmVcpuAfterSetCpuid(vcpu: X86Vcpu): void {
  const { arch } = vcpu;
  arch.cpuidGeneration++;
  const width = kvmFindCpuidEntry(vcpu, 0x8000_0008);
  arch.maxphyaddr = width === undefined || (width.eax & 0xff) === 0 ? 36 : width.eax & 0xff;
  const xsave = kvmFindCpuidEntry(vcpu, 0xd, 0);
  const host = cpuid(vcpu.kvm.host.cpu.processor, 0xd, 0);
  arch.guestSupportedXcr0 =
    xsave === undefined
      ? 1n
      : (BigInt(xsave.eax & host.eax) & 0xffff_ffffn) | (BigInt((xsave.edx & host.edx) >>> 0) << 32n) | 1n;
  const hostXss = cpuid(vcpu.kvm.host.cpu.processor, 0xd, 1);
  const xss = kvmFindCpuidEntry(vcpu, 0xd, 1);
  arch.guestSupportedXss = xss === undefined ? 0n : BigInt((xss.ecx & hostXss.ecx) >>> 0);
  arch.cr4GuestRsvdBits = cr4GuestRsvdBits(vcpu);
  kvmApicAfterSetCpuid(vcpu);
  kvmUpdateCpuidRuntime(vcpu);
  vcpu.kvm.ops.vcpuAfterSetCpuid(vcpu);
}

const CR4_BASE = 0x7ff;
const CR4_BY_FEATURE: readonly (readonly [number, string])[] = [
  [0x800, 'umip'],
  [0x1000, 'la57'],
  [0x10000, 'fsgsbase'],
  [0x20000, 'pcid'],
  [0x40000, 'xsave'],
  [0x100000, 'smep'],
  [0x200000, 'smap'],
  [0x400000, 'pku'],
];

/** @upstream __cr4_reserved_bits() */
function cr4GuestRsvdBits(vcpu: X86Vcpu): number {
  let allowed = CR4_BASE;
  for (const [bit, feature] of CR4_BY_FEATURE) if (guestCpuidHas(vcpu, feature)) allowed |= bit;
  return ~allowed >>> 0;
}

/** Bits that follow the processor's state. @upstream kvm_update_cpuid_runtime() */
export function kvmUpdateCpuidRuntime(vcpu: X86Vcpu): void {
  const features = kvmFindCpuidEntry(vcpu, 1);
  if (features !== undefined) {
    const change = (word: number, bit: number, on: boolean): number => (on ? word | bit : word & ~bit) >>> 0;
    const osxsave = kvmReadCr4Bits(vcpu, CR4_OSXSAVE) !== 0;
    if (guestCpuidHas(vcpu, 'xsave')) features.ecx = change(features.ecx, OSXSAVE_BIT, osxsave);
    features.edx = change(features.edx, APIC_BIT, (kvmApicBase(vcpu) & APIC_ENABLED) !== 0n);
    features.ecx = change(
      features.ecx,
      MWAIT_BIT,
      (vcpu.arch.miscEnable & MISC_ENABLE_MWAIT) !== 0n && vcpu.kvm.arch.mwaitInGuest,
    );
  }
  const extended = kvmFindCpuidEntry(vcpu, 7, 0);
  if (extended !== undefined && guestCpuidHas(vcpu, 'pku')) {
    const on = kvmReadCr4Bits(vcpu, CR4_PKE) !== 0;
    extended.ecx = (on ? extended.ecx | OSPKE_BIT : extended.ecx & ~OSPKE_BIT) >>> 0;
  }
  const xsave = kvmFindCpuidEntry(vcpu, 0xd, 0);
  if (xsave !== undefined) xsave.ebx = xstateSize(vcpu, vcpu.arch.xcr0);
  const compact = kvmFindCpuidEntry(vcpu, 0xd, 1);
  if (compact !== undefined && compact.eax & (2 | 8)) compact.ebx = compactSize(vcpu, vcpu.arch.xcr0 | vcpu.arch.iaXss);
}

const LEGACY_AREA = 576;

/** Size of the standard XSAVE area for these components. @upstream xstate_required_size() */
function xstateSize(vcpu: X86Vcpu, components: bigint): number {
  let size = LEGACY_AREA;
  for (let i = 2; i < 63; i++) {
    if ((components & (1n << BigInt(i))) === 0n) continue;
    const words = cpuid(vcpu.kvm.host.cpu.processor, 0xd, i);
    size = Math.max(size, words.eax + words.ebx);
  }
  return size;
}
function compactSize(vcpu: X86Vcpu, components: bigint): number {
  let size = LEGACY_AREA;
  for (let i = 2; i < 63; i++) {
    if ((components & (1n << BigInt(i))) === 0n) continue;
    const words = cpuid(vcpu.kvm.host.cpu.processor, 0xd, i);
    if (words.ecx & 2) size = Math.ceil(size / 64) * 64;
    size += words.eax;
  }
  return size;
}

/** The answer for EAX = leaf, ECX = index: 16 bytes as words. @upstream kvm_cpuid() */
export function kvmCpuid(vcpu: X86Vcpu, leaf: number, index: number): Words {
  let entry = kvmFindCpuidEntry(vcpu, leaf, index);
  const found = entry !== undefined;
  if (entry === undefined) entry = outOfRange(vcpu, leaf, index);
  const words: Words =
    entry === undefined
      ? { eax: 0, ebx: 0, ecx: 0, edx: 0 }
      : { eax: entry.eax, ebx: entry.ebx, ecx: entry.ecx, edx: entry.edx };
  if (entry === undefined && (leaf === 0xb || leaf === 0x1f)) {
    // Subleaves beyond the last one keep the index and the APIC id.
    const first = kvmFindCpuidEntry(vcpu, leaf, 1);
    if (first !== undefined) {
      words.ecx = index & 0xff;
      words.edx = first.edx;
    }
  }
  trace.kvm_cpuid?.(leaf, index, words.eax, words.ebx, words.ecx, words.edx, found);
  return words;
}

/** Intel: a leaf above the last of its class answers as the highest basic leaf. @upstream get_out_of_range_cpuid_entry() */
function outOfRange(vcpu: X86Vcpu, leaf: number, index: number): KvmCpuidEntry2 | undefined {
  const basic = kvmFindCpuidEntry(vcpu, 0);
  if (basic === undefined) return undefined;
  const base = leaf >= 0x4000_0000 && leaf <= 0x4fff_ffff ? leaf & 0xffff_ff00 : leaf & 0x8000_0000;
  const of = kvmFindCpuidEntry(vcpu, base >>> 0);
  if (of !== undefined && leaf <= of.eax) return undefined;
  return kvmFindCpuidEntry(vcpu, basic.eax, index);
}

/** Exit reason CPUID. @upstream kvm_emulate_cpuid() */
export function kvmEmulateCpuid(vcpu: X86Vcpu): number {
  if (vcpu.arch.miscFeaturesEnables & 1n && vcpu.kvm.ops.getCpl(vcpu) !== 0) {
    kvmInjectGp(vcpu);
    return 1;
  }
  const words = kvmCpuid(vcpu, kvmRegisterRead32(vcpu, VCPU_REGS_RAX), kvmRegisterRead32(vcpu, VCPU_REGS_RCX));
  kvmRegisterWrite32(vcpu, VCPU_REGS_RAX, words.eax);
  kvmRegisterWrite32(vcpu, VCPU_REGS_RBX, words.ebx);
  kvmRegisterWrite32(vcpu, VCPU_REGS_RCX, words.ecx);
  kvmRegisterWrite32(vcpu, VCPU_REGS_RDX, words.edx);
  return kvmSkipEmulatedInstruction(vcpu);
}
