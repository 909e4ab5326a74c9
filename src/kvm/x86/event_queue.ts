/**
 * The queue of events for the guest: exceptions, and the interrupt that is being injected.
 *
 * @upstream arch/x86/kvm/x86.c kvm_multiple_exception(), x86.h kvm_queue_interrupt()
 */
import { trace } from '../../util/trace.ts';
import { kvmMakeRequest } from '../virt/kvm_host.ts';
import { KVM_REQ_EVENT, KVM_REQ_TRIPLE_FAULT, type X86Vcpu } from './kvm_host.ts';

export const DE_VECTOR = 0;
export const DB_VECTOR = 1;
export const BP_VECTOR = 3;
export const OF_VECTOR = 4;
export const UD_VECTOR = 6;
export const DF_VECTOR = 8;
export const TS_VECTOR = 10;
export const SS_VECTOR = 12;
export const GP_VECTOR = 13;
export const PF_VECTOR = 14;
export const AC_VECTOR = 17;

const BENIGN = 0;
const CONTRIBUTORY = 1;
const PAGE_FAULT = 2;

/** @upstream exception_class() */
function exceptionClass(vector: number): number {
  if (vector === PF_VECTOR) return PAGE_FAULT;
  return vector === DE_VECTOR || (vector >= TS_VECTOR && vector <= GP_VECTOR) ? CONTRIBUTORY : BENIGN;
}

/** @upstream kvm_clear_exception_queue() */
export function kvmClearExceptionQueue(vcpu: X86Vcpu): void {
  const { exception } = vcpu.arch;
  exception.pending = false;
  exception.injected = false;
}
/** @upstream kvm_queue_interrupt() */
export function kvmQueueInterrupt(vcpu: X86Vcpu, nr: number, soft: boolean): void {
  const { interrupt } = vcpu.arch;
  interrupt.injected = true;
  interrupt.soft = soft;
  interrupt.nr = nr;
}
/** An event is on its way in; nothing else may be injected with it. @upstream kvm_event_needs_reinjection() */
export const kvmEventNeedsReinjection = (vcpu: X86Vcpu): boolean =>
  vcpu.arch.exception.injected || vcpu.arch.interrupt.injected || vcpu.arch.nmiInjected;

/** @upstream kvm_clear_interrupt_queue() */
export function kvmClearInterruptQueue(vcpu: X86Vcpu): void {
  vcpu.arch.interrupt.injected = false;
}

/** @upstream kvm_multiple_exception() */
function kvmMultipleException(
  vcpu: X86Vcpu,
  vector: number,
  hasErrorCode: boolean,
  errorCode: number,
  hasPayload: boolean,
  payload: bigint,
): void {
  const { exception } = vcpu.arch;
  kvmMakeRequest(KVM_REQ_EVENT, vcpu);
  if (exception.pending || exception.injected) {
    const previous = exception.vector;
    if (previous === DF_VECTOR) {
      // A fault while a double fault is delivered shuts the processor down.
      kvmClearExceptionQueue(vcpu);
      kvmMakeRequest(KVM_REQ_TRIPLE_FAULT, vcpu);
      return;
    }
    const first = exceptionClass(previous);
    const second = exceptionClass(vector);
    if ((first === CONTRIBUTORY && second === CONTRIBUTORY) || (first === PAGE_FAULT && second !== BENIGN)) {
      exception.injected = false;
      exception.pending = true;
      exception.vector = DF_VECTOR;
      exception.hasErrorCode = true;
      exception.errorCode = 0;
      exception.hasPayload = false;
      return;
    }
  }
  exception.pending = true;
  exception.injected = false;
  exception.vector = vector;
  exception.hasErrorCode = hasErrorCode;
  exception.errorCode = errorCode;
  exception.hasPayload = hasPayload;
  exception.payload = payload;
}

/** The exception's extra information (CR2, DR6) becomes architectural. @upstream kvm_deliver_exception_payload() */
export function kvmDeliverExceptionPayload(vcpu: X86Vcpu): void {
  const { arch } = vcpu;
  const { exception } = arch;
  if (!exception.hasPayload) return;
  if (exception.vector === DB_VECTOR) {
    // Status bits accumulate; BLD-style active-low bits of DR6 are toggled by the payload.
    arch.dr6 &= ~0xfn;
    arch.dr6 |= exception.payload | 0xffff_0ff0n;
    arch.dr6 ^= exception.payload & 0x1_0800n;
    arch.dr6 &= ~(1n << 12n);
  } else if (exception.vector === PF_VECTOR) {
    arch.cr2 = exception.payload;
  }
  exception.hasPayload = false;
  exception.payload = 0n;
}

/** An exception without error code. @upstream kvm_queue_exception() */
export function kvmQueueException(vcpu: X86Vcpu, vector: number): void {
  kvmMultipleException(vcpu, vector, false, 0, false, 0n);
}
/** @upstream kvm_queue_exception_e() */
export function kvmQueueExceptionE(vcpu: X86Vcpu, vector: number, errorCode: number): void {
  kvmMultipleException(vcpu, vector, true, errorCode, false, 0n);
}
/** @upstream kvm_queue_exception_p() */
export function kvmQueueExceptionP(vcpu: X86Vcpu, vector: number, payload: bigint): void {
  kvmMultipleException(vcpu, vector, false, 0, true, payload);
}
/** @upstream kvm_inject_page_fault() */
export function kvmInjectPageFault(vcpu: X86Vcpu, address: bigint, errorCode: number): void {
  kvmMultipleException(vcpu, PF_VECTOR, true, errorCode, true, address);
}
/** #GP(0). @upstream kvm_inject_gp() */
export function kvmInjectGp(vcpu: X86Vcpu, errorCode = 0): void {
  kvmQueueExceptionE(vcpu, GP_VECTOR, errorCode);
}

/** An exception whose delivery was cut short by an exit is injected again. @upstream kvm_requeue_exception() */
export function kvmRequeueException(vcpu: X86Vcpu, vector: number, hasErrorCode: boolean, errorCode: number): void {
  const { exception } = vcpu.arch;
  exception.injected = true;
  exception.pending = false;
  exception.vector = vector;
  exception.hasErrorCode = hasErrorCode;
  exception.errorCode = errorCode;
  exception.hasPayload = false;
  exception.payload = 0n;
}

/** Traces an exception that goes into the guest. */
export function traceException(vcpu: X86Vcpu, reinjected: boolean): void {
  const { vector, hasErrorCode, errorCode } = vcpu.arch.exception;
  trace.kvm_inj_exception?.(vector, hasErrorCode ? errorCode : -1, reinjected);
}
