/**
 * The communication area of a vCPU: what user space asks of KVM_RUN, and why it returned.
 *
 * One object per exit kind is made with the vCPU and reused, so that an exit allocates nothing; read it before the next
 * run. The objects are the members of the {@link VcpuExit} union.
 *
 * @upstream include/uapi/linux/kvm.h struct kvm_run
 */

/** KVM_EXIT_* numbers. */
export const KVM_EXIT = {
  UNKNOWN: 0,
  EXCEPTION: 1,
  IO: 2,
  HYPERCALL: 3,
  DEBUG: 4,
  HLT: 5,
  MMIO: 6,
  IRQ_WINDOW_OPEN: 7,
  SHUTDOWN: 8,
  FAIL_ENTRY: 9,
  INTR: 10,
  SET_TPR: 11,
  TPR_ACCESS: 12,
  INTERNAL_ERROR: 17,
  SYSTEM_EVENT: 24,
  IOAPIC_EOI: 26,
  X86_RDMSR: 29,
  X86_WRMSR: 30,
  DIRTY_RING_FULL: 31,
  X86_BUS_LOCK: 33,
  NOTIFY: 37,
  MEMORY_FAULT: 39,
  TDX: 40,
} as const;

export const KVM_INTERNAL_ERROR_EMULATION = 1;
export const KVM_INTERNAL_ERROR_SIMUL_EX = 2;
export const KVM_INTERNAL_ERROR_DELIVERY_EV = 3;
export const KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON = 4;

/** Port I/O. `data` holds `size * count` bytes: what is written, or room for what is read. */
export interface IoExit {
  readonly kind: 'io';
  readonly exitReason: 2;
  direction: 'in' | 'out';
  size: 1 | 2 | 4;
  port: number;
  count: number;
  readonly data: Uint8Array;
}
/** Memory-mapped I/O. `data` holds `len` bytes: what is written, or room for what is read. */
export interface MmioExit {
  readonly kind: 'mmio';
  readonly exitReason: 6;
  physAddr: number;
  len: number;
  isWrite: boolean;
  readonly data: Uint8Array;
}
/** A hypercall that user space answers in `ret`. */
export interface HypercallExit {
  readonly kind: 'hypercall';
  readonly exitReason: 3;
  nr: bigint;
  readonly args: bigint[];
  ret: bigint;
  flags: bigint;
}
/** A debug event that the debugger asked for. */
export interface DebugExit {
  readonly kind: 'debug';
  readonly exitReason: 4;
  exception: number;
  pc: bigint;
  dr6: bigint;
  dr7: bigint;
}
/** Exits without details. */
export interface PlainExit {
  readonly kind: 'hlt' | 'irq-window-open' | 'shutdown' | 'intr' | 'set-tpr';
  readonly exitReason: number;
}
/** The processor refused to enter the guest. */
export interface FailEntryExit {
  readonly kind: 'fail-entry';
  readonly exitReason: 9;
  hardwareEntryFailureReason: bigint;
  cpu: number;
}
/** KVM cannot go on with this vCPU. */
export interface InternalErrorExit {
  readonly kind: 'internal-error';
  readonly exitReason: 17;
  suberror: number;
  ndata: number;
  readonly data: bigint[];
}
/** Types of system events. */
export const KVM_SYSTEM_EVENT_SHUTDOWN = 1;
export const KVM_SYSTEM_EVENT_RESET = 2;
export const KVM_SYSTEM_EVENT_CRASH = 3;
/** A trust domain reports that it cannot go on. */
export const KVM_SYSTEM_EVENT_TDX_FATAL = 7;

