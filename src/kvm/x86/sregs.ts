/**
 * Registers as user space gets and sets them.
 *
 * @upstream arch/x86/kvm/x86.c kvm_arch_vcpu_ioctl_get_regs(), __set_sregs(), kvm_vcpu_ioctl_x86_set_vcpu_events()
 */
import { EEXIST, EINVAL, ENXIO, type Errno } from '../../host/errno.ts';
import { kvmMakeRequest, kvmTestRequest, kvmVcpuWakeUp } from '../virt/kvm_host.ts';
import { kvmUpdateCpuidRuntime } from './cpuid.ts';
import {
  kvmGetCr8,
  kvmIsValidCr0,
  kvmIsValidCr4,
  kvmMarkCr3,
  kvmPostSetCr0,
  kvmPostSetCr4,
  kvmSetCr8,
  kvmSetXcr,
  kvmValidEfer,
  loadPdptrs,
} from './cr.ts';
import { kvmUpdateDr7 } from './debugregs.ts';
import { kvmClearExceptionQueue, kvmClearInterruptQueue, kvmQueueInterrupt } from './event_queue.ts';
import { irqchipInKernel, irqchipKernel, kvmApicBase, lapicInKernel } from './irqchip_mode.ts';
import {
  isPaePaging,
  kvmReadCr0,
  kvmReadCr3,
  kvmReadCr4,
  kvmRegisterReadRaw,
  kvmRegisterWriteRaw,
  kvmRipRead,
  kvmRipWrite,
} from './kvm_cache_regs.ts';
import {
  KVM_MP_STATE_INIT_RECEIVED,
  KVM_MP_STATE_RUNNABLE,
  KVM_MP_STATE_SIPI_RECEIVED,
  KVM_REQ_EVENT,
  KVM_REQ_NMI,
  KVM_REQ_TLB_FLUSH_GUEST,
  KVM_REQ_TRIPLE_FAULT,
  type KvmDtable,
  type KvmSegment,
  VCPU_SREG_CS,
  VCPU_SREG_DS,
  VCPU_SREG_ES,
  VCPU_SREG_FS,
  VCPU_SREG_GS,
  VCPU_SREG_LDTR,
  VCPU_SREG_SS,
  VCPU_SREG_TR,
  type X86Vcpu,
} from './kvm_host.ts';
import { kvmApicSetBase } from './lapic.ts';
import { kvmMmuGvaToGpa } from './mmu/paging_tmpl.ts';

/** @upstream struct kvm_regs */
export interface KvmRegs {
  rax: bigint;
  rbx: bigint;
  rcx: bigint;
  rdx: bigint;
  rsi: bigint;
  rdi: bigint;
  rsp: bigint;
  rbp: bigint;
  r8: bigint;
  r9: bigint;
  r10: bigint;
  r11: bigint;
  r12: bigint;
  r13: bigint;
  r14: bigint;
  r15: bigint;
  rip: bigint;
  rflags: bigint;
}

const REG_NAMES: readonly (keyof KvmRegs)[] = [
  'rax',
  'rcx',
  'rdx',
  'rbx',
  'rsp',
  'rbp',
  'rsi',
  'rdi',
  'r8',
  'r9',
  'r10',
  'r11',
  'r12',
  'r13',
  'r14',
  'r15',
];

/** KVM_GET_REGS */
export function kvmGetRegs(vcpu: X86Vcpu): KvmRegs {
  const regs: KvmRegs = {
    rax: 0n,
    rbx: 0n,
    rcx: 0n,
    rdx: 0n,
    rsi: 0n,
    rdi: 0n,
    rsp: 0n,
    rbp: 0n,
    r8: 0n,
    r9: 0n,
    r10: 0n,
    r11: 0n,
    r12: 0n,
    r13: 0n,
    r14: 0n,
    r15: 0n,
    rip: kvmRipRead(vcpu),
    rflags: BigInt(vcpu.kvm.ops.getRflags(vcpu)),
  };
  REG_NAMES.forEach((name, n) => {
    regs[name] = kvmRegisterReadRaw(vcpu, n);
  });
  return regs;
}

