/** Platform, feature-control and speculation-control MSRs. */
import { profileOf } from '../cpuid/cpuid.ts';
import type { Processor } from '../processor.ts';
import { anyValue, command, constant, live, type MsrRow, onlyBits, stored } from './row.ts';

export const IA32_FEATURE_CONTROL = 0x3a;
export const IA32_ARCH_CAPABILITIES = 0x10a;
export const IA32_MISC_ENABLE = 0x1a0;
export const IA32_DEBUGCTL = 0x1d9;
const MISC_FEATURES_ENABLES = 0x140;

/** Bits of IA32_FEATURE_CONTROL. */
export const FEATURE_CONTROL_LOCKED = 1n;
export const FEATURE_CONTROL_VMX_OUTSIDE_SMX = 4n;

/**
 * This processor executes in order and predicts nothing that a program could observe, so it has none of the speculation
 * flaws: each bit says "not affected", or that the control exists (IBRS_ALL).
 */
const NOT_AFFECTED = [
  0, // RDCL_NO
  1, // IBRS_ALL
  3, // SKIP_L1DFL_VMENTRY
  4, // SSB_NO
  5, // MDS_NO
  6, // IF_PSCHANGE_MC_NO
  8, // TAA_NO
  13, // SBDR_SSDP_NO
  14, // FBSDP_NO
  15, // PSDP_NO
  20, // BHI_NO
  24, // PBRSB_NO
  26, // GDS_NO
  27, // RFDS_NO
  62, // ITS_NO
].reduce((value, bit) => value | (1n << BigInt(bit)), 0n);

/** IA32_ARCH_CAPABILITIES bit 21: IA32_XAPIC_DISABLE_STATUS exists; its bit 0: xAPIC mode cannot be entered. */
const XAPIC_DISABLE_STATUS = 1n << 21n;
const XAPIC_DISABLED = 1n;

const archCapabilities = (p: Processor): bigint =>
  NOT_AFFECTED | (profileOf(p).x2apicLocked ? XAPIC_DISABLE_STATUS : 0n);

/** Fast strings on, branch trace store and PEBS unavailable, MONITOR offered. */
const MISC_ENABLE_INITIAL = 1n | (1n << 11n) | (1n << 12n) | (1n << 18n);
const MISC_ENABLE_WRITABLE = 1n | (1n << 3n) | (1n << 16n) | (1n << 18n) | (1n << 22n) | (1n << 23n);
const MISC_ENABLE_READ_ONLY = (1n << 11n) | (1n << 12n);

function writeMiscEnable(p: Processor, value: bigint): boolean {
  if (value & ~(MISC_ENABLE_WRITABLE | MISC_ENABLE_READ_ONLY)) return false;
  p.msrs.set(IA32_MISC_ENABLE, (value & MISC_ENABLE_WRITABLE) | MISC_ENABLE_READ_ONLY);
  return true;
}

/** Locked by firmware: after that only reset can change it. @sdm "Feature Control" */
function writeFeatureControl(p: Processor, value: bigint): boolean {
  const now = p.msrs.get(IA32_FEATURE_CONTROL) ?? 0n;
  if (now & FEATURE_CONTROL_LOCKED) return false;
  if (value & ~(FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMX_OUTSIDE_SMX)) return false;
  p.msrs.set(IA32_FEATURE_CONTROL, value);
  return true;
}

/** Maximum ratio to the 100 MHz bus in 15:8 and 47:40; CPUID faulting exists (31). */
function platformInfo(p: Processor): bigint {
  const { crystalHz, tscRatio } = profileOf(p);
  const ratio = BigInt((crystalHz * tscRatio) / 1e8);
  return (ratio << 8n) | (1n << 31n) | (ratio << 40n);
}

function performanceStatus(p: Processor): bigint {
  const { crystalHz, tscRatio } = profileOf(p);
  return BigInt((crystalHz * tscRatio) / 1e8) << 8n;
}

/** Whether CPUID is a privileged instruction at present. @sdm "CPUID Faulting" */
export const cpuidFaults = (p: Processor): boolean => ((p.msrs.get(MISC_FEATURES_ENABLES) ?? 0n) & 1n) !== 0n;

/** LBR and BTF. */
const DEBUGCTL_WRITABLE = 3n;
/** IBRS, STIBP, SSBD, BHI_DIS_S. Kernels that may set the last one need no loop against branch history in each system call. */
const SPEC_CTRL_WRITABLE = 0x407n;

export const PLATFORM_MSRS: readonly MsrRow[] = [
  constant(0x17, 'IA32_PLATFORM_ID', 0n),
  stored(0x2a, 'MSR_EBL_CR_POWERON', anyValue),
  constant(0x34, 'MSR_SMI_COUNT', 0n),
  {
    ...stored(
      IA32_FEATURE_CONTROL,
      'IA32_FEATURE_CONTROL',
      anyValue,
      FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMX_OUTSIDE_SMX,
      'vmx',
    ),
    write: writeFeatureControl,
  },
  stored(0x48, 'IA32_SPEC_CTRL', onlyBits(SPEC_CTRL_WRITABLE), 0n, 'spec_ctrl'),
  command(0x49, 'IA32_PRED_CMD', onlyBits(1n), 'spec_ctrl'),
  command(0x79, 'IA32_BIOS_UPDT_TRIG', anyValue),
  live(
    0x8b,
    'IA32_BIOS_SIGN_ID',
    (p) => BigInt(profileOf(p).microcodeRevision) << 32n,
    () => true,
  ),
  // Only SMM could write it: no SMM-transfer monitor.
  constant(0x9b, 'IA32_SMM_MONITOR_CTL', 0n, 'vmx'),
  constant(0xcd, 'MSR_FSB_FREQ', 3n),
  constant(0xce, 'MSR_PLATFORM_INFO', platformInfo),
  stored(0xe2, 'MSR_PKG_CST_CONFIG_CONTROL', anyValue),
  {
    ...constant(0xbd, 'IA32_XAPIC_DISABLE_STATUS', XAPIC_DISABLED),
    read: (p) => (profileOf(p).x2apicLocked ? XAPIC_DISABLED : undefined),
  },
  constant(IA32_ARCH_CAPABILITIES, 'IA32_ARCH_CAPABILITIES', archCapabilities, 'arch_capabilities'),
  stored(MISC_FEATURES_ENABLES, 'MSR_MISC_FEATURES_ENABLES', onlyBits(1n)),
  constant(0x198, 'IA32_PERF_STATUS', performanceStatus),
  stored(0x199, 'IA32_PERF_CTL', anyValue),
  stored(0x19a, 'IA32_CLOCK_MODULATION', onlyBits(0x1fn)),
  stored(0x19b, 'IA32_THERM_INTERRUPT', onlyBits(0x1ffffffn)),
  stored(0x19c, 'IA32_THERM_STATUS', anyValue),
  { ...stored(IA32_MISC_ENABLE, 'IA32_MISC_ENABLE', anyValue, MISC_ENABLE_INITIAL), write: writeMiscEnable },
  constant(0x1a2, 'MSR_TEMPERATURE_TARGET', 100n << 16n),
  stored(0x1a4, 'MSR_PREFETCH_CONTROL', onlyBits(0x3fn)),
  constant(0x1ad, 'MSR_TURBO_RATIO_LIMIT', 0x0a0a_0a0a_0a0a_0a0an),
  stored(IA32_DEBUGCTL, 'IA32_DEBUGCTL', onlyBits(DEBUGCTL_WRITABLE)),
  stored(0x1fc, 'MSR_POWER_CTL', anyValue),
];
