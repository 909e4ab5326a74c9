/**
 * The table of operations that a vendor module gives x86 KVM. One table serves the whole system; the vendor decides per
 * VM which backend does the work (vmx/main.ts).
 *
 * @upstream arch/x86/include/asm/kvm_host.h struct kvm_x86_ops, asm/kvm-x86-ops.h
 */
import type { Cpu } from '../../host/cpus.ts';
import type { Errno } from '../../host/errno.ts';
import type { Host } from '../../host/host.ts';
import type { Gfn, Gpa, Hpa } from '../../util/address.ts';
import type { KvmDtable, KvmSegment, X86Vcpu, X86Vm } from './kvm_host.ts';
import type { KvmTdxCmd } from './uapi_tdx.ts';

/** What a fast path after an exit decided. @upstream fastpath_t */
export const EXIT_FASTPATH_NONE = 0;
export const EXIT_FASTPATH_REENTER_GUEST = 1;
export const EXIT_FASTPATH_EXIT_HANDLED = 2;
export type Fastpath = 0 | 1 | 2 | 3;

/** What is known of the last exit, for traces and reports. */
export interface KvmExitInfo {
  reason: number;
  info1: bigint;
  info2: number;
  intrInfo: number;
  errorCode: number;
}

/** Whether the emulator may work on an instruction. @upstream X86EMUL_* results of check_emulate_instruction */
export const X86EMUL_CONTINUE = 0;
export const X86EMUL_RETRY_INSTR = 3;
/** The exit came while an event was delivered, not from an instruction. */
export const X86EMUL_UNHANDLEABLE_VECTORING = 6;

/** @upstream struct kvm_x86_ops */
export interface KvmX86Ops {
  readonly name: string;

  // ---- load, unload, CPUs
  checkProcessorCompatibility(cpu: Cpu): Errno;
  enableVirtualizationCpu(cpu: Cpu): Errno;
  disableVirtualizationCpu(cpu: Cpu): void;
  emergencyDisableVirtualizationCpu(cpu: Cpu): void;
  hardwareUnsetup(host: Host): void;
  /** The machine goes down: faults of VMX instructions are swallowed from here on. */
  rebooting(host: Host): void;
  /** The seed's hook: runs with virtualization on everywhere. */
  postHardwareEnableSetup(host: Host): Errno;

  // ---- VMs and vCPUs
  hasEmulatedMsr(kvm: X86Vm | null, index: number): boolean;
  vmInit(kvm: X86Vm): Errno;
  vmPreDestroy(kvm: X86Vm): void;
  vmDestroy(kvm: X86Vm): void;
  vcpuPrecreate(kvm: X86Vm): Errno;
  vcpuCreate(vcpu: X86Vcpu): Errno;
  vcpuFree(vcpu: X86Vcpu): void;
  vcpuReset(vcpu: X86Vcpu, initEvent: boolean): void;
  vcpuAfterSetCpuid(vcpu: X86Vcpu): void;
  vcpuLoad(vcpu: X86Vcpu, cpu: Cpu): void;
  vcpuPut(vcpu: X86Vcpu): void;
  prepareSwitchToGuest(vcpu: X86Vcpu): void;

  // ---- registers
  updateExceptionBitmap(vcpu: X86Vcpu): void;
  /** Value of a feature MSR, or undefined. */
  getFeatureMsr(index: number): bigint | undefined;
  /** undefined: #GP. */
  getMsr(vcpu: X86Vcpu, index: number): bigint | undefined;
  /** false: #GP. */
  setMsr(vcpu: X86Vcpu, index: number, value: bigint, hostInitiated: boolean): boolean;
  getSegmentBase(vcpu: X86Vcpu, seg: number): bigint;
  getSegment(vcpu: X86Vcpu, seg: number): KvmSegment;
  setSegment(vcpu: X86Vcpu, seg: number, value: KvmSegment): void;
  getCpl(vcpu: X86Vcpu): number;
  /** CS.D in bit 0, CS.L in bit 1. */
  getCsDbLBits(vcpu: X86Vcpu): number;
  isValidCr0(vcpu: X86Vcpu, cr0: number): boolean;
  isValidCr4(vcpu: X86Vcpu, cr4: number): boolean;
  setCr0(vcpu: X86Vcpu, cr0: number): void;
  setCr4(vcpu: X86Vcpu, cr4: number): void;
  /** 0, or 1: #GP. */
  setEfer(vcpu: X86Vcpu, efer: number): number;
  getIdt(vcpu: X86Vcpu): KvmDtable;
  setIdt(vcpu: X86Vcpu, table: KvmDtable): void;
  getGdt(vcpu: X86Vcpu): KvmDtable;
  setGdt(vcpu: X86Vcpu, table: KvmDtable): void;
  setDr7(vcpu: X86Vcpu, dr7: bigint): void;
  syncDirtyDebugRegs(vcpu: X86Vcpu): void;
  cacheReg(vcpu: X86Vcpu, reg: number): void;
  getRflags(vcpu: X86Vcpu): number;
  setRflags(vcpu: X86Vcpu, rflags: number): void;
  getIfFlag(vcpu: X86Vcpu): boolean;

  // ---- translation
  flushTlbAll(vcpu: X86Vcpu): void;
  flushTlbCurrent(vcpu: X86Vcpu): void;
  flushTlbGva(vcpu: X86Vcpu, gva: bigint): void;
  flushTlbGuest(vcpu: X86Vcpu): void;
  /** Memory-type bits of an EPT entry. */
  getMtMask(vcpu: X86Vcpu, isMmio: boolean): number;
  loadMmuPgd(vcpu: X86Vcpu, root: Hpa, rootLevel: number): void;