const X86_EFLAGS_FIXED = 2;

/** KVM_SET_REGS */
export function kvmSetRegs(vcpu: X86Vcpu, regs: KvmRegs): Errno {
  REG_NAMES.forEach((name, n) => {
    kvmRegisterWriteRaw(vcpu, n, BigInt.asUintN(64, regs[name]));
  });
  kvmRipWrite(vcpu, BigInt.asUintN(64, regs.rip));
  vcpu.kvm.ops.setRflags(vcpu, Number(regs.rflags & 0xffff_ffffn) | X86_EFLAGS_FIXED);
  vcpu.arch.exception.pending = false;
  kvmMakeRequest(KVM_REQ_EVENT, vcpu);
  return 0;
}

/** @upstream struct kvm_sregs */
export interface KvmSregs {
  cs: KvmSegment;
  ds: KvmSegment;
  es: KvmSegment;
  fs: KvmSegment;
  gs: KvmSegment;
  ss: KvmSegment;
  tr: KvmSegment;
  ldt: KvmSegment;
  gdt: KvmDtable;
  idt: KvmDtable;
  cr0: bigint;
  cr2: bigint;
  cr3: bigint;
  cr4: bigint;
  cr8: bigint;
  efer: bigint;
  apicBase: bigint;
  /** 256 bits; at most one is set: the interrupt that is being injected. */
  interruptBitmap: readonly bigint[];
}

const SEGMENT_NAMES: readonly (readonly ['cs' | 'ds' | 'es' | 'fs' | 'gs' | 'ss' | 'tr' | 'ldt', number])[] = [
  ['cs', VCPU_SREG_CS],
  ['ds', VCPU_SREG_DS],
  ['es', VCPU_SREG_ES],
  ['fs', VCPU_SREG_FS],
  ['gs', VCPU_SREG_GS],
  ['ss', VCPU_SREG_SS],
  ['tr', VCPU_SREG_TR],
  ['ldt', VCPU_SREG_LDTR],
];

/** KVM_GET_SREGS */
export function kvmGetSregs(vcpu: X86Vcpu): KvmSregs {
  const { ops } = vcpu.kvm;
  const { arch } = vcpu;
  const bitmap = [0n, 0n, 0n, 0n];
  if (arch.interrupt.injected && !arch.interrupt.soft)
    bitmap[arch.interrupt.nr >> 6]! |= 1n << BigInt(arch.interrupt.nr & 63);
  const segment = (n: number): KvmSegment => ops.getSegment(vcpu, n);
  return {
    cs: segment(VCPU_SREG_CS),
    ds: segment(VCPU_SREG_DS),
    es: segment(VCPU_SREG_ES),
    fs: segment(VCPU_SREG_FS),
    gs: segment(VCPU_SREG_GS),
    ss: segment(VCPU_SREG_SS),
    tr: segment(VCPU_SREG_TR),
    ldt: segment(VCPU_SREG_LDTR),
    gdt: ops.getGdt(vcpu),
    idt: ops.getIdt(vcpu),
    cr0: BigInt(kvmReadCr0(vcpu)),
    cr2: arch.cr2,
    cr3: kvmReadCr3(vcpu),
    cr4: BigInt(kvmReadCr4(vcpu)),
    cr8: BigInt(kvmGetCr8(vcpu)),
    efer: BigInt(arch.efer),
    apicBase: kvmApicBase(vcpu),
    interruptBitmap: bitmap,
  };
}

const CR0_PG = 0x8000_0000n;
const CR0_PE = 1n;
const CR4_PAE = 0x20n;
const EFER_LME = 0x100n;
const EFER_LMA = 0x400n;

