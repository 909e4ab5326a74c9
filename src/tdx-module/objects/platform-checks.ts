/**
 * What TDH.SYS.INIT demands of the platform, and what TDH.SYS.LP.INIT compares on every logical processor.
 *
 * Which CPUID bits are verified is softvt's own choice: what the module and its TDs use of this machine's processor.
 *
 * @tdx "TDX Module Lifecycle", Platform Configuration Checks
 */
import { IA32_ARCH_CAPABILITIES } from '../../machine/msr/platform.ts';
import type { Processor } from '../../machine/processor.ts';
import { fromDwords } from '../../util/dwords.ts';
import type { Platform } from '../platform.ts';
import { STATUS, status } from '../status.ts';
import { cpuidRow } from '../virtualization/cpuid-rows.ts';
import { TD_VMCS_CONTROLS } from '../virtualization/td-vmcs.ts';
import type { Outputs } from './call.ts';

const IA32_MTRRCAP = 0xfe;
const IA32_XAPIC_DISABLE_STATUS = 0xbd;
const IA32_TSC_ADJUST = 0x3b;
const IA32_MISC_ENABLE = 0x1a0;
const IA32_CORE_CAPABILITIES = 0xcf;
const IA32_MISC_PACKAGE_CTLS = 0xbc;
const IA32_PERF_CAPABILITIES = 0x345;
const IA32_TME_CAPABILITY = 0x981;
const IA32_TME_ACTIVATE = 0x982;
const IA32_MKTME_KEYID_PARTITIONING = 0x87;
const SMRR_BASE = 0x1f2;
const SMRR_MASK = 0x1f3;

/** IA32_MISC_ENABLE bit 22: CPUID pretends to have few leaves. */
const LIMIT_CPUID = 1n << 22n;
/** Whether CPUID is limited: several leaves refuse to work then. */
export const cpuidLimited = (platform: Platform, p: Processor): boolean =>
  (platform.msr(p, IA32_MISC_ENABLE) & LIMIT_CPUID) !== 0n;

/** Whether the host moved this processor's TSC since TDH.SYS.INIT; the status if so. */
export function tscMoved(platform: Platform, p: Processor, sampled: bigint): bigint | null {
  return platform.msr(p, IA32_TSC_ADJUST) === sampled ? null : status(STATUS.INCONSISTENT_MSR, IA32_TSC_ADJUST);
}
export const sampleTscAdjust = (platform: Platform, p: Processor): bigint => platform.msr(p, IA32_TSC_ADJUST);

/** Bits of a CPUID leaf that must have a value: EAX, EBX, ECX, EDX. */
interface Verified {
  readonly leaf: number;
  readonly subleaf: number;
  readonly mask: readonly [number, number, number, number];
  readonly value: readonly [number, number, number, number];
}

const ones = (leaf: number, subleaf: number, ecx: number, edx: number): Verified => ({
  leaf,
  subleaf,
  mask: [0, 0, ecx, edx],
  value: [0, 0, ecx, edx],
});
const bits = (...numbers: number[]): number => numbers.reduce((sum, n) => sum | (1 << n), 0) >>> 0;
const ALL = 0xffff_ffff;

const VERIFIED: readonly Verified[] = [
  { leaf: 0, subleaf: 0, mask: [0, ALL, ALL, ALL], value: [0, 0x756e6547, 0x6c65746e, 0x49656e69] },
  // VMX, x2APIC, XSAVE, RDRAND; FPU, TSC, MSR, PAE, MCE, APIC, PAT, SSE, SSE2.
  ones(1, 0, bits(5, 21, 26, 30), bits(0, 4, 5, 6, 7, 9, 16, 25, 26)),
  // MOVDIR64B; IA32_SPEC_CTRL, IA32_ARCH_CAPABILITIES.
  ones(7, 0, bits(28), bits(26, 29)),
  // XSAVEOPT, XSAVEC, XGETBV with ECX=1, XSAVES.
  { leaf: 0xd, subleaf: 1, mask: [15, 0, 0, 0], value: [15, 0, 0, 0] },
  // SYSCALL, NX, 1 GiB pages, RDTSCP, long mode.
  ones(0x8000_0001, 0, 0, bits(11, 20, 26, 27, 29)),
  // Invariant TSC.
  ones(0x8000_0007, 0, 0, bits(8)),
  // 52 physical address bits.
  { leaf: 0x8000_0008, subleaf: 0, mask: [0xff, 0, 0, 0], value: [52, 0, 0, 0] },
];

