/**
 * MSRs of guests: exits, user space's get and set, and those that KVM itself keeps.
 *
 * @upstream arch/x86/kvm/x86.c kvm_get_msr_common(), kvm_set_msr_common(), kvm_emulate_rdmsr()
 */
import { hasFeature } from '../../machine/cpuid/cpuid.ts';
import { trace } from '../../util/trace.ts';
import { kvmUpdateCpuidRuntime } from './cpuid.ts';
import { guestCpuidHas } from './cpuid_caps.ts';
import { setEfer } from './cr.ts';
import { kvmApicBase } from './irqchip_mode.ts';
import { kvmRegisterRead32, kvmRegisterWrite32 } from './kvm_cache_regs.ts';
import {
  KVM_MSR_EXIT_REASON_FILTER,
  KVM_MSR_EXIT_REASON_INVAL,
  VCPU_REGS_RAX,
  VCPU_REGS_RCX,
  VCPU_REGS_RDX,
  type X86Vcpu,
} from './kvm_host.ts';
import {
  MSR_KVM_POLL_CONTROL,
  MSR_KVM_SYSTEM_TIME,
  MSR_KVM_SYSTEM_TIME_NEW,
  MSR_KVM_WALL_CLOCK,
  MSR_KVM_WALL_CLOCK_NEW,
} from './kvm_para.ts';
import {
  kvmApicSetBase,
  kvmGetLapicTscdeadlineMsr,
  kvmSetLapicTscdeadlineMsr,
  kvmX2apicMsrRead,
  kvmX2apicMsrWrite,
} from './lapic.ts';
import { kvmMsrAllowed } from './msr_filter.ts';
import { kvmWriteSystemTime, kvmWriteWallClock } from './pvclock.ts';
import { kvmReadL1Tsc, kvmSynchronizeTsc, kvmVcpuWriteTscOffset } from './tsc.ts';

const MSR_IA32_P5_MC_ADDR = 0;
const MSR_IA32_P5_MC_TYPE = 1;
const MSR_IA32_TSC = 0x10;
const MSR_IA32_PLATFORM_ID = 0x17;
const MSR_IA32_APICBASE = 0x1b;
const MSR_EBL_CR_POWERON = 0x2a;
const MSR_IA32_FEAT_CTL = 0x3a;
const FEAT_CTL_LOCKED = 1n;
const MSR_IA32_TSC_ADJUST = 0x3b;
const MSR_IA32_PRED_CMD = 0x49;
const MSR_IA32_UCODE_WRITE = 0x79;
const MSR_IA32_UCODE_REV = 0x8b;
const MSR_PLATFORM_INFO = 0xce;
const MSR_MTRRCAP = 0xfe;
const MSR_IA32_ARCH_CAPABILITIES = 0x10a;
const MSR_IA32_FLUSH_CMD = 0x10b;
const MSR_MISC_FEATURES_ENABLES = 0x140;
const MSR_IA32_MCG_CAP = 0x179;
const MSR_IA32_MCG_STATUS = 0x17a;
const MSR_IA32_MCG_CTL = 0x17b;
const MSR_IA32_PERF_STATUS = 0x198;
const MSR_IA32_THERM_INTERRUPT = 0x19b;
const MSR_IA32_THERM_STATUS = 0x19c;
const MSR_IA32_MISC_ENABLE = 0x1a0;
const MSR_IA32_POWER_CTL = 0x1fc;
const MSR_IA32_MTRR_FIRST = 0x200;
const MSR_IA32_MTRR_LAST_VARIABLE = 0x20f;
const MSR_IA32_CR_PAT = 0x277;
const MSR_MTRR_DEF_TYPE = 0x2ff;
const MSR_IA32_MC0_CTL = 0x400;
const MCE_BANKS = 32;
const MSR_IA32_TSC_DEADLINE = 0x6e0;
const MSR_X2APIC_FIRST = 0x800;
const MSR_X2APIC_LAST = 0x8ff;
const MSR_IA32_XSS = 0xda0;
const MSR_EFER = 0xc000_0080;
const MSR_K7_HWCR = 0xc001_0015;
const MSR_MTRR_FIXED: ReadonlySet<number> = new Set([
  0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f,
]);
/** Eight variable ranges, fixed ranges, write combining. */
const MTRRCAP_VALUE = 0x508n;
const CPUID_FAULT_SUPPORTED = 1n << 31n;
const MISC_ENABLE_MWAIT = 1n << 18n;

