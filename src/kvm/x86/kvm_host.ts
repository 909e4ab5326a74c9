/**
 * The x86 structures of KVM: VM, vCPU and their `arch` parts, requests, and register numbers.
 *
 * @upstream arch/x86/include/asm/kvm_host.h
 */
import type { Cpu } from '../../host/cpus.ts';
import type { Task } from '../../host/sched.ts';
import type { Gfn, Gpa, Hpa } from '../../util/address.ts';
import { KVM_REQ_ARCH_BASE, Kvm, type KvmModule, KvmVcpu } from '../virt/kvm_host.ts';
import { KvmRun } from '../virt/kvm_run.ts';
import type { KvmCpuidEntry2 } from './cpuid.ts';
import type { KvmPit } from './i8254.ts';
import type { KvmPic } from './i8259.ts';
import type { KvmIoapic } from './ioapic.ts';
import type { KvmX86Ops } from './kvm_x86_ops.ts';
import type { KvmLapic } from './lapic.ts';
import { MmuLock } from './mmu/mmu_lock.ts';
import { SHADOW_MMIO_VALUE } from './mmu/spte.ts';
import type { TdpMmu } from './mmu/tdp_mmu.ts';
import type { KvmMsrFilter } from './msr_filter.ts';
import type { KvmPv } from './pvclock.ts';
import type { VcpuVt } from './vmx/common.ts';

/** VM types. @upstream KVM_X86_*_VM */
export const KVM_X86_DEFAULT_VM = 0;
/** Private memory without hardware that protects it: for trying out. */
export const KVM_X86_SW_PROTECTED_VM = 1;
export const KVM_X86_TDX_VM = 5;

// ---- requests

export const KVM_REQ_TRIPLE_FAULT: number = KVM_REQ_ARCH_BASE + 0;
export const KVM_REQ_CLOCK_UPDATE: number = KVM_REQ_ARCH_BASE + 1;
export const KVM_REQ_LOAD_MMU_PGD: number = KVM_REQ_ARCH_BASE + 2;
export const KVM_REQ_EVENT: number = KVM_REQ_ARCH_BASE + 3;
export const KVM_REQ_NMI: number = KVM_REQ_ARCH_BASE + 4;
export const KVM_REQ_SMI: number = KVM_REQ_ARCH_BASE + 5;
export const KVM_REQ_SCAN_IOAPIC: number = KVM_REQ_ARCH_BASE + 6;
export const KVM_REQ_IOAPIC_EOI_EXIT: number = KVM_REQ_ARCH_BASE + 7;
export const KVM_REQ_TLB_FLUSH_CURRENT: number = KVM_REQ_ARCH_BASE + 8;
export const KVM_REQ_TLB_FLUSH_GUEST: number = KVM_REQ_ARCH_BASE + 9;
export const KVM_REQ_RECALC_INTERCEPTS: number = KVM_REQ_ARCH_BASE + 11;
export const KVM_REQ_APICV_UPDATE: number = KVM_REQ_ARCH_BASE + 12;
export const KVM_REQ_LOAD_EOI_EXITMAP: number = KVM_REQ_ARCH_BASE + 13;
export const KVM_REQ_APIC_PAGE_RELOAD: number = KVM_REQ_ARCH_BASE + 14;

// ---- registers

export const VCPU_REGS_RAX = 0;
export const VCPU_REGS_RCX = 1;
export const VCPU_REGS_RDX = 2;
export const VCPU_REGS_RBX = 3;
export const VCPU_REGS_RSP = 4;
export const VCPU_REGS_RSI = 6;
export const VCPU_REGS_RDI = 7;
export const VCPU_REGS_RIP = 16;
/** Registers that are read from the VMCS on first use. */
export const VCPU_EXREG_PDPTR = 17;
export const VCPU_EXREG_CR0 = 18;
export const VCPU_EXREG_CR3 = 19;
export const VCPU_EXREG_CR4 = 20;
export const VCPU_EXREG_RFLAGS = 21;
export const VCPU_EXREG_SEGMENTS = 22;
export const VCPU_EXREG_EXIT_INFO_1 = 23;
export const VCPU_EXREG_EXIT_INFO_2 = 24;