/** The guest asks for shutdown or reset, or crashed. */
export interface SystemEventExit {
  readonly kind: 'system-event';
  readonly exitReason: 24;
  /** KVM_SYSTEM_EVENT_* */
  type: number;
  ndata: number;
  readonly data: bigint[];
}
/** End of interrupt of a level-triggered vector, for a user-space IOAPIC. */
export interface IoapicEoiExit {
  readonly kind: 'ioapic-eoi';
  readonly exitReason: 26;
  vector: number;
}
/** An MSR that user space emulates; `error` other than 0 injects #GP. */
export interface MsrExit {
  readonly kind: 'rdmsr' | 'wrmsr';
  readonly exitReason: 29 | 30;
  error: number;
  reason: number;
  index: number;
  data: bigint;
}
/** Flag of a memory fault: the guest's access was to private memory. */
export const KVM_MEMORY_EXIT_FLAG_PRIVATE = 8n;

/** An access that the memory's attributes forbid. KVM_RUN's result is −EFAULT (or what failed) then, not 0. */
export interface MemoryFaultExit {
  readonly kind: 'memory-fault';
  readonly exitReason: 39;
  /** {@link KVM_MEMORY_EXIT_FLAG_PRIVATE} or 0. */
  flags: bigint;
  gpa: number;
  size: number;
}

/** Numbers of a TDX exit: the leaf of the guest's TDG.VP.VMCALL. */
export const TDVMCALL_GET_TD_VM_CALL_INFO = 0x10000;
export const TDVMCALL_GET_QUOTE = 0x10002;
export const TDVMCALL_SETUP_EVENT_NOTIFY_INTERRUPT = 0x10004;

/** A call of a trust domain that user space answers in `ret` of the member that `nr` names; KVM has put a default there. */
export interface TdxExit {
  readonly kind: 'tdx';
  readonly exitReason: 40;
  flags: bigint;
  /** TDVMCALL_* */
  nr: number;
  readonly getQuote: { ret: bigint; gpa: number; size: bigint };
  readonly getTdVmCallInfo: { ret: bigint; leaf: bigint; r11: bigint; r12: bigint; r13: bigint; r14: bigint };
  readonly setupEventNotify: { ret: bigint; vector: bigint };
}
/** An exception or exit reason that KVM does not know. */
export interface UnknownExit {
  readonly kind: 'unknown' | 'exception';
  readonly exitReason: 0 | 1;
  hardwareExitReason: number;
  errorCode: number;
}

/** Why KVM_RUN returned. */
export type VcpuExit =
  | IoExit
  | MmioExit
  | HypercallExit
  | DebugExit
  | PlainExit
  | FailEntryExit
  | InternalErrorExit
  | SystemEventExit
  | IoapicEoiExit
  | MsrExit
  | MemoryFaultExit
  | TdxExit
  | UnknownExit;

const PIO_DATA_SIZE = 4096;

/** @upstream struct kvm_run */
export class KvmRun {
  /** In: return with exit IRQ_WINDOW_OPEN as soon as an interrupt can be injected. */
  requestInterruptWindow = false;
  /** In: complete a pending exit and return −EINTR without running. */
  immediateExit = false;
  exitReason = 0;
  readyForInterruptInjection = false;
  ifFlag = false;
  flags = 0;
  cr8 = 0n;
  apicBase = 0n;
  /** The exit, while exitReason is meant. */
  exit: VcpuExit;

