/**
 * Events into the guest: injection at VM entry, windows, interrupt shadow, and events whose delivery an exit cut short.
 *
 * @upstream arch/x86/kvm/vmx/vmx.c vmx_inject_irq(), vmx_interrupt_allowed(), vmx_complete_interrupts()
 */
import { PIN, PRIMARY } from '../../../machine/vtx/controls.ts';
import { trace } from '../../../util/trace.ts';
import { kvmMakeRequest } from '../../virt/kvm_host.ts';
import {
  kvmClearExceptionQueue,
  kvmClearInterruptQueue,
  kvmQueueInterrupt,
  kvmRequeueException,
} from '../event_queue.ts';
import { KVM_REQ_EVENT, type X86Vcpu } from '../kvm_host.ts';
import {
  controlsClearbit,
  controlsGet,
  controlsSetbit,
  toVmx,
  type VcpuVmx,
  vmxGetIntrInfo,
  vmxGetRflags,
} from './vcpu_vmx.ts';
import {
  CPU_BASED_VM_EXEC_CONTROL,
  GUEST_ACTIVITY_ACTIVE,
  GUEST_ACTIVITY_STATE,
  GUEST_INTERRUPTIBILITY_INFO,
  GUEST_INTR_STATE_MOV_SS,
  GUEST_INTR_STATE_NMI,
  GUEST_INTR_STATE_STI,
  IDT_VECTORING_ERROR_CODE,
  INTR_INFO_DELIVER_CODE_MASK,
  INTR_INFO_INTR_TYPE_MASK,
  INTR_INFO_UNBLOCK_NMI,
  INTR_INFO_VALID_MASK,
  INTR_INFO_VECTOR_MASK,
  INTR_TYPE_EXT_INTR,
  INTR_TYPE_HARD_EXCEPTION,
  INTR_TYPE_NMI_INTR,
  INTR_TYPE_SOFT_EXCEPTION,
  INTR_TYPE_SOFT_INTR,
  TPR_THRESHOLD,
  VM_ENTRY_EXCEPTION_ERROR_CODE,
  VM_ENTRY_INSTRUCTION_LEN,
  VM_ENTRY_INTR_INFO_FIELD,
  VM_EXIT_INSTRUCTION_LEN,
  vmcsRead32,
  vmcsWrite,
} from './vmcs.ts';

const RFLAGS_IF = 0x200;
const NMI_VECTOR = 2;
const DF_VECTOR = 8;
const BP_VECTOR = 3;
const OF_VECTOR = 4;
/** KVM_X86_SHADOW_INT_* use the VMCS's own bits. */
const SHADOW_MASK: number = GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS;

/** @upstream vmx_get_interrupt_shadow() */
export const vmxGetInterruptShadow = (vcpu: X86Vcpu): number =>
  vmcsRead32(toVmx(vcpu).v, GUEST_INTERRUPTIBILITY_INFO) & SHADOW_MASK;

/** @upstream vmx_set_interrupt_shadow() */
export function vmxSetInterruptShadow(vcpu: X86Vcpu, mask: number): void {
  const { v } = toVmx(vcpu);
  const old = vmcsRead32(v, GUEST_INTERRUPTIBILITY_INFO);
  const state = (old & ~SHADOW_MASK) | (mask & SHADOW_MASK);
  if (state !== old) vmcsWrite(v, GUEST_INTERRUPTIBILITY_INFO, state);
}

/** An injected event ends HLT. @upstream vmx_clear_hlt() */
function vmxClearHlt(vmx: VcpuVmx): void {
  if (vmcsRead32(vmx.v, GUEST_ACTIVITY_STATE) !== GUEST_ACTIVITY_ACTIVE)
    vmcsWrite(vmx.v, GUEST_ACTIVITY_STATE, GUEST_ACTIVITY_ACTIVE);
}

/** @upstream vmx_inject_exception() */
export function vmxInjectException(vcpu: X86Vcpu): void {
  const vmx = toVmx(vcpu);
  const { exception } = vcpu.arch;
  let info = exception.vector | INTR_INFO_VALID_MASK;
  if (exception.hasErrorCode) {
    vmcsWrite(vmx.v, VM_ENTRY_EXCEPTION_ERROR_CODE, exception.errorCode & 0xffff);
    info |= INTR_INFO_DELIVER_CODE_MASK;
  }
  if (exception.vector === BP_VECTOR || exception.vector === OF_VECTOR) {
    vmcsWrite(vmx.v, VM_ENTRY_INSTRUCTION_LEN, vcpu.arch.eventExitInstLen);
    info |= INTR_TYPE_SOFT_EXCEPTION;
  } else {
    info |= INTR_TYPE_HARD_EXCEPTION;
  }
  vmcsWrite(vmx.v, VM_ENTRY_INTR_INFO_FIELD, info >>> 0);
  vmxClearHlt(vmx);
}