/** Segment registers in upstream's (and the encoding's) order. */
export const VCPU_SREG_ES = 0;
export const VCPU_SREG_CS = 1;
export const VCPU_SREG_SS = 2;
export const VCPU_SREG_DS = 3;
export const VCPU_SREG_FS = 4;
export const VCPU_SREG_GS = 5;
export const VCPU_SREG_TR = 6;
export const VCPU_SREG_LDTR = 7;

/** States of a vCPU. @upstream KVM_MP_STATE_* */
export const KVM_MP_STATE_RUNNABLE = 0;
export const KVM_MP_STATE_UNINITIALIZED = 1;
export const KVM_MP_STATE_INIT_RECEIVED = 2;
export const KVM_MP_STATE_HALTED = 3;
export const KVM_MP_STATE_SIPI_RECEIVED = 4;

/** An exception on its way into the guest. @upstream struct kvm_queued_exception */
export interface KvmQueuedException {
  pending: boolean;
  injected: boolean;
  hasErrorCode: boolean;
  vector: number;
  errorCode: number;
  payload: bigint;
  hasPayload: boolean;
}

/** @upstream struct kvm_queued_interrupt */
export interface KvmQueuedInterrupt {
  injected: boolean;
  soft: boolean;
  nr: number;
}

/** MSRs that user space emulates. @upstream KVM_MSR_EXIT_REASON_* */
export const KVM_MSR_EXIT_REASON_INVAL = 1;
export const KVM_MSR_EXIT_REASON_FILTER = 4;

/** A segment register as KVM hands it around. @upstream struct kvm_segment */
export interface KvmSegment {
  base: bigint;
  limit: number;
  selector: number;
  type: number;
  present: number;
  dpl: number;
  db: number;
  s: number;
  l: number;
  g: number;
  avl: number;
  unusable: number;
}

/** GDTR or IDTR. @upstream struct desc_ptr */
export interface KvmDtable {
  base: bigint;
  limit: number;
}

/** Guest CPU state that KVM keeps for a vCPU. @upstream struct kvm_vcpu_arch */
export class KvmVcpuArch {
  /** RAX to R15 and RIP; only those in `regsAvail` are up to date. */
  readonly regs: BigUint64Array = new BigUint64Array(17);
  /** The same as 32-bit halves, for exits that need no 64 bits. */
  readonly regs32: Uint32Array = new Uint32Array(this.regs.buffer);
  /** The sixteen general registers as bytes. */
  readonly regs8: Uint8Array = new Uint8Array(this.regs.buffer, 0, 128);
  regsAvail = 0;
  regsDirty = 0;

  cr0 = 0;
  cr0GuestOwnedBits = 0;
  cr2 = 0n;
  cr3 = 0n;
  cr4 = 0;
  cr4GuestOwnedBits = 0;
  cr8 = 0;
  efer = 0;
  xcr0 = 1n;
  iaXss = 0n;
  readonly pdptrs: bigint[] = [0n, 0n, 0n, 0n];

  pkru = 0;
  /** KVM_RUN waits for INIT and SIPI. */
  blockedUninitialized = false;

  /** In-kernel local APIC, or null. */
  apic: KvmLapic | null = null;
  /** Without an in-kernel APIC: IA32_APIC_BASE as user space set it. */
  apicBase = 0xfee0_0900n;
  mpState: number = KVM_MP_STATE_RUNNABLE;
  /** The guest's registers are out of KVM's reach. */
  guestStateProtected = false;
  /** What XSAVE manages is out of KVM's reach. @upstream fpstate_set_confidential() */
  guestFpuConfidential = false;
  /** IRR, ISR and TPR of the guest are out of KVM's reach; only the backend knows whether an interrupt waits. */
  guestApicProtected = false;
  /** TSC offset and scaling are not KVM's. */
  guestTscProtected = false;
  /** An interrupt that user space gave by KVM_INTERRUPT; -1 for none. */
  pendingExternalVector = -1;
  /** The vector of the EOI that user space must hear of. */
  pendingIoapicEoi = 0;
  /** Vectors whose end an I/O APIC waits for, a bit each. */
  readonly ioapicHandledVectors: Uint32Array = new Uint32Array(8);