  readonly io: IoExit = {
    kind: 'io',
    exitReason: KVM_EXIT.IO,
    direction: 'in',
    size: 1,
    port: 0,
    count: 0,
    data: new Uint8Array(PIO_DATA_SIZE),
  };
  readonly mmio: MmioExit = {
    kind: 'mmio',
    exitReason: KVM_EXIT.MMIO,
    physAddr: 0,
    len: 0,
    isWrite: false,
    data: new Uint8Array(8),
  };
  readonly hypercall: HypercallExit = {
    kind: 'hypercall',
    exitReason: KVM_EXIT.HYPERCALL,
    nr: 0n,
    args: [0n, 0n, 0n, 0n, 0n, 0n],
    ret: 0n,
    flags: 0n,
  };
  readonly debug: DebugExit = {
    kind: 'debug',
    exitReason: KVM_EXIT.DEBUG,
    exception: 0,
    pc: 0n,
    dr6: 0n,
    dr7: 0n,
  };
  readonly failEntry: FailEntryExit = {
    kind: 'fail-entry',
    exitReason: KVM_EXIT.FAIL_ENTRY,
    hardwareEntryFailureReason: 0n,
    cpu: 0,
  };
  readonly internal: InternalErrorExit = {
    kind: 'internal-error',
    exitReason: KVM_EXIT.INTERNAL_ERROR,
    suberror: 0,
    ndata: 0,
    data: new Array<bigint>(16).fill(0n),
  };
  readonly systemEvent: SystemEventExit = {
    kind: 'system-event',
    exitReason: KVM_EXIT.SYSTEM_EVENT,
    type: 0,
    ndata: 0,
    data: new Array<bigint>(16).fill(0n),
  };
  readonly eoi: IoapicEoiExit = { kind: 'ioapic-eoi', exitReason: KVM_EXIT.IOAPIC_EOI, vector: 0 };
  readonly rdmsr: MsrExit = {
    kind: 'rdmsr',
    exitReason: KVM_EXIT.X86_RDMSR,
    error: 0,
    reason: 0,
    index: 0,
    data: 0n,
  };
  readonly wrmsr: MsrExit = {
    kind: 'wrmsr',
    exitReason: KVM_EXIT.X86_WRMSR,
    error: 0,
    reason: 0,
    index: 0,
    data: 0n,
  };
  readonly memoryFault: MemoryFaultExit = {
    kind: 'memory-fault',
    exitReason: KVM_EXIT.MEMORY_FAULT,
    flags: 0n,
    gpa: 0,
    size: 0,
  };
  readonly tdx: TdxExit = {
    kind: 'tdx',
    exitReason: KVM_EXIT.TDX,
    flags: 0n,
    nr: 0,
    getQuote: { ret: 0n, gpa: 0, size: 0n },
    getTdVmCallInfo: { ret: 0n, leaf: 0n, r11: 0n, r12: 0n, r13: 0n, r14: 0n },
    setupEventNotify: { ret: 0n, vector: 0n },
  };
  readonly unknown: UnknownExit = {
    kind: 'unknown',
    exitReason: KVM_EXIT.UNKNOWN,
    hardwareExitReason: 0,
    errorCode: 0,
  };
  readonly exception: UnknownExit = {
    kind: 'exception',
    exitReason: KVM_EXIT.EXCEPTION,
    hardwareExitReason: 0,
    errorCode: 0,
  };

  constructor() {
    this.exit = this.unknown;
  }

  /** Sets the exit that user space will see. */
  setExit(exit: VcpuExit): void {
    this.exit = exit;
    this.exitReason = exit.exitReason;
  }

  /** Sets an exit without details. */
  setPlainExit(exit: PlainExit): void {
    this.exit = exit;
    this.exitReason = exit.exitReason;
  }

  /** An internal error with its data. */
  setInternalError(suberror: number, data: readonly bigint[]): void {
    const { internal } = this;
    internal.suberror = suberror;
    internal.ndata = Math.min(data.length, 16);
    for (let i = 0; i < internal.ndata; i++) internal.data[i] = data[i]!;
    this.setExit(internal);
  }
}

export const EXIT_HLT: PlainExit = { kind: 'hlt', exitReason: KVM_EXIT.HLT };
export const EXIT_SHUTDOWN: PlainExit = { kind: 'shutdown', exitReason: KVM_EXIT.SHUTDOWN };
export const EXIT_INTR: PlainExit = { kind: 'intr', exitReason: KVM_EXIT.INTR };
export const EXIT_IRQ_WINDOW_OPEN: PlainExit = {
  kind: 'irq-window-open',
  exitReason: KVM_EXIT.IRQ_WINDOW_OPEN,
};