/** @upstream vmx_inject_irq() */
export function vmxInjectIrq(vcpu: X86Vcpu, reinjected: boolean): void {
  const vmx = toVmx(vcpu);
  const { nr, soft } = vcpu.arch.interrupt;
  trace.kvm_inj_virq?.(nr, soft, reinjected);
  vcpu.stat.irq_injections++;
  let info = nr | INTR_INFO_VALID_MASK;
  if (soft) {
    info |= INTR_TYPE_SOFT_INTR;
    vmcsWrite(vmx.v, VM_ENTRY_INSTRUCTION_LEN, vcpu.arch.eventExitInstLen);
  } else {
    info |= INTR_TYPE_EXT_INTR;
  }
  vmcsWrite(vmx.v, VM_ENTRY_INTR_INFO_FIELD, info >>> 0);
  vmxClearHlt(vmx);
}

/** @upstream vmx_inject_nmi() */
export function vmxInjectNmi(vcpu: X86Vcpu): void {
  const vmx = toVmx(vcpu);
  vmcsWrite(vmx.v, VM_ENTRY_INTR_INFO_FIELD, (INTR_TYPE_NMI_INTR | INTR_INFO_VALID_MASK | NMI_VECTOR) >>> 0);
  vmxClearHlt(vmx);
}

/** What was to be injected goes back to the queue. @upstream vmx_cancel_injection() */
export function vmxCancelInjection(vcpu: X86Vcpu): void {
  const vmx = toVmx(vcpu);
  const info = vmcsRead32(vmx.v, VM_ENTRY_INTR_INFO_FIELD);
  completeInterrupts(vcpu, info, VM_ENTRY_INSTRUCTION_LEN, VM_ENTRY_EXCEPTION_ERROR_CODE);
  vmcsWrite(vmx.v, VM_ENTRY_INTR_INFO_FIELD, 0);
}

/** @upstream vmx_complete_interrupts() */
export function vmxCompleteInterrupts(vcpu: X86Vcpu): void {
  completeInterrupts(vcpu, toVmx(vcpu).idtVectoringInfo, VM_EXIT_INSTRUCTION_LEN, IDT_VECTORING_ERROR_CODE);
}

/** @upstream __vmx_complete_interrupts() */
function completeInterrupts(vcpu: X86Vcpu, info: number, instructionLengthField: number, errorCodeField: number): void {
  const { arch } = vcpu;
  arch.nmiInjected = false;
  kvmClearExceptionQueue(vcpu);
  kvmClearInterruptQueue(vcpu);
  if ((info & INTR_INFO_VALID_MASK) === 0) return;
  const { v } = toVmx(vcpu);
  kvmMakeRequest(KVM_REQ_EVENT, vcpu);
  const vector = info & INTR_INFO_VECTOR_MASK;
  switch (info & INTR_INFO_INTR_TYPE_MASK) {
    case INTR_TYPE_NMI_INTR:
      arch.nmiInjected = true;
      // NMI delivery sets NMI blocking again; it is cleared so that the injection is allowed.
      vmxSetNmiMask(vcpu, false);
      break;
    case INTR_TYPE_SOFT_EXCEPTION:
      arch.eventExitInstLen = vmcsRead32(v, instructionLengthField);
      requeue(vcpu, vector, info, errorCodeField);
      break;
    case INTR_TYPE_HARD_EXCEPTION:
      requeue(vcpu, vector, info, errorCodeField);
      break;
    case INTR_TYPE_SOFT_INTR:
      arch.eventExitInstLen = vmcsRead32(v, instructionLengthField);
      kvmQueueInterrupt(vcpu, vector, true);
      break;
    case INTR_TYPE_EXT_INTR:
      kvmQueueInterrupt(vcpu, vector, false);
      break;
    default:
      break;
  }
}

function requeue(vcpu: X86Vcpu, vector: number, info: number, errorCodeField: number): void {
  const hasErrorCode = (info & INTR_INFO_DELIVER_CODE_MASK) !== 0;
  const errorCode = hasErrorCode ? vmcsRead32(toVmx(vcpu).v, errorCodeField) : 0;
  kvmRequeueException(vcpu, vector, hasErrorCode, errorCode);
}