  readonly exception: KvmQueuedException = {
    pending: false,
    injected: false,
    hasErrorCode: false,
    vector: 0,
    errorCode: 0,
    payload: 0n,
    hasPayload: false,
  };
  readonly interrupt: KvmQueuedInterrupt = { injected: false, soft: false, nr: 0 };
  /** Length of the instruction whose software interrupt or exception is injected again. */
  eventExitInstLen = 0;
  nmiPending = 0;
  nmiQueued = 0;
  nmiInjected = false;
  /** An external interrupt could not be injected and waits for its window. */
  irqWindowRequested = false;

  readonly db: bigint[] = [0n, 0n, 0n, 0n];
  dr6 = 0xffff0ff0n;
  dr7 = 0x400n;
  /** Debug registers that are in force: the guest's, or the debugger's. */
  readonly effDb: bigint[] = [0n, 0n, 0n, 0n];
  guestDebugDr7 = 0x400n;
  /** KVM_GUESTDBG_* */
  guestDebug = 0;
  singlestepRip = 0n;
  /** Accesses to debug registers do not exit at present: they are the guest's. */
  debugRegsWontExit = false;
  /** The guest uses breakpoints, or its accesses do not exit: debug registers are switched. */
  debugRegsBpEnabled = false;

  cpuidEntries: readonly KvmCpuidEntry2[] = [];
  /** Bumped with every KVM_SET_CPUID2, so that caches of CPUID facts can tell. */
  cpuidGeneration = 0;
  maxphyaddr = 36;
  guestSupportedXcr0 = 1n;
  guestSupportedXss = 0n;
  /** CR4 bits the guest's CPUID does not offer. */
  cr4GuestRsvdBits = 0xffff_ffff;

  pat = 0x0007_0406_0007_0406n;
  mtrrs: Map<number, bigint> = new Map();
  miscEnable: bigint = 1n | (1n << 11n) | (1n << 12n);
  tscAux = 0n;
  archCapabilities = 0n;
  msrFeatureControl = 0n;
  ucodeRev = 0x1_0000_0000n;
  specCtrl = 0n;
  mcgCap = 0n;
  mcgStatus = 0n;
  mcgCtl = 0n;
  readonly mceBanks: BigUint64Array = new BigUint64Array(32 * 4);
  miscFeaturesEnables = 0n;
  powerCtl = 0n;

  /** Added to the (scaled) host TSC. */
  tscOffset = 0n;
  tscAdjust = 0n;
  virtualTscKhz = 1_000_000;
  /** Scaling ratio with 48 fraction bits. */
  tscScalingRatio: bigint = 1n << 48n;

  /** Paravirtual clock, steal time and EOI. */
  pv!: KvmPv;

  // ---- exits to user space that want an answer
  /** Continues the instruction when KVM_RUN is called again. */
  completeUserspaceIo: ((vcpu: X86Vcpu) => number) | null = null;
  /** RIP of the port access that user space is serving. */
  pioLinearRip = 0n;
  /** PIO that is under way. */
  readonly pio = { count: 0, in: false, port: 0, size: 0 };
  /** MMIO that user space serves in pieces of up to 8 bytes. */
  mmioNeeded = false;
  mmioIsWrite = false;
  mmioReadCompleted = false;
  readonly mmioFragments: MmioFragment[] = [];
  mmioCurFragment = 0;
  /** Data that finished MMIO reads have brought. */
  readonly mmioData: Uint8Array = new Uint8Array(16);
  /** The instruction that is being emulated across exits. */
  emulation: unknown = null;

  /** The guest's x87, SSE and AVX state, laid out as in a processor's state block; stale while `fpuCpu` has it. */
  guestFpu: Uint8Array = new Uint8Array(0);
  /** The CPU whose registers hold that state, or null. */
  fpuCpu: Cpu | null = null;

  /** Why a walk of the guest's page tables failed. */
  readonly walkFault = { errorCode: 0, address: 0n };
}

/** A piece of an MMIO access. */
export interface MmioFragment {
  gpa: Gpa;
  offset: number;
  len: number;
}

/** How interrupts reach the VM. */
export type IrqchipMode = 'none' | 'split' | 'kernel';