/** MSRs whose accesses user space migrates. @upstream msrs_to_save */
export const MSRS_TO_SAVE: readonly number[] = [
  0x174,
  0x175,
  0x176,
  0xc000_0081,
  0xc000_0083,
  0xc000_0102,
  0xc000_0084,
  0xc000_0082,
  MSR_IA32_TSC,
  MSR_IA32_CR_PAT,
  0xc000_0103,
  0x48,
  MSR_IA32_XSS,
  MSR_IA32_ARCH_CAPABILITIES,
  MSR_IA32_TSC_ADJUST,
  MSR_IA32_TSC_DEADLINE,
  MSR_PLATFORM_INFO,
  MSR_MISC_FEATURES_ENABLES,
  MSR_IA32_MCG_STATUS,
  MSR_IA32_MCG_CTL,
  MSR_IA32_MISC_ENABLE,
  MSR_IA32_POWER_CTL,
  MSR_IA32_UCODE_REV,
  MSR_KVM_SYSTEM_TIME,
  MSR_KVM_WALL_CLOCK,
  MSR_KVM_SYSTEM_TIME_NEW,
  MSR_KVM_WALL_CLOCK_NEW,
  MSR_KVM_POLL_CONTROL,
];

const isMtrr = (index: number): boolean =>
  (index >= MSR_IA32_MTRR_FIRST && index <= MSR_IA32_MTRR_LAST_VARIABLE) ||
  MSR_MTRR_FIXED.has(index) ||
  index === MSR_MTRR_DEF_TYPE;

const mtrrType = (type: number): boolean => type === 0 || type === 1 || type === 4 || type === 5 || type === 6;
const everyByte = (value: bigint, valid: (type: number) => boolean): boolean => {
  for (let i = 0n; i < 8n; i++) if (!valid(Number((value >> (8n * i)) & 0xffn))) return false;
  return true;
};

/** @upstream kvm_mtrr_valid() */
function mtrrValid(vcpu: X86Vcpu, index: number, value: bigint): boolean {
  if (MSR_MTRR_FIXED.has(index)) return everyByte(value, mtrrType);
  if (index === MSR_MTRR_DEF_TYPE) return (value & ~0xcffn) === 0n && mtrrType(Number(value & 0xffn));
  if (value >> BigInt(vcpu.arch.maxphyaddr) !== 0n) return false;
  return index & 1 ? (value & 0x7ffn) === 0n : (value & 0xf00n) === 0n && mtrrType(Number(value & 0xffn));
}

const isMceBank = (index: number): boolean => index >= MSR_IA32_MC0_CTL && index < MSR_IA32_MC0_CTL + 4 * MCE_BANKS;
const bankExists = (vcpu: X86Vcpu, index: number): boolean =>
  (index - MSR_IA32_MC0_CTL) >> 2 < Number(vcpu.arch.mcgCap & 0xffn);

