/**
 * What KVM does about each exit reason. A handler returns 1 to go on, 0 to exit to user space, or a negative errno.
 *
 * @upstream arch/x86/kvm/vmx/vmx.c kvm_vmx_exit_handlers[], handle_*()
 */

import type { Gpa } from '../../../util/address.ts';
import { trace } from '../../../util/trace.ts';
import { kvmMakeRequest } from '../../virt/kvm_host.ts';
import {
  EXIT_SHUTDOWN,
  KVM_INTERNAL_ERROR_DELIVERY_EV,
  KVM_INTERNAL_ERROR_SIMUL_EX,
  KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON,
} from '../../virt/kvm_run.ts';
import { kvmEmulateCpuid } from '../cpuid.ts';
import { kvmEmulateXsetbv } from '../cr.ts';
import { kvmEmulateInstruction } from '../emulate.ts';
import {
  AC_VECTOR,
  BP_VECTOR,
  DB_VECTOR,
  GP_VECTOR,
  kvmInjectGp,
  kvmInjectPageFault,
  kvmQueueExceptionE,
  kvmQueueExceptionP,
  PF_VECTOR,
  UD_VECTOR,
} from '../event_queue.ts';
import { kvmEmulateHalt, kvmEmulateMonitor, kvmEmulateMwait } from '../halt.ts';
import { kvmEmulateHypercall } from '../hypercall.ts';
import { kvmHandleInvpcid } from '../invpcid.ts';
import { kvmRegisterReadRaw, kvmRipRead } from '../kvm_cache_regs.ts';
import { KVM_REQ_EVENT, type X86Vcpu } from '../kvm_host.ts';
import { kvmHandleMmioMisconfig } from '../mmu/mmu.ts';
import { kvmEmulateRdmsr, kvmEmulateWrmsr } from '../msr.ts';
import { kvmFastPio } from '../pio.ts';
import { kvmSkipEmulatedInstruction } from '../skip.ts';
import { vmxHandleEptViolationCommon } from './common.ts';
import { toVmx, vmxGetExitQual, vmxGetIntrInfo } from './vcpu_vmx.ts';
import {
  EXIT_REASON_APIC_ACCESS,
  EXIT_REASON_APIC_WRITE,
  EXIT_REASON_CPUID,
  EXIT_REASON_CR_ACCESS,
  EXIT_REASON_DR_ACCESS,
  EXIT_REASON_EOI_INDUCED,
  EXIT_REASON_EPT_MISCONFIG,
  EXIT_REASON_EPT_VIOLATION,
  EXIT_REASON_EXCEPTION_NMI,
  EXIT_REASON_EXTERNAL_INTERRUPT,
  EXIT_REASON_GDTR_IDTR,
  EXIT_REASON_HLT,
  EXIT_REASON_INTERRUPT_WINDOW,
  EXIT_REASON_INVD,
  EXIT_REASON_INVEPT,
  EXIT_REASON_INVLPG,
  EXIT_REASON_INVPCID,
  EXIT_REASON_INVVPID,
  EXIT_REASON_IO_INSTRUCTION,
  EXIT_REASON_LDTR_TR,
  EXIT_REASON_MCE_DURING_VMENTRY,
  EXIT_REASON_MONITOR_INSTRUCTION,
  EXIT_REASON_MONITOR_TRAP_FLAG,
  EXIT_REASON_MSR_READ,
  EXIT_REASON_MSR_WRITE,
  EXIT_REASON_MWAIT_INSTRUCTION,
  EXIT_REASON_NMI_WINDOW,
  EXIT_REASON_PAUSE_INSTRUCTION,
  EXIT_REASON_PML_FULL,
  EXIT_REASON_PREEMPTION_TIMER,
  EXIT_REASON_RDPMC,
  EXIT_REASON_RDRAND,
  EXIT_REASON_RDSEED,
  EXIT_REASON_SEAMCALL,
  EXIT_REASON_TASK_SWITCH,
  EXIT_REASON_TDCALL,
  EXIT_REASON_TPR_BELOW_THRESHOLD,
  EXIT_REASON_TRIPLE_FAULT,
  EXIT_REASON_VMCALL,
  EXIT_REASON_VMCLEAR,
  EXIT_REASON_VMFUNC,
  EXIT_REASON_VMXON,
  EXIT_REASON_WBINVD,
  EXIT_REASON_XSETBV,
  GUEST_PHYSICAL_ADDRESS,
  INTR_INFO_DELIVER_CODE_MASK,
  INTR_INFO_INTR_TYPE_MASK,
  INTR_INFO_UNBLOCK_NMI,
  INTR_INFO_VALID_MASK,
  INTR_INFO_VECTOR_MASK,
  INTR_TYPE_NMI_INTR,
  INTR_TYPE_PRIV_SW_EXCEPTION,
  VM_EXIT_INSTRUCTION_LEN,
  VM_EXIT_INTR_ERROR_CODE,
  VMX_EXIT_REASONS_FAILED_VMENTRY,
  VMX_INSTRUCTION_INFO,
  vmcsRead32,
  vmcsRead64,
} from './vmcs.ts';
import { handleApicAccess, handleApicEoiInduced, handleApicWrite } from './vmx_apicv.ts';
import { vmxHandleInterruptWindow, vmxHandleNmiWindow, vmxSetNmiMask } from './vmx_events.ts';
import { handleCr, handleDr, handleUd } from './vmx_register_exits.ts';