const LA57: number = 1 << 16;
/** Linear addresses are as wide as CPUID 7.0 ECX says: 57 bits with 5-level paging, else 48. */
function linearWidth(platform: Platform, p: Processor): Verified {
  const bits = platform.cpuid(p, 7, 0).ecx & LA57 ? 57 : 48;
  return { leaf: 0x8000_0008, subleaf: 0, mask: [0xff00, 0, 0, 0], value: [bits << 8, 0, 0, 0] };
}

const CPUID_TSC = 0x15;
const CPUID_TOPOLOGY = 0x1f;
const LEVEL_CORE = 2;
/** Types of levels, from 1 on. */
const LEVELS = 6;
const levelOf = (ecx: number): number => (ecx >>> 8) & 0xff;

/** Leaf 1F has known levels in ascending order, one of them the cores. */
function checkTopology(platform: Platform, p: Processor): bigint | null {
  let previous = 0;
  let cores = false;
  for (let subleaf = 0; subleaf < 6; subleaf++) {
    const level = levelOf(platform.cpuid(p, CPUID_TOPOLOGY, subleaf).ecx);
    if (level === 0) break;
    if (level <= previous || level >= LEVELS) return status(STATUS.CPUID_LEAF_1F_FORMAT_UNRECOGNIZED);
    previous = level;
    cores ||= level === LEVEL_CORE;
  }
  return cores ? null : status(STATUS.CPUID_LEAF_NOT_SUPPORTED);
}

const MAX_BASE = 0;
const MAX_EXTENDED = 0x8000_0000;
/** Leaves that there must be. */
const GREATEST: readonly (readonly [of: number, leaf: number])[] = [
  [MAX_BASE, 0x1f],
  [MAX_EXTENDED, 0x8000_0008],
];

/** A leaf and its subleaf, all ones where ECX selects none, as registers tell it. */
const leafName = (leaf: number, subleaf: number): bigint =>
  fromDwords(leaf, cpuidRow(leaf, subleaf)?.subleaf === null ? ALL : subleaf);

/** Leaves ascend: the clock and the topology come between the base leaves and the extended ones. */
function checkCpuid(platform: Platform, p: Processor, out: Outputs): bigint | null {
  if (cpuidLimited(platform, p)) return status(STATUS.LIMIT_CPUID_MAXVAL_SET);
  for (const [of, leaf] of GREATEST) {
    if (platform.cpuid(p, of, 0).eax < leaf) return status(STATUS.CPUID_LEAF_NOT_SUPPORTED, leaf);
  }
  const isBase = ({ leaf }: Verified): boolean => leaf < MAX_EXTENDED;
  return (
    checkVerified(platform, p, VERIFIED.filter(isBase), out) ??
    (platform.cpuid(p, CPUID_TSC, 0).ebx === 0 ? status(STATUS.CPUID_LEAF_NOT_SUPPORTED, CPUID_TSC) : null) ??
    checkTopology(platform, p) ??
    checkVerified(platform, p, [...VERIFIED.filter((row) => !isBase(row)), linearWidth(platform, p)], out)
  );
}

function checkVerified(platform: Platform, p: Processor, rows: readonly Verified[], out: Outputs): bigint | null {
  for (const { leaf, subleaf, mask, value } of rows) {
    const { eax, ebx, ecx, edx } = platform.cpuid(p, leaf, subleaf);
    if ([eax, ebx, ecx, edx].every((word, i) => (word & mask[i]!) >>> 0 === value[i])) continue;
    out.rcx = leafName(leaf, subleaf);
    out.rdx = fromDwords(mask[0], mask[1]);
    out.r8 = fromDwords(mask[2], mask[3]);
    out.r9 = fromDwords(value[0], value[1]);
    out.r10 = fromDwords(value[2], value[3]);
    return status(STATUS.INCORRECT_CPUID_VALUE);
  }
  return null;
}

