/**
 * KVM_TDX_INIT_VM: what user space wants of the TD, checked, as the TD_PARAMS of the module; and KVM_TDX_CAPABILITIES, which
 * says what it may want.
 *
 * @upstream arch/x86/kvm/vmx/tdx.c tdx_td_init(), setup_tdparams(), tdx_get_capabilities()
 * @tdx "ABI Reference: Data Types", TD_PARAMS
 */
import { E2BIG, EBUSY, EINVAL, EIO, ENOMEM, type Errno } from '../../../host/errno.ts';
import { PAGE_OWNER } from '../../../host/pages.ts';
import { TDX_CPUID_NO_SUBLEAF, type TdxCpuidConfig, type TdxSysInfo } from '../../../host/tdx-metadata.ts';
import { readMsr } from '../../../machine/msr/msr.ts';
import { SUPPORTED_XCR0 } from '../../../machine/system/xstate-layout.ts';
import type { Hpa } from '../../../util/address.ts';
import { fromDwords } from '../../../util/dwords.ts';
import { KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_MAX_CPUID_ENTRIES, type KvmCpuidEntry2 } from '../cpuid.ts';
import type { X86Vm } from '../kvm_host.ts';
import { type KvmTdxCapabilities, type KvmTdxInitVm, TDX_TD_ATTR_SEPT_VE_DISABLE } from '../uapi_tdx.ts';
import { TD_PARAMS, TDX_CONFIG_FLAGS_MAX_GPAW, TDX_CONFIG_FLAGS_NO_RBP_MOD, TDX_TSC_KHZ_UNIT } from './tdx_arch.ts';
import { type KvmTdx, TD_STATE_INITIALIZED, TD_STATE_UNINITIALIZED } from './tdx_types.ts';
import { type TdInitResult, tdxTdInit } from './tdx_vm.ts';

/** ATTRIBUTES that KVM knows how to handle. @upstream KVM_SUPPORTED_TD_ATTRS */
const KVM_SUPPORTED_TD_ATTRS: bigint = TDX_TD_ATTR_SEPT_VE_DISABLE;
/** Call that user space may offer the guest: SetupEventNotifyInterrupt. */
const USER_TDVMCALLINFO_R11 = 2n;

const ADDRESS_SIZES_LEAF = 0x8000_0008;
/** EAX of that leaf: width of guest-physical addresses. */
const GUEST_PA_SHIFT = 16;
const GUEST_PA_MASK = 0xff0000;
const GPAW_48 = 48;
const GPAW_52 = 52;
/** Of a guest frame number: the top bit of its address. */
const sharedBitOf = (gpaw: number): number => 2 ** (gpaw - 1 - 12);

const FEATURES_LEAF = 7;
const HLE_RTM: number = (1 << 4) | (1 << 11);
const WAITPKG: number = 1 << 5;

const MSR_IA32_VMX_EPT_VPID_CAP = 0x48c;
const EPT_CAP_5_LEVELS: bigint = 1n << 7n;
const EPTP_MT_WB = 6;
const EPTP_PWL_SHIFT = 3;

/** Bits of fixed0 may be 1, those of fixed1 must be; none if KVM does not know one that must. */
const allowed = (known: bigint, fixed0: bigint, fixed1: bigint): bigint =>
  (known & fixed1) === fixed1 ? known & fixed0 : 0n;
/** @upstream tdx_get_supported_attrs() */
export const tdxGetSupportedAttrs = (info: TdxSysInfo): bigint =>
  allowed(KVM_SUPPORTED_TD_ATTRS, info.attributesFixed0, info.attributesFixed1);
/** @upstream tdx_get_supported_xfam() */
export const tdxGetSupportedXfam = (info: TdxSysInfo): bigint =>
  allowed(SUPPORTED_XCR0, info.xfamFixed0, info.xfamFixed1);

const withGuestPa = (eax: number, bits: number): number => ((eax & ~GUEST_PA_MASK) | (bits << GUEST_PA_SHIFT)) >>> 0;