type Handler = (vcpu: X86Vcpu) => number;

const goOn: Handler = () => 1;
const handleNothing: Handler = (vcpu) => kvmSkipEmulatedInstruction(vcpu);

const gpa = (vcpu: X86Vcpu): Gpa => Number(vmcsRead64(toVmx(vcpu).v, GUEST_PHYSICAL_ADDRESS));

/** @upstream handle_exception_nmi() */
function handleExceptionNmi(vcpu: X86Vcpu): number {
  const vmx = toVmx(vcpu);
  const info = vmxGetIntrInfo(vcpu);
  // NMIs and machine checks were handled with interrupts off.
  if ((info & INTR_INFO_INTR_TYPE_MASK) === INTR_TYPE_NMI_INTR) return 1;
  const vector = info & INTR_INFO_VECTOR_MASK;
  const errorCode = info & INTR_INFO_DELIVER_CODE_MASK ? vmcsRead32(vmx.v, VM_EXIT_INTR_ERROR_CODE) : 0;
  switch (vector) {
    case UD_VECTOR:
      return handleUd(vcpu);
    case PF_VECTOR:
      // Only when the exception bitmap asks for it (allow_smaller_maxphyaddr): hand it back to the guest.
      kvmInjectPageFault(vcpu, vmxGetExitQual(vcpu), errorCode);
      return 1;
    case DB_VECTOR: {
      const dr6 = vmxGetExitQual(vcpu);
      if (vcpu.arch.guestDebug === 0) {
        // INT1 is a trap, but its exit comes before RIP moves on.
        if ((info & INTR_INFO_INTR_TYPE_MASK) === INTR_TYPE_PRIV_SW_EXCEPTION)
          vcpu.kvm.ops.skipEmulatedInstruction(vcpu);
        kvmQueueExceptionP(vcpu, DB_VECTOR, dr6);
        return 1;
      }
      return debugExit(vcpu, DB_VECTOR, dr6);
    }
    case BP_VECTOR:
      vcpu.arch.eventExitInstLen = vmcsRead32(vmx.v, VM_EXIT_INSTRUCTION_LEN);
      return debugExit(vcpu, BP_VECTOR, 0n);
    case AC_VECTOR:
      kvmQueueExceptionE(vcpu, AC_VECTOR, errorCode);
      return 1;
    case GP_VECTOR:
      kvmInjectGp(vcpu, errorCode);
      return 1;
    default: {
      const { exception } = vcpu.run;
      exception.hardwareExitReason = vector;
      exception.errorCode = errorCode;
      vcpu.run.setExit(exception);
      return 0;
    }
  }
}

function debugExit(vcpu: X86Vcpu, vector: number, dr6: bigint): number {
  const { debug } = vcpu.run;
  debug.exception = vector;
  debug.pc = toPc(vcpu);
  debug.dr6 = dr6 | 0xffff_0ff0n;
  debug.dr7 = vcpu.arch.guestDebugDr7;
  vcpu.run.setExit(debug);
  return 0;
}
const toPc = (vcpu: X86Vcpu): bigint => vcpu.kvm.ops.getSegmentBase(vcpu, 1) + kvmRipRead(vcpu);