/** @upstream kvm_is_valid_sregs() */
function kvmIsValidSregs(vcpu: X86Vcpu, sregs: KvmSregs): boolean {
  if (sregs.efer & EFER_LME && sregs.cr0 & CR0_PG) {
    if (!(sregs.cr4 & CR4_PAE) || !(sregs.efer & EFER_LMA)) return false;
    if (sregs.cr3 >> BigInt(vcpu.arch.maxphyaddr)) return false;
  } else if (sregs.efer & EFER_LMA || sregs.cs.l) {
    // 64-bit code needs IA-32e mode.
    return false;
  }
  if (sregs.efer >> 32n !== 0n) return false;
  return kvmIsValidCr4(vcpu, sregs.cr4) && kvmIsValidCr0(vcpu, sregs.cr0);
}

/** KVM_SET_SREGS */
export function kvmSetSregs(vcpu: X86Vcpu, sregs: KvmSregs): Errno {
  const { ops } = vcpu.kvm;
  const { arch } = vcpu;
  if (!kvmIsValidSregs(vcpu, sregs)) return -EINVAL;
  if (!kvmValidEfer(vcpu, Number(sregs.efer)) && vcpu.arch.cpuidEntries.length > 0) return -EINVAL;
  if (kvmApicSetBase(vcpu, sregs.apicBase, true) !== 0) return -EINVAL;
  ops.setIdt(vcpu, sregs.idt);
  ops.setGdt(vcpu, sregs.gdt);
  arch.cr2 = sregs.cr2;
  kvmMarkCr3(vcpu, sregs.cr3);
  kvmSetCr8(vcpu, sregs.cr8);
  ops.setEfer(vcpu, Number(sregs.efer));
  const oldCr0 = kvmReadCr0(vcpu);
  const oldCr4 = kvmReadCr4(vcpu);
  ops.setCr0(vcpu, Number(sregs.cr0));
  ops.setCr4(vcpu, Number(sregs.cr4));
  kvmPostSetCr0(vcpu, oldCr0, Number(sregs.cr0));
  kvmPostSetCr4(vcpu, oldCr4, Number(sregs.cr4));
  if (isPaePaging(vcpu)) loadPdptrs(vcpu, sregs.cr3);
  for (const [name, n] of SEGMENT_NAMES) ops.setSegment(vcpu, n, sregs[name]);
  // An older user space starts its boot processor in real mode at the reset vector without a word about HLT.
  if (
    vcpu.vcpuId === vcpu.kvm.arch.bspVcpuId &&
    kvmRipRead(vcpu) === 0xfff0n &&
    sregs.cs.selector === 0xf000 &&
    sregs.cs.base === 0xffff_0000n &&
    !(sregs.cr0 & CR0_PE)
  )
    arch.mpState = KVM_MP_STATE_RUNNABLE;
  const pending = sregs.interruptBitmap.findIndex((word) => word !== 0n);
  if (pending >= 0) {
    const word = sregs.interruptBitmap[pending]!;
    let bit = 0;
    while (!(word & (1n << BigInt(bit)))) bit++;
    arch.interrupt.injected = true;
    arch.interrupt.soft = false;
    arch.interrupt.nr = pending * 64 + bit;
  }
  kvmUpdateCpuidRuntime(vcpu);
  kvmMakeRequest(KVM_REQ_TLB_FLUSH_GUEST, vcpu);
  kvmMakeRequest(KVM_REQ_EVENT, vcpu);
  return 0;
}

/** @upstream struct kvm_debugregs */
export interface KvmDebugregs {
  db: readonly bigint[];
  dr6: bigint;
  dr7: bigint;
}
/** KVM_GET_DEBUGREGS */
export const kvmVcpuIoctlGetDebugregs = (vcpu: X86Vcpu): KvmDebugregs => ({
  db: [...vcpu.arch.db],
  dr6: vcpu.arch.dr6,
  dr7: vcpu.arch.dr7,
});
/** KVM_SET_DEBUGREGS */
export function kvmVcpuIoctlSetDebugregs(vcpu: X86Vcpu, regs: KvmDebugregs): Errno {
  if (regs.dr6 >> 32n || regs.dr7 >> 32n || regs.db.length !== 4) return -EINVAL;
  for (let i = 0; i < 4; i++) {
    vcpu.arch.db[i] = regs.db[i]!;
    vcpu.arch.effDb[i] = regs.db[i]!;
  }
  vcpu.arch.dr6 = regs.dr6;
  vcpu.arch.dr7 = regs.dr7;
  kvmUpdateDr7(vcpu);
  return 0;
}

