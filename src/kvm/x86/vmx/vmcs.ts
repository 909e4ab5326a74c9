/**
 * VMCS fields, controls and exit reasons under upstream's names, and the VMCS that a vCPU has loaded.
 *
 * @upstream arch/x86/include/asm/vmx.h, arch/x86/include/uapi/asm/vmx.h, arch/x86/kvm/vmx/vmcs.h
 */
import type { Cpu } from '../../../host/cpus.ts';
import type { Vtx } from '../../../machine/vtx/vtx.ts';
import type { Hpa } from '../../../util/address.ts';

// ---- fields
export const VIRTUAL_PROCESSOR_ID = 0x0000;
export const POSTED_INTR_NV = 0x0002;
export const LAST_PID_POINTER_INDEX = 0x0008;
export const GUEST_ES_SELECTOR = 0x0800;
export const GUEST_INTR_STATUS = 0x0810;
export const HOST_ES_SELECTOR = 0x0c00;
export const HOST_CS_SELECTOR = 0x0c02;
export const HOST_SS_SELECTOR = 0x0c04;
export const HOST_DS_SELECTOR = 0x0c06;
export const HOST_FS_SELECTOR = 0x0c08;
export const HOST_GS_SELECTOR = 0x0c0a;
export const HOST_TR_SELECTOR = 0x0c0c;
export const MSR_BITMAP = 0x2004;
export const TSC_OFFSET = 0x2010;
export const VIRTUAL_APIC_PAGE_ADDR = 0x2012;
export const APIC_ACCESS_ADDR = 0x2014;
export const POSTED_INTR_DESC_ADDR = 0x2016;
export const VM_FUNCTION_CONTROL = 0x2018;
export const EPT_POINTER = 0x201a;
export const EOI_EXIT_BITMAP0 = 0x201c;
export const XSS_EXIT_BITMAP = 0x202c;
export const TSC_MULTIPLIER = 0x2032;
export const TERTIARY_VM_EXEC_CONTROL = 0x2034;
export const PID_POINTER_TABLE = 0x2042;
export const GUEST_PHYSICAL_ADDRESS = 0x2400;
export const VMCS_LINK_POINTER = 0x2800;
export const GUEST_IA32_DEBUGCTL = 0x2802;
export const GUEST_IA32_PAT = 0x2804;
export const GUEST_IA32_EFER = 0x2806;
export const GUEST_PDPTR0 = 0x280a;
export const HOST_IA32_PAT = 0x2c00;
export const HOST_IA32_EFER = 0x2c02;
export const PIN_BASED_VM_EXEC_CONTROL = 0x4000;
export const CPU_BASED_VM_EXEC_CONTROL = 0x4002;
export const EXCEPTION_BITMAP = 0x4004;
export const PAGE_FAULT_ERROR_CODE_MASK = 0x4006;
export const PAGE_FAULT_ERROR_CODE_MATCH = 0x4008;
export const CR3_TARGET_COUNT = 0x400a;
export const VM_EXIT_CONTROLS = 0x400c;
export const VM_EXIT_MSR_STORE_COUNT = 0x400e;
export const VM_EXIT_MSR_LOAD_COUNT = 0x4010;
export const VM_ENTRY_CONTROLS = 0x4012;
export const VM_ENTRY_MSR_LOAD_COUNT = 0x4014;
export const VM_ENTRY_INTR_INFO_FIELD = 0x4016;
export const VM_ENTRY_EXCEPTION_ERROR_CODE = 0x4018;
export const VM_ENTRY_INSTRUCTION_LEN = 0x401a;
export const TPR_THRESHOLD = 0x401c;
export const SECONDARY_VM_EXEC_CONTROL = 0x401e;
export const PLE_GAP = 0x4020;
export const PLE_WINDOW = 0x4022;
export const VM_INSTRUCTION_ERROR = 0x4400;
export const VM_EXIT_REASON = 0x4402;
export const VM_EXIT_INTR_INFO = 0x4404;
export const VM_EXIT_INTR_ERROR_CODE = 0x4406;
export const IDT_VECTORING_INFO_FIELD = 0x4408;
export const IDT_VECTORING_ERROR_CODE = 0x440a;
export const VM_EXIT_INSTRUCTION_LEN = 0x440c;
export const VMX_INSTRUCTION_INFO = 0x440e;
export const GUEST_ES_LIMIT = 0x4800;
export const GUEST_GDTR_LIMIT = 0x4810;
export const GUEST_IDTR_LIMIT = 0x4812;
export const GUEST_ES_AR_BYTES = 0x4814;
export const GUEST_INTERRUPTIBILITY_INFO = 0x4824;
export const GUEST_ACTIVITY_STATE = 0x4826;
export const GUEST_SYSENTER_CS = 0x482a;
export const HOST_IA32_SYSENTER_CS = 0x4c00;
export const CR0_GUEST_HOST_MASK = 0x6000;
export const CR4_GUEST_HOST_MASK = 0x6002;
export const CR0_READ_SHADOW = 0x6004;
export const CR4_READ_SHADOW = 0x6006;
export const EXIT_QUALIFICATION = 0x6400;
export const GUEST_CR0 = 0x6800;
export const GUEST_CR3 = 0x6802;
export const GUEST_CR4 = 0x6804;
export const GUEST_ES_BASE = 0x6806;
export const GUEST_GDTR_BASE = 0x6816;
export const GUEST_IDTR_BASE = 0x6818;
export const GUEST_DR7 = 0x681a;
export const GUEST_RSP = 0x681c;
export const GUEST_RIP = 0x681e;
export const GUEST_RFLAGS = 0x6820;
export const GUEST_PENDING_DBG_EXCEPTIONS = 0x6822;
export const GUEST_SYSENTER_ESP = 0x6824;
export const GUEST_SYSENTER_EIP = 0x6826;
export const HOST_CR0 = 0x6c00;
export const HOST_CR3 = 0x6c02;
export const HOST_CR4 = 0x6c04;
export const HOST_FS_BASE = 0x6c06;
export const HOST_GS_BASE = 0x6c08;
export const HOST_TR_BASE = 0x6c0a;
export const HOST_GDTR_BASE = 0x6c0c;
export const HOST_IDTR_BASE = 0x6c0e;
export const HOST_IA32_SYSENTER_ESP = 0x6c10;
export const HOST_IA32_SYSENTER_EIP = 0x6c12;
export const HOST_RSP = 0x6c14;
export const HOST_RIP = 0x6c16;