  // ---- private memory whose tables somebody else keeps: what the mirror gets, these pass on
  /** A table below the entry of `level` (2 and up) that maps `gfn`. */
  linkExternalSpt(kvm: X86Vm, gfn: Gfn, level: number, table: Hpa): Errno;
  /** A leaf. −EBUSY: try again. */
  setExternalSpte(kvm: X86Vm, gfn: Gfn, level: number, mirrorSpte: bigint): Errno;
  /** Takes a leaf away, with every translation of it on every CPU; the page is the host's again. */
  removeExternalSpte(kvm: X86Vm, gfn: Gfn, level: number, mirrorSpte: bigint): void;
  /** A table is not used any more: it comes back to the host, who frees it. */
  freeExternalSpt(kvm: X86Vm, gfn: Gfn, level: number, table: Hpa): Errno;
  /** Largest level that memory of a guest_memfd may be mapped with; 0 for no cap. */
  gmemMaxMappingLevel(kvm: X86Vm, gfn: Gfn, isPrivate: boolean): number;

  // ---- running
  vcpuPreRun(vcpu: X86Vcpu): number;
  vcpuRun(vcpu: X86Vcpu, forceImmediateExit: boolean): Fastpath;
  /** 1: go on; 0: exit to user space; negative: errno. */
  handleExit(vcpu: X86Vcpu, fastpath: Fastpath): number;
  handleExitIrqoff(vcpu: X86Vcpu): void;
  /** 1, or 0 when user space must see something first. */
  skipEmulatedInstruction(vcpu: X86Vcpu): number;
  getExitInfo(vcpu: X86Vcpu, info: KvmExitInfo): void;

  // ---- events
  setInterruptShadow(vcpu: X86Vcpu, mask: number): void;
  getInterruptShadow(vcpu: X86Vcpu): number;
  patchHypercall(vcpu: X86Vcpu): Uint8Array;
  injectIrq(vcpu: X86Vcpu, reinjected: boolean): void;
  injectNmi(vcpu: X86Vcpu): void;
  injectException(vcpu: X86Vcpu): void;
  cancelInjection(vcpu: X86Vcpu): void;
  interruptAllowed(vcpu: X86Vcpu): boolean;
  nmiAllowed(vcpu: X86Vcpu): boolean;
  getNmiMask(vcpu: X86Vcpu): boolean;
  setNmiMask(vcpu: X86Vcpu, masked: boolean): void;
  enableNmiWindow(vcpu: X86Vcpu): void;
  enableIrqWindow(vcpu: X86Vcpu): void;
  updateCr8Intercept(vcpu: X86Vcpu, tpr: number, irr: number): void;
  deliverInterrupt(vcpu: X86Vcpu, deliveryMode: number, trigMode: number, vector: number): void;
  /** Only for a protected APIC, whose state KVM cannot see. */
  protectedApicHasInterrupt: ((vcpu: X86Vcpu) => boolean) | null;
  apicInitSignalBlocked(vcpu: X86Vcpu): boolean;

  // ---- APIC virtualization
  /** Reasons that keep a VM from it, a bit for each APICV_INHIBIT_REASON; others do not matter to the backend. */
  readonly requiredApicvInhibits: number;
  /** The local APIC goes to another mode. */
  setVirtualApicMode(vcpu: X86Vcpu): void;
  setApicAccessPageAddr(vcpu: X86Vcpu): void;
  /** APIC virtualization of the vCPU was turned on or off. */
  refreshApicvExecCtrl(vcpu: X86Vcpu): void;
  /** Vectors (a bit each, eight words) whose end must come to KVM. */
  loadEoiExitmap(vcpu: X86Vcpu, handled: Uint32Array): void;
  /** The highest vector in service, −1 for none, has changed without the hardware. */
  hwapicIsrUpdate(vcpu: X86Vcpu, maxIsr: number): void;
  /** What was posted goes to the IRR: the highest vector requested, −1 for none. */
  syncPirToIrr(vcpu: X86Vcpu): number;
  /** A new APIC state replaces what was posted. */
  apicvPreStateRestore(vcpu: X86Vcpu): void;
  vcpuDeliverSipiVector(vcpu: X86Vcpu, vector: number): void;

  // ---- time
  writeTscOffset(vcpu: X86Vcpu): void;
  writeTscMultiplier(vcpu: X86Vcpu): void;
  /** Arms the hardware timer for a guest TSC deadline; null where there is none. */
  setHvTimer: ((vcpu: X86Vcpu, guestDeadlineTsc: bigint) => Errno) | null;
  cancelHvTimer: ((vcpu: X86Vcpu) => void) | null;

  // ---- the rest
  setTssAddr(kvm: X86Vm, address: Gpa): Errno;
  setIdentityMapAddr(kvm: X86Vm, address: Gpa): Errno;
  setupMce(vcpu: X86Vcpu): void;
  checkEmulateInstruction(vcpu: X86Vcpu): number;
  updateCpuDirtyLogging(vcpu: X86Vcpu): void;
  completeEmulatedMsr(vcpu: X86Vcpu, failed: boolean): number;
  recalcIntercepts(vcpu: X86Vcpu): void;
  /** KVM_MEMORY_ENCRYPT_OP on the VM. */
  memEncIoctl(kvm: X86Vm, command: KvmTdxCmd): Errno;
  /** The same on a vCPU, which is loaded. */
  vcpuMemEncIoctl(vcpu: X86Vcpu, command: KvmTdxCmd): Errno;
}

/** What a vendor module hands to kvm_x86_vendor_init. @upstream struct kvm_x86_init_ops */
export interface KvmX86InitOps {
  /** Checks the hardware and prepares everything that is not per CPU. */
  hardwareSetup(host: Host): Errno;
  readonly runtimeOps: KvmX86Ops;
}