/** @upstream struct kvm_vcpu_events */
export interface KvmVcpuEvents {
  exception: { injected: boolean; nr: number; hasErrorCode: boolean; pending: boolean; errorCode: number };
  interrupt: { injected: boolean; nr: number; soft: boolean; shadow: number };
  nmi: { injected: boolean; pending: boolean; masked: boolean };
  sipiVector: number;
  flags: number;
  tripleFaultPending: boolean;
  exceptionHasPayload: boolean;
  exceptionPayload: bigint;
}

export const KVM_VCPUEVENT_VALID_NMI_PENDING = 1;
export const KVM_VCPUEVENT_VALID_SHADOW = 4;
export const KVM_VCPUEVENT_VALID_PAYLOAD = 0x10;
export const KVM_VCPUEVENT_VALID_TRIPLE_FAULT = 0x20;

/** KVM_GET_VCPU_EVENTS */
export function kvmVcpuIoctlGetVcpuEvents(vcpu: X86Vcpu): KvmVcpuEvents {
  const { arch } = vcpu;
  const { exception } = arch;
  const payloads = vcpu.kvm.arch.exceptionPayloadEnabled;
  return {
    exception: {
      // Without the payload capability user space cannot tell pending from injected.
      injected: exception.injected || (!payloads && exception.pending),
      pending: payloads ? exception.pending : exception.pending || exception.injected,
      nr: exception.vector,
      hasErrorCode: exception.hasErrorCode,
      errorCode: exception.errorCode,
    },
    interrupt: {
      injected: arch.interrupt.injected && !arch.interrupt.soft,
      nr: arch.interrupt.nr,
      soft: false,
      shadow: vcpu.kvm.ops.getInterruptShadow(vcpu),
    },
    nmi: {
      injected: arch.nmiInjected,
      pending: arch.nmiPending > 0 || arch.nmiQueued > 0,
      masked: vcpu.kvm.ops.getNmiMask(vcpu),
    },
    sipiVector: 0,
    flags:
      KVM_VCPUEVENT_VALID_NMI_PENDING |
      KVM_VCPUEVENT_VALID_SHADOW |
      (payloads ? KVM_VCPUEVENT_VALID_PAYLOAD : 0) |
      (vcpu.kvm.arch.tripleFaultEvent ? KVM_VCPUEVENT_VALID_TRIPLE_FAULT : 0),
    tripleFaultPending: vcpu.kvm.arch.tripleFaultEvent && kvmTestRequest(KVM_REQ_TRIPLE_FAULT, vcpu),
    exceptionHasPayload: exception.hasPayload,
    exceptionPayload: exception.payload,
  };
}