/** @upstream handle_io() */
function handleIo(vcpu: X86Vcpu): number {
  const qualification = Number(vmxGetExitQual(vcpu));
  vcpu.stat.io_exits++;
  if (qualification & 16) return kvmEmulateInstruction(vcpu);
  return kvmFastPio(vcpu, ((qualification & 7) + 1) as 1 | 2 | 4, qualification >>> 16, (qualification & 8) !== 0);
}

/** @upstream handle_ept_violation() */
function handleEptViolation(vcpu: X86Vcpu): number {
  const vmx = toVmx(vcpu);
  const qualification = vmxGetExitQual(vcpu);
  // The exit came out of an IRET that had unblocked NMIs already: they are blocked until it really completes.
  if ((vmx.idtVectoringInfo & INTR_INFO_VALID_MASK) === 0 && qualification & BigInt(INTR_INFO_UNBLOCK_NMI))
    vmxSetNmiMask(vcpu, true);
  const address = gpa(vcpu);
  trace.kvm_page_fault?.(vcpu.vcpuId, kvmRipRead(vcpu), address, qualification);
  return vmxHandleEptViolationCommon(vcpu, address, qualification);
}

/** MMIO: the entry is misconfigured on purpose. @upstream handle_ept_misconfig() */
function handleEptMisconfig(vcpu: X86Vcpu): number {
  return kvmHandleMmioMisconfig(vcpu, gpa(vcpu));
}

/** @upstream handle_triple_fault() */
function handleTripleFault(vcpu: X86Vcpu): number {
  vcpu.run.setPlainExit(EXIT_SHUTDOWN);
  return 0;
}

/** @upstream handle_invpcid() */
function handleInvpcid(vcpu: X86Vcpu): number {
  const info = vmcsRead32(toVmx(vcpu).v, VMX_INSTRUCTION_INFO);
  const type = kvmRegisterReadRaw(vcpu, (info >>> 28) & 15);
  return kvmHandleInvpcid(vcpu, type);
}

/** @upstream handle_task_switch(): hardware task switches of a guest are not emulated. */
function handleTaskSwitch(vcpu: X86Vcpu): number {
  vcpu.run.setInternalError(KVM_INTERNAL_ERROR_SIMUL_EX, [vmxGetExitQual(vcpu)]);
  return 0;
}

/** @upstream handle_pause() */
function handlePause(vcpu: X86Vcpu): number {
  // A vCPU that spins waits for another one: let that run.
  vcpu.task.needResched = true;
  return kvmSkipEmulatedInstruction(vcpu);
}

/** @upstream handle_invlpg(): only without EPT, or where user space wants it. */
function handleInvlpg(vcpu: X86Vcpu): number {
  vcpu.kvm.ops.flushTlbGva(vcpu, vmxGetExitQual(vcpu));
  return kvmSkipEmulatedInstruction(vcpu);
}

function handleMonitorTrap(_vcpu: X86Vcpu): number {
  return 1;
}

function handleTprBelowThreshold(vcpu: X86Vcpu): number {
  kvmMakeRequest(KVM_REQ_EVENT, vcpu);
  return 1;
}