/** The value, or undefined for #GP. @upstream kvm_get_msr_common() */
export function kvmGetMsrCommon(vcpu: X86Vcpu, index: number): bigint | undefined {
  const { arch } = vcpu;
  if (index >= MSR_X2APIC_FIRST && index <= MSR_X2APIC_LAST) {
    return arch.apic === null ? undefined : kvmX2apicMsrRead(vcpu, index);
  }
  if (isMtrr(index)) return arch.mtrrs.get(index) ?? 0n;
  if (isMceBank(index)) return bankExists(vcpu, index) ? arch.mceBanks[index - MSR_IA32_MC0_CTL] : undefined;
  switch (index) {
    case MSR_IA32_TSC:
      return kvmReadL1Tsc(vcpu);
    case MSR_IA32_TSC_ADJUST:
      return BigInt.asUintN(64, arch.tscAdjust);
    case MSR_IA32_APICBASE:
      return kvmApicBase(vcpu);
    case MSR_IA32_TSC_DEADLINE:
      return arch.apic === null ? 0n : kvmGetLapicTscdeadlineMsr(vcpu);
    case MSR_IA32_FEAT_CTL:
      return arch.msrFeatureControl;
    case MSR_IA32_UCODE_REV:
      return arch.ucodeRev;
    case MSR_PLATFORM_INFO:
      return CPUID_FAULT_SUPPORTED;
    case MSR_MTRRCAP:
      return MTRRCAP_VALUE;
    case MSR_IA32_ARCH_CAPABILITIES:
      return guestCpuidHas(vcpu, 'arch_capabilities') ? arch.archCapabilities : undefined;
    case MSR_MISC_FEATURES_ENABLES:
      return arch.miscFeaturesEnables;
    case MSR_IA32_MCG_CAP:
      return arch.mcgCap;
    case MSR_IA32_MCG_STATUS:
      return arch.mcgStatus;
    case MSR_IA32_MCG_CTL:
      return arch.mcgCap & 0x100n ? arch.mcgCtl : undefined;
    case MSR_IA32_MISC_ENABLE:
      return arch.miscEnable;
    case MSR_IA32_POWER_CTL:
      return arch.powerCtl;
    case MSR_IA32_CR_PAT:
      return arch.pat;
    case MSR_IA32_XSS:
      return arch.iaXss;
    case MSR_EFER:
      return BigInt(arch.efer);
    case MSR_KVM_WALL_CLOCK:
    case MSR_KVM_WALL_CLOCK_NEW:
      return vcpu.kvm.arch.wallClock;
    case MSR_KVM_SYSTEM_TIME:
    case MSR_KVM_SYSTEM_TIME_NEW:
      return arch.pv.systemTime;
    case MSR_KVM_POLL_CONTROL:
      return arch.pv.pollControl;
    case MSR_IA32_PERF_STATUS:
      // A ratio that does not make a guest divide by zero.
      return 1000n | (4n << 40n);
    case MSR_EBL_CR_POWERON:
    case MSR_IA32_PLATFORM_ID:
    case MSR_IA32_P5_MC_ADDR:
    case MSR_IA32_P5_MC_TYPE:
    case MSR_IA32_THERM_INTERRUPT:
    case MSR_IA32_THERM_STATUS:
    case MSR_K7_HWCR:
      return 0n;
    default:
      return undefined;
  }
}