// ---- interruption information
export const INTR_INFO_VECTOR_MASK = 0xff;
export const INTR_INFO_INTR_TYPE_MASK = 0x700;
export const INTR_INFO_DELIVER_CODE_MASK = 0x800;
export const INTR_INFO_UNBLOCK_NMI = 0x1000;
export const INTR_INFO_VALID_MASK = 0x8000_0000;
export const INTR_TYPE_EXT_INTR: number = 0 << 8;
export const INTR_TYPE_NMI_INTR: number = 2 << 8;
export const INTR_TYPE_HARD_EXCEPTION: number = 3 << 8;
export const INTR_TYPE_SOFT_INTR: number = 4 << 8;
export const INTR_TYPE_PRIV_SW_EXCEPTION: number = 5 << 8;
export const INTR_TYPE_SOFT_EXCEPTION: number = 6 << 8;

// ---- interruptibility and activity
export const GUEST_INTR_STATE_STI = 1;
export const GUEST_INTR_STATE_MOV_SS = 2;
export const GUEST_INTR_STATE_NMI = 8;
export const GUEST_ACTIVITY_ACTIVE = 0;

// ---- exit reasons
export const EXIT_REASON_EXCEPTION_NMI = 0;
export const EXIT_REASON_EXTERNAL_INTERRUPT = 1;
export const EXIT_REASON_TRIPLE_FAULT = 2;
export const EXIT_REASON_INTERRUPT_WINDOW = 7;
export const EXIT_REASON_NMI_WINDOW = 8;
export const EXIT_REASON_TASK_SWITCH = 9;
export const EXIT_REASON_CPUID = 10;
export const EXIT_REASON_HLT = 12;
export const EXIT_REASON_INVD = 13;
export const EXIT_REASON_INVLPG = 14;
export const EXIT_REASON_RDPMC = 15;
export const EXIT_REASON_VMCALL = 18;
export const EXIT_REASON_VMCLEAR = 19;
export const EXIT_REASON_VMXON = 27;
export const EXIT_REASON_CR_ACCESS = 28;
export const EXIT_REASON_DR_ACCESS = 29;
export const EXIT_REASON_IO_INSTRUCTION = 30;
export const EXIT_REASON_MSR_READ = 31;
export const EXIT_REASON_MSR_WRITE = 32;
export const EXIT_REASON_MWAIT_INSTRUCTION = 36;
export const EXIT_REASON_MONITOR_TRAP_FLAG = 37;
export const EXIT_REASON_MONITOR_INSTRUCTION = 39;
export const EXIT_REASON_PAUSE_INSTRUCTION = 40;
export const EXIT_REASON_MCE_DURING_VMENTRY = 41;
export const EXIT_REASON_TPR_BELOW_THRESHOLD = 43;
export const EXIT_REASON_EOI_INDUCED = 45;
export const EXIT_REASON_APIC_WRITE = 56;
export const EXIT_REASON_APIC_ACCESS = 44;
export const EXIT_REASON_GDTR_IDTR = 46;
export const EXIT_REASON_LDTR_TR = 47;
export const EXIT_REASON_EPT_VIOLATION = 48;
export const EXIT_REASON_EPT_MISCONFIG = 49;
export const EXIT_REASON_INVEPT = 50;
export const EXIT_REASON_PREEMPTION_TIMER = 52;
export const EXIT_REASON_INVVPID = 53;
export const EXIT_REASON_WBINVD = 54;
export const EXIT_REASON_XSETBV = 55;
export const EXIT_REASON_RDRAND = 57;
export const EXIT_REASON_INVPCID = 58;
export const EXIT_REASON_VMFUNC = 59;
export const EXIT_REASON_RDSEED = 61;
export const EXIT_REASON_PML_FULL = 62;
export const EXIT_REASON_SEAMCALL = 76;
export const EXIT_REASON_TDCALL = 77;
export const VMX_EXIT_REASONS_FAILED_VMENTRY = 0x8000_0000;
/** Upstream's mark of a VM entry that VMLAUNCH or VMRESUME itself refused. */
export const EXIT_REASON_VM_FAIL = 0xdead;