const handlers: (Handler | undefined)[] = new Array<Handler | undefined>(80).fill(undefined);
handlers[EXIT_REASON_EXCEPTION_NMI] = handleExceptionNmi;
handlers[EXIT_REASON_EXTERNAL_INTERRUPT] = (vcpu) => {
  vcpu.stat.irq_exits++;
  return 1;
};
handlers[EXIT_REASON_TRIPLE_FAULT] = handleTripleFault;
handlers[EXIT_REASON_INTERRUPT_WINDOW] = vmxHandleInterruptWindow;
handlers[EXIT_REASON_NMI_WINDOW] = vmxHandleNmiWindow;
handlers[EXIT_REASON_TASK_SWITCH] = handleTaskSwitch;
handlers[EXIT_REASON_CPUID] = kvmEmulateCpuid;
handlers[EXIT_REASON_HLT] = kvmEmulateHalt;
handlers[EXIT_REASON_INVD] = handleNothing;
handlers[EXIT_REASON_INVLPG] = handleInvlpg;
handlers[EXIT_REASON_RDPMC] = (vcpu) => {
  // No performance counters are offered.
  kvmInjectGp(vcpu);
  return 1;
};
handlers[EXIT_REASON_VMCALL] = kvmEmulateHypercall;
for (let reason = EXIT_REASON_VMCLEAR; reason <= EXIT_REASON_VMXON; reason++) handlers[reason] = handleUd;
handlers[EXIT_REASON_INVEPT] = handleUd;
handlers[EXIT_REASON_INVVPID] = handleUd;
handlers[EXIT_REASON_VMFUNC] = handleUd;
handlers[EXIT_REASON_CR_ACCESS] = handleCr;
handlers[EXIT_REASON_DR_ACCESS] = handleDr;
handlers[EXIT_REASON_IO_INSTRUCTION] = handleIo;
handlers[EXIT_REASON_MSR_READ] = kvmEmulateRdmsr;
handlers[EXIT_REASON_MSR_WRITE] = kvmEmulateWrmsr;
handlers[EXIT_REASON_MWAIT_INSTRUCTION] = kvmEmulateMwait;
handlers[EXIT_REASON_MONITOR_TRAP_FLAG] = handleMonitorTrap;
handlers[EXIT_REASON_MONITOR_INSTRUCTION] = kvmEmulateMonitor;
handlers[EXIT_REASON_PAUSE_INSTRUCTION] = handlePause;
handlers[EXIT_REASON_MCE_DURING_VMENTRY] = goOn;
handlers[EXIT_REASON_TPR_BELOW_THRESHOLD] = handleTprBelowThreshold;
handlers[EXIT_REASON_APIC_ACCESS] = handleApicAccess;
handlers[EXIT_REASON_EOI_INDUCED] = handleApicEoiInduced;
handlers[EXIT_REASON_APIC_WRITE] = handleApicWrite;
handlers[EXIT_REASON_GDTR_IDTR] = kvmEmulateInstruction;
handlers[EXIT_REASON_LDTR_TR] = kvmEmulateInstruction;
handlers[EXIT_REASON_EPT_VIOLATION] = handleEptViolation;
handlers[EXIT_REASON_EPT_MISCONFIG] = handleEptMisconfig;
handlers[EXIT_REASON_PREEMPTION_TIMER] = goOn;
handlers[EXIT_REASON_WBINVD] = handleNothing;
handlers[EXIT_REASON_XSETBV] = kvmEmulateXsetbv;
handlers[EXIT_REASON_RDRAND] = handleUd;
handlers[EXIT_REASON_RDSEED] = handleUd;
handlers[EXIT_REASON_INVPCID] = handleInvpcid;
handlers[EXIT_REASON_SEAMCALL] = handleUd;
handlers[EXIT_REASON_TDCALL] = handleUd;

/** Exits that may come while an event is being delivered; any other one then is an internal error. */
const VECTORING_ALLOWED: ReadonlySet<number> = new Set([
  EXIT_REASON_EXCEPTION_NMI,
  EXIT_REASON_EPT_VIOLATION,
  EXIT_REASON_PML_FULL,
  EXIT_REASON_APIC_ACCESS,
  EXIT_REASON_TASK_SWITCH,
  EXIT_REASON_EPT_MISCONFIG,
]);

/** @upstream vmx_handle_exit() */
export function vmxHandleExit(vcpu: X86Vcpu, fastpath: number): number {
  const vmx = toVmx(vcpu);
  const reason = vmx.exitReason;
  if (reason & VMX_EXIT_REASONS_FAILED_VMENTRY) {
    return failEntry(vcpu, BigInt(reason >>> 0));
  }
  if (vmx.fail !== 0) return failEntry(vcpu, BigInt(vmx.vmInstructionError));
  if (vmx.idtVectoringInfo & INTR_INFO_VALID_MASK && !VECTORING_ALLOWED.has(reason)) {
    vcpu.run.setInternalError(KVM_INTERNAL_ERROR_DELIVERY_EV, [
      BigInt(vmx.idtVectoringInfo >>> 0),
      BigInt(reason),
      vmxGetExitQual(vcpu),
    ]);
    return 0;
  }
  if (fastpath !== 0) return 1;
  const handler = handlers[reason];
  if (handler !== undefined) return handler(vcpu);
  vcpu.run.setInternalError(KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, [BigInt(reason), BigInt(vcpu.cpu?.id ?? 0)]);
  return 0;
}

function failEntry(vcpu: X86Vcpu, reason: bigint): number {
  const exit = vcpu.run.failEntry;
  exit.hardwareEntryFailureReason = reason;
  exit.cpu = vcpu.cpu?.id ?? 0;
  vcpu.run.setExit(exit);
  return 0;
}
