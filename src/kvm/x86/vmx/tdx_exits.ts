/**
 * What KVM does about each exit of a TD. A handler returns 1 to go on, 0 to exit to user space, or a negative errno.
 *
 * @upstream arch/x86/kvm/vmx/tdx.c tdx_handle_exit(), tdx_handle_ept_violation()
 */
import { EIO } from '../../../host/errno.ts';
import { TDX_ERROR, TDX_NON_RECOVERABLE, tdxSwError } from '../../../host/tdx-errno.ts';
import { type Gfn, PAGE_SIZE } from '../../../util/address.ts';
import { trace } from '../../../util/trace.ts';
import { KVM_REQ_VM_DEAD, kvmTestRequest, kvmVmBugged, kvmVmDead } from '../../virt/kvm_host.ts';
import { EXIT_SHUTDOWN, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON } from '../../virt/kvm_run.ts';
import { kvmEmulateHaltNoskip } from '../halt.ts';
import { KVM_REQ_TRIPLE_FAULT, type X86Vcpu } from '../kvm_host.ts';
import { isShadowPresentPte } from '../mmu/spte.ts';
import { PG_LEVEL_4K } from '../mmu/tdp_mmu.ts';
import { vmxHandleEptViolationCommon } from './common.ts';
import {
  EXIT_REASON_OTHER_SMI,
  TDX_EXT_EXIT_QUAL_TYPE_MASK,
  TDX_EXT_EXIT_QUAL_TYPE_PENDING_EPT_VIOLATION,
} from './tdx_arch.ts';
import {
  tdxEmulateCpuid,
  tdxEmulateIo,
  tdxEmulateMmio,
  tdxEmulateRdmsr,
  tdxEmulateVmcall,
  tdxEmulateWrmsr,
} from './tdx_emulate.ts';
import { kvmVcpuHasEvents } from './tdx_irq.ts';
import { handleTdvmcall } from './tdx_tdvmcall.ts';
import { toTdx, vtIsTdxPrivateGpa } from './tdx_types.ts';
import {
  EXIT_REASON_CPUID,
  EXIT_REASON_EPT_MISCONFIG,
  EXIT_REASON_EPT_VIOLATION,
  EXIT_REASON_EXCEPTION_NMI,
  EXIT_REASON_EXTERNAL_INTERRUPT,
  EXIT_REASON_HLT,
  EXIT_REASON_IO_INSTRUCTION,
  EXIT_REASON_MSR_READ,
  EXIT_REASON_MSR_WRITE,
  EXIT_REASON_TDCALL,
  EXIT_REASON_TRIPLE_FAULT,
  EXIT_REASON_VMCALL,
  INTR_INFO_VECTOR_MASK,
  VMX_EXIT_REASONS_FAILED_VMENTRY,
} from './vmcs.ts';

const NMI_VECTOR = 2;
const MC_VECTOR = 18;

const EPT_VIOLATION_ACC_WRITE = 2n;
const EPT_VIOLATION_ACC_INSTR = 4n;
/** R, W, X and X for user mode of the entry that was violated. */
const EPT_VIOLATION_PROT_MASK = 0x78n;

/** A lock is held for a moment; nobody else runs in between, so many more tries would not help. */
const LOCAL_TRIES = 64;

/** NMIs and machine checks were handled already. @upstream tdx_handle_exception_nmi() */
function handleExceptionNmi(vcpu: X86Vcpu): number {
  const tdx = toTdx(vcpu);
  const vector = tdx.exitIntrInfo & INTR_INFO_VECTOR_MASK;
  if (vector === NMI_VECTOR || vector === MC_VECTOR) return 1;
  // A TD's exceptions are its own business: the module never lets one out.
  const { exception } = vcpu.run;
  exception.hardwareExitReason = vector;
  exception.errorCode = 0;
  vcpu.run.setExit(exception);
  return 0;
}

/** The guest touched a page that it knows nothing of, and does not want to be told. @upstream tdx_is_sept_violation_unexpected_pending() */
function isUnexpectedPending(qualification: bigint, extended: bigint): boolean {
  if ((extended & TDX_EXT_EXIT_QUAL_TYPE_MASK) !== TDX_EXT_EXIT_QUAL_TYPE_PENDING_EPT_VIOLATION) return false;
  return (qualification & EPT_VIOLATION_PROT_MASK) === 0n;
}

