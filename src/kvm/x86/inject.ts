/**
 * Which event goes into the guest at the next entry, and which windows to ask for.
 *
 * @upstream arch/x86/kvm/x86.c kvm_check_and_inject_events(), process_nmi()
 */
import { kvmMakeRequest } from '../virt/kvm_host.ts';
import { kvmUpdateDr7 } from './debugregs.ts';
import {
  BP_VECTOR,
  DB_VECTOR,
  kvmDeliverExceptionPayload,
  kvmQueueInterrupt,
  OF_VECTOR,
  traceException,
} from './event_queue.ts';
import { kvmCpuGetInterrupt, kvmCpuHasInjectableIntr } from './irq.ts';
import { KVM_REQ_EVENT, KVM_REQ_NMI, type X86Vcpu } from './kvm_host.ts';

const RFLAGS_RF = 0x10000;
const DR7_GD = 0x2000n;
const KVM_GUESTDBG_BLOCKIRQ = 0x100000;

/**
 * Injected faults set RF; traps do not. For #DB the exit has left RF as the exception needs it.
 *
 * @upstream exception_type()
 */
const setsRf = (vector: number): boolean => vector !== DB_VECTOR && vector !== BP_VECTOR && vector !== OF_VECTOR;

/** Sets up the injection, and windows for what has to wait. */
export function kvmCheckAndInjectEvents(vcpu: X86Vcpu): void {
  const { arch } = vcpu;
  const { ops } = vcpu.kvm;
  let canInject = true;

  if (arch.exception.injected) {
    injectException(vcpu, true);
    canInject = false;
  } else if (arch.exception.pending) {
    // A new exception comes before anything that waits.
  } else if (arch.nmiInjected) {
    ops.injectNmi(vcpu);
    canInject = false;
  } else if (arch.interrupt.injected) {
    ops.injectIrq(vcpu, true);
    canInject = false;
  }

  if (arch.exception.pending) {
    const { exception } = arch;
    if (setsRf(exception.vector)) ops.setRflags(vcpu, ops.getRflags(vcpu) | RFLAGS_RF);
    kvmDeliverExceptionPayload(vcpu);
    if (exception.vector === DB_VECTOR && arch.dr7 & DR7_GD) {
      arch.dr7 &= ~DR7_GD;
      kvmUpdateDr7(vcpu);
    }
    exception.pending = false;
    exception.injected = true;
    injectException(vcpu, false);
    canInject = false;
  }

  if (arch.guestDebug & KVM_GUESTDBG_BLOCKIRQ) return;

  if (arch.nmiPending > 0) {
    if (canInject && ops.nmiAllowed(vcpu)) {
      arch.nmiPending--;
      arch.nmiInjected = true;
      ops.injectNmi(vcpu);
      canInject = false;
    }
    if (arch.nmiPending > 0) ops.enableNmiWindow(vcpu);
  }

  if (kvmCpuHasInjectableIntr(vcpu)) {
    if (canInject && ops.interruptAllowed(vcpu)) {
      const irq = kvmCpuGetInterrupt(vcpu);
      if (irq !== -1) {
        kvmQueueInterrupt(vcpu, irq, false);
        ops.injectIrq(vcpu, false);
      }
    }
    if (kvmCpuHasInjectableIntr(vcpu)) ops.enableIrqWindow(vcpu);
  }
}

function injectException(vcpu: X86Vcpu, reinjected: boolean): void {
  const { exception } = vcpu.arch;
  // The processor pushes no error code in real mode, whatever was queued.
  if (exception.hasErrorCode && (vcpu.arch.cr0 & 1) === 0) exception.hasErrorCode = false;
  traceException(vcpu, reinjected);
  vcpu.kvm.ops.injectException(vcpu);
}

/** Queued NMIs become pending: at most two at a time, one while NMIs are blocked. @upstream process_nmi() */
export function processNmi(vcpu: X86Vcpu): void {
  const { arch } = vcpu;
  const limit = vcpu.kvm.ops.getNmiMask(vcpu) || arch.nmiInjected ? 1 : 2;
  arch.nmiPending = Math.min(arch.nmiPending + arch.nmiQueued, limit);
  arch.nmiQueued = 0;
  if (arch.nmiPending > 0) kvmMakeRequest(KVM_REQ_EVENT, vcpu);
}

/** An NMI arrives. @upstream kvm_inject_nmi() */
export function kvmInjectNmi(vcpu: X86Vcpu): void {
  vcpu.arch.nmiQueued++;
  kvmMakeRequest(KVM_REQ_NMI, vcpu);
}
