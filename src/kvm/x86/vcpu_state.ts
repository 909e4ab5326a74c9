/**
 * The rest of a vCPU's state as user space gets and sets it: debug registers, events, run state, XCR0, interrupts.
 *
 * @upstream arch/x86/kvm/x86.c kvm_vcpu_ioctl_x86_set_debugregs(), kvm_vcpu_ioctl_x86_set_vcpu_events()
 */
import { EEXIST, EINVAL, ENXIO, type Errno } from '../../host/errno.ts';
import { kvmMakeRequest, kvmTestRequest, kvmVcpuWakeUp } from '../virt/kvm_host.ts';
import { kvmSetXcr } from './cr.ts';
import { kvmUpdateDr7 } from './debugregs.ts';
import { kvmClearExceptionQueue, kvmClearInterruptQueue, kvmQueueInterrupt } from './event_queue.ts';
import { irqchipInKernel, irqchipKernel, lapicInKernel } from './irqchip_mode.ts';
import {
  KVM_MP_STATE_INIT_RECEIVED,
  KVM_MP_STATE_RUNNABLE,
  KVM_MP_STATE_SIPI_RECEIVED,
  KVM_REQ_EVENT,
  KVM_REQ_NMI,
  KVM_REQ_TRIPLE_FAULT,
  type X86Vcpu,
} from './kvm_host.ts';
import { kvmMmuGvaToGpa } from './mmu/paging_tmpl.ts';

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