/** False for #GP. @upstream kvm_set_msr_common() */
export function kvmSetMsrCommon(vcpu: X86Vcpu, index: number, value: bigint, hostInitiated: boolean): boolean {
  const { arch } = vcpu;
  if (index >= MSR_X2APIC_FIRST && index <= MSR_X2APIC_LAST)
    return arch.apic !== null && kvmX2apicMsrWrite(vcpu, index, value);
  if (isMtrr(index)) {
    if (!mtrrValid(vcpu, index, value)) return false;
    arch.mtrrs.set(index, value);
    return true;
  }
  if (isMceBank(index)) {
    if (!bankExists(vcpu, index)) return false;
    // Control registers take all zeros or all ones, status registers only zero from the guest.
    const offset = index & 3;
    if (offset === 0 && value !== 0n && value !== 0xffff_ffff_ffff_ffffn) return false;
    if (offset === 1 && !hostInitiated && value !== 0n) return false;
    arch.mceBanks[index - MSR_IA32_MC0_CTL] = value;
    return true;
  }
  switch (index) {
    case MSR_IA32_TSC:
      if (hostInitiated) {
        kvmSynchronizeTsc(vcpu, value);
      } else {
        const difference = value - kvmReadL1Tsc(vcpu);
        kvmVcpuWriteTscOffset(vcpu, arch.tscOffset + difference);
        arch.tscAdjust += difference;
      }
      return true;
    case MSR_IA32_TSC_ADJUST:
      if (!hostInitiated)
        kvmVcpuWriteTscOffset(vcpu, arch.tscOffset + (BigInt.asIntN(64, value) - BigInt.asIntN(64, arch.tscAdjust)));
      arch.tscAdjust = value;
      return true;
    case MSR_IA32_APICBASE:
      return kvmApicSetBase(vcpu, value, hostInitiated) === 0;
    case MSR_IA32_TSC_DEADLINE:
      if (arch.apic !== null) kvmSetLapicTscdeadlineMsr(vcpu, value);
      return true;
    case MSR_IA32_FEAT_CTL:
      // A guest may lock it, once: nothing else in it is offered. @upstream is_vmx_feature_control_msr_valid()
      if (!hostInitiated && (arch.msrFeatureControl & FEAT_CTL_LOCKED || value & ~FEAT_CTL_LOCKED)) return false;
      arch.msrFeatureControl = value;
      return true;
    case MSR_IA32_UCODE_REV:
      if (hostInitiated) arch.ucodeRev = value;
      return true;
    case MSR_IA32_UCODE_WRITE:
      return true;
    case MSR_PLATFORM_INFO:
      return hostInitiated;
    case MSR_IA32_ARCH_CAPABILITIES:
      if (!hostInitiated) return false;
      arch.archCapabilities = value;
      return true;
    case MSR_IA32_PRED_CMD:
    case MSR_IA32_FLUSH_CMD:
      return (value & ~1n) === 0n;
    case MSR_MISC_FEATURES_ENABLES:
      if (value & ~1n) return false;
      arch.miscFeaturesEnables = value;
      return true;
    case MSR_IA32_MCG_STATUS:
      arch.mcgStatus = value;
      return true;
    case MSR_IA32_MCG_CTL:
      if (!(arch.mcgCap & 0x100n) || (value !== 0n && value !== 0xffff_ffff_ffff_ffffn)) return false;
      arch.mcgCtl = value;
      return true;
    case MSR_IA32_MISC_ENABLE: {
      const old = arch.miscEnable;
      arch.miscEnable = value;
      if ((old ^ value) & MISC_ENABLE_MWAIT) kvmUpdateCpuidRuntime(vcpu);
      return true;
    }
    case MSR_IA32_POWER_CTL:
      arch.powerCtl = value;
      return true;
    case MSR_IA32_CR_PAT:
      if (!everyByte(value, (type) => mtrrType(type) || type === 7)) return false;
      arch.pat = value;
      return true;
    case MSR_IA32_XSS:
      if (!hostInitiated && !guestCpuidHas(vcpu, 'xsaves')) return false;
      if (value & ~arch.guestSupportedXss) return false;
      arch.iaXss = value;
      kvmUpdateCpuidRuntime(vcpu);
      return true;
    case MSR_EFER:
      return setEfer(vcpu, value, hostInitiated) === 0;
    case MSR_KVM_WALL_CLOCK:
    case MSR_KVM_WALL_CLOCK_NEW:
      kvmWriteWallClock(vcpu, value);
      return true;
    case MSR_KVM_SYSTEM_TIME:
    case MSR_KVM_SYSTEM_TIME_NEW:
      kvmWriteSystemTime(vcpu, value);
      return true;
    case MSR_KVM_POLL_CONTROL:
      if (value & ~1n) return false;
      arch.pv.pollControl = value;
      return true;
    case MSR_EBL_CR_POWERON:
    case MSR_IA32_THERM_INTERRUPT:
    case MSR_IA32_THERM_STATUS:
    case MSR_K7_HWCR:
      return value === 0n || index === MSR_IA32_THERM_INTERRUPT;
    default:
      return false;
  }
}

const CANONICAL_MSRS: ReadonlySet<number> = new Set([
  0xc000_0100, 0xc000_0101, 0xc000_0102, 0xc000_0082, 0xc000_0083, 0x175, 0x176,
]);
/** By what the processor can have, whatever the guest's CR4.LA57 says. @upstream arch/x86/kvm/x86.h is_noncanonical_msr_address() */
const isNoncanonicalMsrAddress = (vcpu: X86Vcpu, value: bigint): boolean => {
  const bits = hasFeature(vcpu.kvm.host.cpu.processor, 'la57') ? 57 : 48;
  return BigInt.asIntN(bits, value) !== BigInt.asIntN(64, value);
};