/** Features whose instructions a TD may not have, for the host's sake. @upstream tdx_unsupported_cpuid() */
const tdxUnsupportedCpuid = (entry: KvmCpuidEntry2): boolean =>
  entry.function === FEATURES_LEAF && entry.index === 0 && ((entry.ebx & HLE_RTM) | (entry.ecx & WAITPKG)) !== 0;

/** A configurable leaf as an entry whose set bits may be chosen. @upstream td_init_cpuid_entry2() */
function configurableEntry(config: TdxCpuidConfig): KvmCpuidEntry2 {
  const indexed = config.subleaf !== TDX_CPUID_NO_SUBLEAF;
  const entry: KvmCpuidEntry2 = {
    function: config.leaf,
    index: indexed ? config.subleaf : 0,
    flags: indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
    eax: config.eax,
    ebx: config.ebx,
    ecx: config.ecx,
    edx: config.edx,
  };
  // The width of guest-physical addresses is not the module's to configure, but TD_PARAMS follow from it.
  if (entry.function === ADDRESS_SIZES_LEAF) entry.eax = withGuestPa(entry.eax, 0xff);
  if (entry.function === FEATURES_LEAF && entry.index === 0) {
    entry.ebx = (entry.ebx & ~HLE_RTM) >>> 0;
    entry.ecx = (entry.ecx & ~WAITPKG) >>> 0;
  }
  return entry;
}

/** KVM_TDX_CAPABILITIES. @upstream tdx_get_capabilities() */
export function tdxGetCapabilities(kvm: X86Vm, flags: number, data: KvmTdxCapabilities): Errno {
  const info = kvm.host.tdx.sysInfo;
  if (flags !== 0) return -EINVAL;
  if (info === null) return -EIO;
  if (data.cpuid.nent < info.cpuidConfig.length) return -E2BIG;
  data.supportedAttrs = tdxGetSupportedAttrs(info);
  data.supportedXfam = tdxGetSupportedXfam(info);
  if (data.supportedAttrs === 0n || data.supportedXfam === 0n) return -EIO;
  data.kernelTdvmcallinfo1R11 = 0n;
  data.userTdvmcallinfo1R11 = USER_TDVMCALLINFO_R11;
  data.kernelTdvmcallinfo1R12 = 0n;
  data.userTdvmcallinfo1R12 = 0n;
  data.cpuid.entries = info.cpuidConfig.map(configurableEntry);
  data.cpuid.nent = data.cpuid.entries.length;
  return 0;
}

/** TD_PARAMS in words of 64 bits by offset, and what KVM keeps of them. */
interface TdParams {
  readonly words: Map<number, bigint>;
  readonly attributes: bigint;
  readonly xfam: bigint;
  readonly gpaw: number;
}

/** @upstream setup_tdparams() */
function setupTdparams(kvm: X86Vm, info: TdxSysInfo, init: KvmTdxInitVm): TdParams | Errno {
  const { arch } = kvm;
  if (kvm.vcpus.length > 0) return -EBUSY;
  if (init.attributes & ~tdxGetSupportedAttrs(info)) return -EINVAL;
  if (init.xfam & ~tdxGetSupportedXfam(info)) return -EINVAL;
  const sizes = init.cpuid.find((entry) => entry.function === ADDRESS_SIZES_LEAF);
  if (sizes === undefined) return -EINVAL;
  const gpaw = (sizes.eax & GUEST_PA_MASK) >>> GUEST_PA_SHIFT;
  if (gpaw !== GPAW_48 && gpaw !== GPAW_52) return -EINVAL;
  if (gpaw === GPAW_52 && !hasEpt5Levels(kvm)) return -EINVAL;
  const cpuid = setupCpuids(info, init.cpuid);
  if (typeof cpuid === 'number') return cpuid;
  // all checks passed
  const words: Map<number, bigint> = new Map();
  const attributes = init.attributes | info.attributesFixed1;
  const xfam = init.xfam | info.xfamFixed1;
  const levels = gpaw === GPAW_52 ? 5 : 4;
  words.set(TD_PARAMS.attributes, attributes);
  words.set(TD_PARAMS.xfam, xfam);
  words.set(TD_PARAMS.maxVcpus, BigInt(kvm.maxVcpus));
  words.set(TD_PARAMS.eptpControls, BigInt(EPTP_MT_WB | ((levels - 1) << EPTP_PWL_SHIFT)));
  const wide = gpaw === GPAW_52 ? TDX_CONFIG_FLAGS_MAX_GPAW : 0n;
  words.set(TD_PARAMS.configFlags, TDX_CONFIG_FLAGS_NO_RBP_MOD | wide);
  words.set(TD_PARAMS.tscFrequency, BigInt(Math.floor(arch.defaultTscKhz / TDX_TSC_KHZ_UNIT)));
  for (const name of ['mrconfigid', 'mrowner', 'mrownerconfig'] as const)
    for (let i = 0; i < 6; i++) words.set(TD_PARAMS[name] + 8 * i, init[name]?.[i] ?? 0n);
  cpuid.forEach((word, i) => {
    words.set(TD_PARAMS.cpuidValues + 8 * i, word);
  });
  return { words, attributes, xfam, gpaw };
}