/** The processor offers every control that TD VMCSs use. */
function checkVmx(platform: Platform, p: Processor): bigint | null {
  for (const [msr, controls] of TD_VMCS_CONTROLS) {
    const mayBeOne = Number(platform.msr(p, msr) >> 32n);
    if (controls & ~mayBeOne) return status(STATUS.INCORRECT_MSR_VALUE, msr);
  }
  return null;
}

const TME_LOCKED_AND_ENABLED = 3n;

function checkKeys(platform: Platform, p: Processor): bigint | null {
  const active = platform.msr(p, IA32_TME_ACTIVATE);
  if ((active & TME_LOCKED_AND_ENABLED) !== TME_LOCKED_AND_ENABLED) {
    return status(STATUS.INCORRECT_MSR_VALUE, IA32_TME_ACTIVATE);
  }
  return null;
}

/** Ascending, page-aligned, not empty. */
function cmrsValid({ cmrs }: Platform): boolean {
  return cmrs.every(({ base, size }, i) => {
    const before = cmrs[i - 1];
    const end = before === undefined ? 0 : before.base + before.size;
    return base >= end && size > 0 && base % 4096 === 0 && size % 4096 === 0;
  });
}

const MTRRCAP_SMRR = 1n << 11n;
const MTRRCAP_SMRR_LOCK = 1n << 14n;
const SMRR_LOCKED = 1n << 10n;
const SMRR_VALID = 1n << 11n;
const SMRR_RANGE = 0xffff_f000n;

/** SMRR is locked, a legal range, and outside all convertible memory. */
function checkSmrr(platform: Platform, p: Processor): bigint | null {
  const capabilities = platform.msr(p, IA32_MTRRCAP);
  if (!(capabilities & MTRRCAP_SMRR)) return status(STATUS.SMRR_NOT_SUPPORTED);
  if (!(capabilities & MTRRCAP_SMRR_LOCK)) return status(STATUS.SMRR_LOCK_NOT_SUPPORTED);
  const mask = platform.msr(p, SMRR_MASK);
  if (!(mask & SMRR_LOCKED)) return status(STATUS.SMRR_NOT_LOCKED);
  if (!(mask & SMRR_VALID)) return null;
  const size = Number(0x1_0000_0000n - (mask & SMRR_RANGE));
  const base = Number(platform.msr(p, SMRR_BASE) & SMRR_RANGE);
  if ((mask & SMRR_RANGE) === 0n || (size & (size - 1)) !== 0 || base % size !== 0) {
    return status(STATUS.INVALID_SMRR_CONFIGURATION);
  }
  const cmr = platform.cmrs.findIndex((c) => base < c.base + c.size && base + size > c.base);
  return cmr < 0 ? null : status(STATUS.SMRR_OVERLAPS_CMR, cmr << 8);
}

const XAPIC_DISABLED = 1n;

/** All checks of TDH.SYS.INIT on the platform, in order; null if it will do. */
export function checkPlatform(platform: Platform, p: Processor, out: Outputs): bigint | null {
  if (platform.msr(p, IA32_XAPIC_DISABLE_STATUS) !== XAPIC_DISABLED) {
    return status(STATUS.INCORRECT_MSR_VALUE, IA32_XAPIC_DISABLE_STATUS);
  }
  return (
    checkCpuid(platform, p, out) ??
    checkVmx(platform, p) ??
    checkKeys(platform, p) ??
    (cmrsValid(platform) ? null : status(STATUS.CMR_LIST_INVALID)) ??
    checkSmrr(platform, p)
  );
}