/** IRET that faulted after it had removed NMI blocking: blocking comes back. @upstream vmx_recover_nmi_blocking() */
export function vmxRecoverNmiBlocking(vcpu: X86Vcpu): void {
  const vmx = toVmx(vcpu);
  // Only an exception exit can tell; every other exit leaves the blocking as it is in the VMCS.
  if (vmx.exitReason !== 0 || vmx.idtVectoringInfo & INTR_INFO_VALID_MASK) return;
  const info = vmxGetIntrInfo(vcpu);
  if ((info & INTR_INFO_UNBLOCK_NMI) === 0 || (info & INTR_INFO_VECTOR_MASK) === DF_VECTOR) return;
  vmxSetNmiMask(vcpu, true);
}

/** @upstream vmx_interrupt_blocked(), inverted */
export function vmxInterruptAllowed(vcpu: X86Vcpu): boolean {
  if ((vmxGetRflags(vcpu) & RFLAGS_IF) === 0) return false;
  return (vmcsRead32(toVmx(vcpu).v, GUEST_INTERRUPTIBILITY_INFO) & SHADOW_MASK) === 0;
}

/** @upstream vmx_nmi_blocked(), inverted */
export const vmxNmiAllowed = (vcpu: X86Vcpu): boolean =>
  (vmcsRead32(toVmx(vcpu).v, GUEST_INTERRUPTIBILITY_INFO) & (SHADOW_MASK | GUEST_INTR_STATE_NMI)) === 0;

/** @upstream vmx_get_nmi_mask() */
export const vmxGetNmiMask = (vcpu: X86Vcpu): boolean =>
  (vmcsRead32(toVmx(vcpu).v, GUEST_INTERRUPTIBILITY_INFO) & GUEST_INTR_STATE_NMI) !== 0;

/** @upstream vmx_set_nmi_mask() */
export function vmxSetNmiMask(vcpu: X86Vcpu, masked: boolean): void {
  const { v } = toVmx(vcpu);
  const old = vmcsRead32(v, GUEST_INTERRUPTIBILITY_INFO);
  const state = masked ? old | GUEST_INTR_STATE_NMI : old & ~GUEST_INTR_STATE_NMI;
  if (state !== old) vmcsWrite(v, GUEST_INTERRUPTIBILITY_INFO, state);
}

/** @upstream vmx_enable_irq_window() */
export function vmxEnableIrqWindow(vcpu: X86Vcpu): void {
  controlsSetbit(toVmx(vcpu), CPU_BASED_VM_EXEC_CONTROL, PRIMARY.INTERRUPT_WINDOW);
}

/** @upstream vmx_enable_nmi_window() */
export function vmxEnableNmiWindow(vcpu: X86Vcpu): void {
  const vmx = toVmx(vcpu);
  const virtualNmis = (vmx.hw.config.pinBased & PIN.VIRTUAL_NMIS) !== 0;
  if (!virtualNmis || vmcsRead32(vmx.v, GUEST_INTERRUPTIBILITY_INFO) & GUEST_INTR_STATE_STI) {
    vmxEnableIrqWindow(vcpu);
    return;
  }
  controlsSetbit(vmx, CPU_BASED_VM_EXEC_CONTROL, PRIMARY.NMI_WINDOW);
}

/** @upstream handle_interrupt_window() */
export function vmxHandleInterruptWindow(vcpu: X86Vcpu): number {
  controlsClearbit(toVmx(vcpu), CPU_BASED_VM_EXEC_CONTROL, PRIMARY.INTERRUPT_WINDOW);
  kvmMakeRequest(KVM_REQ_EVENT, vcpu);
  vcpu.stat.irq_window_exits++;
  return 1;
}

/** @upstream handle_nmi_window() */
export function vmxHandleNmiWindow(vcpu: X86Vcpu): number {
  controlsClearbit(toVmx(vcpu), CPU_BASED_VM_EXEC_CONTROL, PRIMARY.NMI_WINDOW);
  kvmMakeRequest(KVM_REQ_EVENT, vcpu);
  return 1;
}

/** An exit is wanted as soon as the task priority no longer masks `irr`. @upstream vmx_update_cr8_intercept() */
export function vmxUpdateCr8Intercept(vcpu: X86Vcpu, tpr: number, irr: number): void {
  const vmx = toVmx(vcpu);
  if ((controlsGet(vmx, CPU_BASED_VM_EXEC_CONTROL) & PRIMARY.TPR_SHADOW) === 0) return;
  const threshold = irr === -1 || tpr < irr >> 4 ? 0 : irr >> 4;
  if (vmx.tprThreshold === threshold) return;
  vmx.tprThreshold = threshold;
  vmcsWrite(vmx.v, TPR_THRESHOLD, threshold);
}