const hasEpt5Levels = (kvm: X86Vm): boolean =>
  ((readMsr(kvm.host.cpu.processor, MSR_IA32_VMX_EPT_VPID_CAP) ?? 0n) & EPT_CAP_5_LEVELS) !== 0n;

/** The values of the configurable leaves in the module's order; −EINVAL for an entry that is none. @upstream setup_tdparams_cpuids() */
function setupCpuids(info: TdxSysInfo, entries: readonly KvmCpuidEntry2[]): bigint[] | Errno {
  const words: bigint[] = [];
  let copied = 0;
  for (const { leaf, subleaf } of info.cpuidConfig) {
    const index = subleaf === TDX_CPUID_NO_SUBLEAF ? 0 : subleaf;
    const entry = entries.find((one) => one.function === leaf && one.index === index);
    if (entry === undefined) {
      words.push(0n, 0n);
      continue;
    }
    copied++;
    if (tdxUnsupportedCpuid(entry)) return -EINVAL;
    const eax = leaf === ADDRESS_SIZES_LEAF ? withGuestPa(entry.eax, 0) : entry.eax;
    words.push(fromDwords(eax, entry.ebx), fromDwords(entry.ecx, entry.edx));
  }
  // What the module would not look at must not be lost without a word.
  return copied === entries.length ? words : -EINVAL;
}

/** KVM_TDX_INIT_VM. @upstream tdx_td_init() */
export function tdxTdInitIoctl(td: KvmTdx, flags: number, init: KvmTdxInitVm): TdInitResult {
  const { kvm } = td;
  const refuse = (result: Errno): TdInitResult => ({ result, hwError: 0n });
  const info = kvm.host.tdx.sysInfo;
  if (td.state !== TD_STATE_UNINITIALIZED || flags !== 0) return refuse(-EINVAL);
  if (info === null) return refuse(-EIO);
  if (init.cpuid.length > KVM_MAX_CPUID_ENTRIES) return refuse(-E2BIG);
  if (init.reserved?.some((word) => word !== 0n)) return refuse(-EINVAL);
  const params = setupTdparams(kvm, info, init);
  if (typeof params === 'number') return refuse(params);
  const page = kvm.host.pages.alloc(PAGE_OWNER.kernel);
  if (page === undefined) return refuse(-ENOMEM);
  writeParams(kvm, page, params);
  const result = tdxTdInit(td, page);
  kvm.host.pages.free(page);
  if (result.result !== 0) return result;
  td.attributes = params.attributes;
  td.xfam = params.xfam;
  kvm.arch.gfnDirectBits = sharedBitOf(params.gpaw);
  if (params.gpaw === GPAW_52) setRootLevels(kvm, 5);
  td.state = TD_STATE_INITIALIZED;
  return result;
}

function writeParams(kvm: X86Vm, page: Hpa, { words }: TdParams): void {
  for (const [offset, word] of words) kvm.host.machine.memory.write64(page + offset, word);
}

function setRootLevels(kvm: X86Vm, levels: number): void {
  kvm.arch.tdpMmu.rootLevel = levels;
  if (kvm.arch.mirrorMmu !== null) kvm.arch.mirrorMmu.rootLevel = levels;
}