/** x86 state of a VM. @upstream struct kvm_arch */
export class KvmArch {
  vmType: number = KVM_X86_DEFAULT_VM;
  /** Guest memory may be private: guest_memfd and memory attributes are there. */
  hasPrivateMem = false;
  /** Registers of running vCPUs are out of reach: no ioctl gets or sets them, no slot is read-only. */
  hasProtectedState = false;
  /** EOIs of the guest never come to KVM: no level-triggered interrupt can be emulated in the kernel. */
  hasProtectedEoi = false;
  /** KVM_PRE_FAULT_MEMORY is allowed; for a TD from its finalization on. */
  preFaultAllowed = false;
  /** The EPT that the processor walks; of a VM with a mirror, the part for shared memory. Made with the VM. */
  tdpMmu!: TdpMmu;
  /** KVM's copy of the tables that the TDX module keeps for private memory; null where private memory needs none. */
  mirrorMmu: TdpMmu | null = null;
  /** The bit (as a frame number) that makes an address of the guest a shared one; 0 where there is none. @upstream kvm_gfn_direct_bits() */
  gfnDirectBits: Gfn = 0;
  readonly mmuLock: MmuLock = new MmuLock();
  /** What an EPT entry for MMIO is, apart from its generation. @upstream shadow_mmio_value */
  shadowMmioValue: bigint = SHADOW_MMIO_VALUE;

  // ---- interrupt controllers (irq.ts, ioapic.ts, i8259.ts, i8254.ts)
  irqchipMode: IrqchipMode = 'none';
  vpic: KvmPic | null = null;
  vioapic: KvmIoapic | null = null;
  vpit: KvmPit | null = null;
  nrReservedIoapicPins = 0;
  bspVcpuId = 0;
  /** vCPU ids are below this; 0 while nobody has said. @upstream max_vcpu_ids */
  maxVcpuIds = 0;
  x2apicFormat = false;
  x2apicBroadcastQuirkDisabled = false;
  apicBusCycleNs = 1;
  /** What keeps the VM from APIC virtualization, a bit for each APICV_INHIBIT_REASON. @upstream apicv_inhibit_reasons */
  apicvInhibitReasons = 1;
  /** The host page behind the guest's APIC page while accesses to it are virtualized; −1 without. */
  apicAccessPage: Hpa = -1;
  /** By vCPU id, where interrupts are posted; −1 without. @upstream struct kvm_vmx pid_table */
  pidTable: Hpa = -1;
  /** Devices that send interrupts to vCPUs by themselves. @upstream assigned_device_count */
  assignedDeviceCount = 0;

  // ---- time
  defaultTscKhz = 1_000_000;
  /** Guest clock (KVM_GET_CLOCK) minus kernel time, in ns. */
  kvmclockOffset = 0;
  wallClock = 0n;

  // ---- choices of user space
  disabledQuirks = 0n;
  exceptionPayloadEnabled = false;
  tripleFaultEvent = false;
  /** Hypercalls that exit to user space, a bit each. */
  hypercallExitEnabled = 0n;
  /** KVM_MSR_EXIT_REASON_* that exit to user space. */
  userSpaceMsrMask = 0;
  /** MSRs that the guest may not access; null for none. */
  msrFilter: KvmMsrFilter | null = null;
  /** KVM_CAP_X86_DISABLE_EXITS */
  hltInGuest = false;
  pauseInGuest = false;
  mwaitInGuest = false;
  cstateInGuest = false;
  tssAddr = 0;
  identityMapAddr = 0;
}

/** An x86 VM. */
export class X86Vm extends Kvm {
  readonly arch: KvmArch = new KvmArch();
  /** The system-wide ops table. */
  readonly ops: KvmX86Ops;

  constructor(module: KvmModule, ops: KvmX86Ops) {
    super(module);
    this.ops = ops;
  }
}

/** An x86 vCPU. */
export class X86Vcpu extends KvmVcpu {
  declare readonly kvm: X86Vm;
  readonly arch: KvmVcpuArch = new KvmVcpuArch();
  /** The backend's part (vcpu_vmx or vcpu_tdx); set by vcpuCreate. */
  vt!: VcpuVt;

  constructor(kvm: X86Vm, id: number, task: Task) {
    super(kvm, id, kvm.vcpus.length, task, new KvmRun());
  }
}

/** vCPUs of a VM, typed. */
export const vcpusOf = (kvm: X86Vm): readonly X86Vcpu[] => kvm.vcpus as X86Vcpu[];
