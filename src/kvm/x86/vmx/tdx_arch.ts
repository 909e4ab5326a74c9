/**
 * The TDX module's interface as KVM uses it: metadata fields, TD_PARAMS, states of secure-EPT entries, and what a
 * TDG.VP.VMCALL looks like.
 *
 * @upstream arch/x86/kvm/vmx/tdx_arch.h, arch/x86/include/asm/shared/tdx.h
 * @tdx "ABI Reference: Metadata", "ABI Reference: Data Types"
 */

// ---- metadata fields

const NON_ARCH: bigint = 1n << 63n;
const field = (fieldClass: number, code: number): bigint => (BigInt(fieldClass) << 56n) | BigInt(code);

const CLASS_TDVPS_VMCS = 0;
const CLASS_TDVPS_OTHER_GUEST = 17;
const CLASS_TDVPS_MANAGEMENT = 32;
const CLASS_TD_EXEC_CONTROLS = 17;

/** A field of the TD's VMCS by its encoding. */
export const tdvpsVmcs = (encoding: number): bigint => field(CLASS_TDVPS_VMCS, encoding);
/** One NMI waits. */
export const TD_VCPU_PEND_NMI: bigint = field(CLASS_TDVPS_MANAGEMENT, 11);
/** Bit 0: a virtual interrupt would be delivered now. */
export const TD_VCPU_STATE_DETAILS: bigint = NON_ARCH | field(CLASS_TDVPS_OTHER_GUEST, 0x100);
export const TD_TDCS_EXEC_TSC_OFFSET: bigint = field(CLASS_TD_EXEC_CONTROLS, 10);
export const TD_TDCS_EXEC_TSC_MULTIPLIER: bigint = field(CLASS_TD_EXEC_CONTROLS, 11);

/** VMCS encodings that KVM writes. */
export const POSTED_INTR_NV = 0x0002;
export const POSTED_INTR_DESC_ADDR = 0x2016;
export const SHARED_EPT_POINTER = 0x203c;

const CPUID_VALUES = 0x9410_0003_0000_0000n;
const CPUID_HIGH: bigint = 1n << 16n;
const CPUID_NO_SUBLEAF: bigint = 1n << 8n;

/** The virtual CPUID value: element 0 is EAX and EBX, element 1 ECX and EDX. @upstream TD_MD_FIELD_ID_CPUID_VALUES */
export function cpuidValuesField(leaf: number, subleaf: number | null, element: 0 | 1): bigint {
  const high = leaf & 0x8000_0000 ? CPUID_HIGH : 0n;
  const sub = subleaf === null ? CPUID_NO_SUBLEAF : BigInt(subleaf) << 1n;
  return CPUID_VALUES | high | (BigInt(leaf & 0x7f) << 9n) | sub | BigInt(element);
}

// ---- TD_PARAMS

/** Offsets of its members. */
export const TD_PARAMS = {
  attributes: 0,
  xfam: 8,
  maxVcpus: 16,
  eptpControls: 24,
  configFlags: 32,
  tscFrequency: 40,
  mrconfigid: 80,
  mrowner: 128,
  mrownerconfig: 176,
  cpuidValues: 256,
} as const;
/** GPAs have 52 bits, not 48. */
export const TDX_CONFIG_FLAGS_MAX_GPAW = 1n;
/** RBP survives TD exits. */
export const TDX_CONFIG_FLAGS_NO_RBP_MOD = 4n;
/** Unit of TSC_FREQUENCY: 25 MHz. */
export const TDX_TSC_KHZ_UNIT = 25_000;

/** MR.EXTEND measures this much. */
export const TDX_EXTENDMR_CHUNKSIZE = 256;

// ---- exits

/** Bits 3:0 of the extended exit qualification: the guest touched a page that it has not accepted. */
export const TDX_EXT_EXIT_QUAL_TYPE_MASK = 0xfn;
export const TDX_EXT_EXIT_QUAL_TYPE_PENDING_EPT_VIOLATION = 6n;

/** An SMI other than by I/O; VMs never exit for it. */
export const EXIT_REASON_OTHER_SMI = 6;

export const TDVMCALL_MAP_GPA = 0x10001;
export const TDVMCALL_REPORT_FATAL_ERROR = 0x10003;

/** Results in R10. @ghci "TDG.VP.VMCALL", completion status */
export const TDVMCALL_STATUS_SUCCESS = 0n;
export const TDVMCALL_STATUS_RETRY = 1n;
export const TDVMCALL_STATUS_INVALID_OPERAND = 0x8000_0000_0000_0000n;
export const TDVMCALL_STATUS_ALIGN_ERROR = 0x8000_0000_0000_0002n;
export const TDVMCALL_STATUS_SUBFUNC_UNSUPPORTED = 0x8000_0000_0000_0003n;