/** @upstream __kvm_set_msr() */
export function kvmSetMsr(vcpu: X86Vcpu, index: number, value: bigint, hostInitiated: boolean): boolean {
  if (CANONICAL_MSRS.has(index) && isNoncanonicalMsrAddress(vcpu, value)) return false;
  return vcpu.kvm.ops.setMsr(vcpu, index, value, hostInitiated);
}
/** @upstream __kvm_get_msr() */
export const kvmGetMsr = (vcpu: X86Vcpu, index: number): bigint | undefined => vcpu.kvm.ops.getMsr(vcpu, index);

function completeRdmsr(vcpu: X86Vcpu, value: bigint): void {
  kvmRegisterWrite32(vcpu, VCPU_REGS_RAX, Number(value & 0xffff_ffffn));
  kvmRegisterWrite32(vcpu, VCPU_REGS_RDX, Number(value >> 32n));
}

/** Exit reason RDMSR. @upstream kvm_emulate_rdmsr() */
export function kvmEmulateRdmsr(vcpu: X86Vcpu): number {
  const index = kvmRegisterRead32(vcpu, VCPU_REGS_RCX);
  const allowed = kvmMsrAllowed(vcpu, index, false);
  const value = allowed ? kvmGetMsr(vcpu, index) : undefined;
  if (value !== undefined) {
    trace.kvm_msr?.(false, index, value, false);
    completeRdmsr(vcpu, value);
    return vcpu.kvm.ops.completeEmulatedMsr(vcpu, false);
  }
  const reason = allowed ? KVM_MSR_EXIT_REASON_INVAL : KVM_MSR_EXIT_REASON_FILTER;
  if (vcpu.kvm.arch.userSpaceMsrMask & reason) return exitRdmsr(vcpu, index, reason);
  trace.kvm_msr?.(false, index, 0n, true);
  return vcpu.kvm.ops.completeEmulatedMsr(vcpu, true);
}

function exitRdmsr(vcpu: X86Vcpu, index: number, reason: number): number {
  const exit = vcpu.run.rdmsr;
  exit.error = 0;
  exit.reason = reason;
  exit.index = index;
  exit.data = 0n;
  vcpu.run.setExit(exit);
  vcpu.arch.completeUserspaceIo = () => {
    if (exit.error !== 0) return vcpu.kvm.ops.completeEmulatedMsr(vcpu, true);
    completeRdmsr(vcpu, exit.data);
    return vcpu.kvm.ops.completeEmulatedMsr(vcpu, false);
  };
  return 0;
}

/** Exit reason WRMSR. @upstream kvm_emulate_wrmsr() */
export function kvmEmulateWrmsr(vcpu: X86Vcpu): number {
  const index = kvmRegisterRead32(vcpu, VCPU_REGS_RCX);
  const value =
    BigInt(kvmRegisterRead32(vcpu, VCPU_REGS_RAX)) | (BigInt(kvmRegisterRead32(vcpu, VCPU_REGS_RDX)) << 32n);
  const allowed = kvmMsrAllowed(vcpu, index, true);
  const done = allowed && kvmSetMsr(vcpu, index, value, false);
  trace.kvm_msr?.(true, index, value, !done);
  if (done) return vcpu.kvm.ops.completeEmulatedMsr(vcpu, false);
  const reason = allowed ? KVM_MSR_EXIT_REASON_INVAL : KVM_MSR_EXIT_REASON_FILTER;
  if (vcpu.kvm.arch.userSpaceMsrMask & reason) {
    const exit = vcpu.run.wrmsr;
    exit.error = 0;
    exit.reason = reason;
    exit.index = index;
    exit.data = value;
    vcpu.run.setExit(exit);
    vcpu.arch.completeUserspaceIo = () => vcpu.kvm.ops.completeEmulatedMsr(vcpu, exit.error !== 0);
    return 0;
  }
  return vcpu.kvm.ops.completeEmulatedMsr(vcpu, true);
}