/** MSRs that are the same on all logical processors, in the order in which they are compared. */
const SAME_BEFORE_CPUID: readonly number[] = [
  IA32_CORE_CAPABILITIES,
  IA32_ARCH_CAPABILITIES,
  IA32_MISC_PACKAGE_CTLS,
  IA32_XAPIC_DISABLE_STATUS,
];
const SAME_AFTER_CPUID: readonly number[] = [
  IA32_MTRRCAP,
  SMRR_BASE,
  SMRR_MASK,
  // VMX: basic, true pin-based, processor-based and further controls, exit, entry, miscellaneous, EPT, CR0 and CR4.
  ...[0x480, 0x48d, 0x48e, 0x48b, 0x492, 0x48f, 0x490, 0x485, 0x48c, 0x486, 0x487, 0x488, 0x489],
  IA32_PERF_CAPABILITIES,
  IA32_TME_CAPABILITY,
  IA32_TME_ACTIVATE,
  IA32_MKTME_KEYID_PARTITIONING,
];

/** What TDH.SYS.INIT found: MSRs by index, CPUID words in the order of the verified leaves. */
export interface PlatformSample {
  readonly tscAdjust: bigint;
  readonly msrs: ReadonlyMap<number, bigint>;
  readonly cpuid: readonly string[];
}

type Words = readonly [number, number, number, number];

/** Bits of a leaf that are the same everywhere: EBX of leaf 1 has the APIC id, OSXSAVE follows CR4, sizes of leaf D XCR0. */
function sameBits(leaf: number): Words {
  if (leaf === 1) return [ALL, 0, ~bits(27) >>> 0, ALL];
  return leaf === 0xd ? [ALL, 0, ALL, ALL] : [ALL, ALL, ALL, ALL];
}

const FEATURE_LEAVES: readonly { readonly leaf: number; readonly subleaf: number; readonly mask: Words }[] =
  VERIFIED.map(({ leaf, subleaf }) => ({ leaf, subleaf, mask: sameBits(leaf) }));

/** Feature words of a leaf. */
function featureWords(platform: Platform, p: Processor, { leaf, subleaf, mask }: (typeof FEATURE_LEAVES)[0]): string {
  const { eax, ebx, ecx, edx } = platform.cpuid(p, leaf, subleaf);
  return [eax, ebx, ecx, edx].map((word, i) => ((word & mask[i]!) >>> 0).toString(16)).join(' ');
}

export function samplePlatform(platform: Platform, p: Processor): PlatformSample {
  const indices = [...SAME_BEFORE_CPUID, ...SAME_AFTER_CPUID];
  return {
    tscAdjust: sampleTscAdjust(platform, p),
    msrs: new Map(indices.map((index) => [index, platform.msr(p, index)])),
    cpuid: FEATURE_LEAVES.map((leaf) => featureWords(platform, p, leaf)),
  };
}

/** Compares a logical processor with what TDH.SYS.INIT found; null if it is the same. */
export function comparePlatform(platform: Platform, p: Processor, sample: PlatformSample, out: Outputs): bigint | null {
  const differs = (index: number): boolean => platform.msr(p, index) !== sample.msrs.get(index);
  const early = SAME_BEFORE_CPUID.find(differs);
  if (early !== undefined) return status(STATUS.INCONSISTENT_MSR, early);
  if (cpuidLimited(platform, p)) return status(STATUS.LIMIT_CPUID_MAXVAL_SET);
  const wrong = FEATURE_LEAVES.findIndex((leaf, i) => featureWords(platform, p, leaf) !== sample.cpuid[i]);
  if (wrong >= 0) {
    const { leaf, subleaf, mask } = FEATURE_LEAVES[wrong]!;
    out.rcx = leafName(leaf, subleaf);
    out.rdx = fromDwords(mask[0], mask[1]);
    out.r8 = fromDwords(mask[2], mask[3]);
    return status(STATUS.INCONSISTENT_CPUID_FIELD);
  }
  const moved = tscMoved(platform, p, sample.tscAdjust);
  if (moved !== null) return moved;
  const late = SAME_AFTER_CPUID.find(differs);
  return late === undefined ? null : status(STATUS.INCONSISTENT_MSR, late);
}