/** @upstream tdx_handle_ept_violation() */
function handleEptViolation(vcpu: X86Vcpu): number {
  const tdx = toTdx(vcpu);
  const { kvm } = vcpu;
  const { exitGpa: gpa } = tdx;
  const isPrivate = vtIsTdxPrivateGpa(kvm, gpa);
  let qualification = tdx.exitQualification;
  if (isPrivate) {
    if (isUnexpectedPending(qualification, tdx.extExitQualification)) {
      kvm.host.log(`kvm: guest access before accepting ${gpa.toString(16)} on vCPU ${vcpu.vcpuId}`);
      kvmVmDead(kvm);
      return -EIO;
    }
    // The secure EPT has no access rights to tell kinds of access by: private pages are writable.
    qualification = EPT_VIOLATION_ACC_WRITE;
  } else if (qualification & EPT_VIOLATION_ACC_INSTR) {
    // The processor gives #PF to a TD that executes shared memory.
    kvmVmBugged(kvm, 'a TD fetched an instruction from shared memory');
    return -EIO;
  }
  trace.kvm_page_fault?.(vcpu.vcpuId, 0n, Number(gpa), qualification);
  const fault = (): number => vmxHandleEptViolationCommon(vcpu, Number(gpa), qualification, isPrivate);
  return isPrivate ? untilMapped(vcpu, Math.floor(Number(gpa) / PAGE_SIZE), fault) : fault();
}

/**
 * Tries again here, and not by letting the guest fault again, while a lock of the module is taken: the module suspects a host
 * that makes a TD fault at the same place over and over.
 */
function untilMapped(vcpu: X86Vcpu, gfn: Gfn, fault: () => number): number {
  for (let tries = LOCAL_TRIES; ; tries--) {
    const result = fault();
    if (result !== 1 || tries === 0 || isMapped(vcpu, gfn)) return result;
    if (vcpu.task.signalPending || kvmVcpuHasEvents(vcpu)) return result;
    if (kvmTestRequest(KVM_REQ_VM_DEAD, vcpu)) return -EIO;
  }
}

function isMapped(vcpu: X86Vcpu, gfn: Gfn): boolean {
  const walk = vcpu.kvm.arch.mirrorMmu?.lookup(gfn) ?? null;
  return walk !== null && walk.level === PG_LEVEL_4K && isShadowPresentPte(walk.spte);
}

const handlers: Readonly<Record<number, (vcpu: X86Vcpu) => number>> = {
  [EXIT_REASON_TRIPLE_FAULT]: (vcpu) => {
    vcpu.requests &= ~(1 << KVM_REQ_TRIPLE_FAULT);
    vcpu.run.setPlainExit(EXIT_SHUTDOWN);
    return 0;
  },
  [EXIT_REASON_EXCEPTION_NMI]: handleExceptionNmi,
  // Handled where interrupts were off.
  [EXIT_REASON_EXTERNAL_INTERRUPT]: () => 1,
  [EXIT_REASON_CPUID]: tdxEmulateCpuid,
  [EXIT_REASON_HLT]: kvmEmulateHaltNoskip,
  [EXIT_REASON_VMCALL]: tdxEmulateVmcall,
  [EXIT_REASON_IO_INSTRUCTION]: tdxEmulateIo,
  [EXIT_REASON_MSR_READ]: tdxEmulateRdmsr,
  [EXIT_REASON_MSR_WRITE]: tdxEmulateWrmsr,
  [EXIT_REASON_EPT_MISCONFIG]: tdxEmulateMmio,
  [EXIT_REASON_EPT_VIOLATION]: handleEptViolation,
  [EXIT_REASON_TDCALL]: handleTdvmcall,
  // Unblocks SMIs, nothing more.
  [EXIT_REASON_OTHER_SMI]: () => 1,
};

/** @upstream tdx_handle_exit() */
export function tdxHandleExit(vcpu: X86Vcpu, fastpath: number): number {
  if (fastpath !== 0) return 1;
  const tdx = toTdx(vcpu);
  const { vpEnterRet, exitReason } = tdx;
  if (tdxSwError(vpEnterRet)) {
    if (!vcpu.kvm.module.rebooting) kvmVmBugged(vcpu.kvm, 'SEAMCALL of TDH.VP.ENTER failed');
    return unhandled(vcpu);
  }
  if (exitReason !== -1 && exitReason & VMX_EXIT_REASONS_FAILED_VMENTRY) {
    const exit = vcpu.run.failEntry;
    exit.hardwareEntryFailureReason = BigInt(exitReason >>> 0);
    exit.cpu = vcpu.cpu?.id ?? 0;
    vcpu.run.setExit(exit);
    return 0;
  }
  // The TD or the vCPU is lost.
  if (vpEnterRet & (TDX_ERROR | TDX_NON_RECOVERABLE) && exitReason !== EXIT_REASON_TRIPLE_FAULT) return unhandled(vcpu);
  const handler = handlers[exitReason];
  return handler === undefined ? unhandled(vcpu) : handler(vcpu);
}

function unhandled(vcpu: X86Vcpu): number {
  const data = [toTdx(vcpu).vpEnterRet, BigInt(vcpu.cpu?.id ?? 0)];
  vcpu.run.setInternalError(KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, data);
  return 0;
}