/** KVM_SET_VCPU_EVENTS */
export function kvmVcpuIoctlSetVcpuEvents(vcpu: X86Vcpu, events: KvmVcpuEvents): Errno {
  const { arch } = vcpu;
  const { exception } = arch;
  const payloads = vcpu.kvm.arch.exceptionPayloadEnabled;
  if (events.flags & ~0x3f) return -EINVAL;
  if (events.flags & KVM_VCPUEVENT_VALID_PAYLOAD && !payloads) return -EINVAL;
  if ((events.exception.injected || events.exception.pending) && events.exception.nr > 31) return -EINVAL;
  if (events.exception.nr === 2 && (events.exception.injected || events.exception.pending)) return -EINVAL;
  kvmClearExceptionQueue(vcpu);
  kvmClearInterruptQueue(vcpu);
  exception.injected = events.exception.injected;
  exception.pending = payloads && events.exception.pending && !events.exception.injected;
  exception.vector = events.exception.nr;
  exception.hasErrorCode = events.exception.hasErrorCode;
  exception.errorCode = events.exception.errorCode;
  exception.hasPayload = payloads && events.exceptionHasPayload;
  exception.payload = events.exceptionPayload;
  arch.interrupt.injected = events.interrupt.injected;
  arch.interrupt.nr = events.interrupt.nr;
  arch.interrupt.soft = events.interrupt.soft;
  if (events.flags & KVM_VCPUEVENT_VALID_SHADOW) vcpu.kvm.ops.setInterruptShadow(vcpu, events.interrupt.shadow);
  arch.nmiInjected = events.nmi.injected;
  if (events.flags & KVM_VCPUEVENT_VALID_NMI_PENDING) {
    arch.nmiPending = 0;
    arch.nmiQueued = events.nmi.pending ? 1 : 0;
    if (events.nmi.pending) kvmMakeRequest(KVM_REQ_NMI, vcpu);
  }
  vcpu.kvm.ops.setNmiMask(vcpu, events.nmi.masked);
  if (events.flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT) {
    if (!vcpu.kvm.arch.tripleFaultEvent) return -EINVAL;
    if (events.tripleFaultPending) kvmMakeRequest(KVM_REQ_TRIPLE_FAULT, vcpu);
  }
  kvmMakeRequest(KVM_REQ_EVENT, vcpu);
  return 0;
}

/** KVM_GET_MP_STATE */
export const kvmArchVcpuIoctlGetMpstate = (vcpu: X86Vcpu): number => vcpu.arch.mpState;

/** KVM_SET_MP_STATE */
export function kvmArchVcpuIoctlSetMpstate(vcpu: X86Vcpu, state: number): Errno {
  if (!Number.isInteger(state) || state < 0 || state > KVM_MP_STATE_SIPI_RECEIVED) return -EINVAL;
  if (!lapicInKernel(vcpu) && state !== KVM_MP_STATE_RUNNABLE) return -EINVAL;
  vcpu.arch.mpState = state === KVM_MP_STATE_SIPI_RECEIVED ? KVM_MP_STATE_INIT_RECEIVED : state;
  kvmMakeRequest(KVM_REQ_EVENT, vcpu);
  kvmVcpuWakeUp(vcpu);
  return 0;
}

/** KVM_GET_XCRS */
export const kvmVcpuIoctlGetXcrs = (vcpu: X86Vcpu): readonly { xcr: number; value: bigint }[] => [
  { xcr: 0, value: vcpu.arch.xcr0 },
];
/** KVM_SET_XCRS */
export function kvmVcpuIoctlSetXcrs(vcpu: X86Vcpu, xcrs: readonly { xcr: number; value: bigint }[]): Errno {
  for (const { xcr, value } of xcrs) if (xcr === 0 && kvmSetXcr(vcpu, 0, value) !== 0) return -EINVAL;
  return 0;
}

/** KVM_TRANSLATE */
export function kvmArchVcpuIoctlTranslate(
  vcpu: X86Vcpu,
  linearAddress: bigint,
): { physicalAddress: number; valid: boolean; writeable: boolean; usermode: boolean } {
  const gpa = kvmMmuGvaToGpa(vcpu, linearAddress, 0);
  return { physicalAddress: gpa, valid: gpa !== -1, writeable: true, usermode: false };
}

/** KVM_INTERRUPT: user space's interrupt controller gives a vector. −EEXIST while the last one waits. */
export function kvmVcpuIoctlInterrupt(vcpu: X86Vcpu, irq: number): Errno {
  if (!Number.isInteger(irq) || irq < 0 || irq > 255) return -EINVAL;
  if (irqchipKernel(vcpu.kvm)) return -ENXIO;
  if (!irqchipInKernel(vcpu.kvm)) {
    kvmQueueInterrupt(vcpu, irq, false);
  } else {
    if (vcpu.arch.pendingExternalVector !== -1) return -EEXIST;
    vcpu.arch.pendingExternalVector = irq;
  }
  kvmMakeRequest(KVM_REQ_EVENT, vcpu);
  return 0;
}