// ---- instruction results
export const VM_SUCCEED = 0;

/** VMREAD of a field of at most 32 bits. A field that does not exist is a bug of KVM. @upstream vmcs_read32() */
export function vmcsRead32(v: Vtx, field: number): number {
  const value = v.vmreadLow(field);
  if (value < 0) vmcsError('vmread', field);
  return value;
}
/** VMREAD of a 64-bit or natural-width field. */
export function vmcsRead64(v: Vtx, field: number): bigint {
  const value = v.vmread(field);
  if (value === undefined) vmcsError('vmread', field);
  return value;
}
/** VMWRITE. @upstream vmcs_write32() and its sisters */
export function vmcsWrite(v: Vtx, field: number, value: number | bigint): void {
  if (v.vmwrite(field, value) !== VM_SUCCEED) vmcsError('vmwrite', field);
}

function vmcsError(instruction: string, field: number): never {
  throw new Error(`${instruction} failed: field=${field.toString(16)}`);
}

/** @upstream struct loaded_vmcs */
export class LoadedVmcs {
  readonly vmcs: Hpa;
  launched = false;
  /** The CPU it was loaded on last, and where its data may still be. */
  cpu: Cpu | null = null;
  hvTimerSoftDisabled = true;
  /** Control words as last written, so that a change that changes nothing costs nothing. */
  readonly shadow: Map<number, number> = new Map();

  constructor(vmcs: Hpa) {
    this.vmcs = vmcs;
  }
}
