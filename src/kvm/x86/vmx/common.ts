/**
 * What both backends share: the common part of their vCPUs, which kind a VM is, and handing EPT faults to the MMU.
 *
 * @upstream arch/x86/kvm/vmx/common.h
 */
import type { Gpa } from '../../../util/address.ts';
import { KVM_X86_TDX_VM, type X86Vcpu, type X86Vm } from '../kvm_host.ts';
import { kvmMmuPageFault } from '../mmu/mmu.ts';
import {
  PFERR_FETCH_MASK,
  PFERR_GUEST_FINAL_MASK,
  PFERR_GUEST_PAGE_MASK,
  PFERR_PRESENT_MASK,
  PFERR_PRIVATE_ACCESS,
  PFERR_USER_MASK,
  PFERR_WRITE_MASK,
} from '../mmu/pferr.ts';

import type { PiDesc } from './pi_desc.ts';

/** The part of a backend's vCPU that common code reads. @upstream struct vcpu_vt */
export abstract class VcpuVt {
  /** Whole exit-reason field. */
  exitReason = 0;
  exitQualification = 0n;
  exitIntrInfo = 0;
  /** Guest MSRs that the host also uses are loaded. */
  guestStateLoaded = false;
  /** Where interrupts are posted; null without an in-kernel APIC. */
  piDesc: PiDesc | null = null;
  /** Other vCPUs' processors post here by themselves. @upstream vmx_can_use_ipiv() */
  usesIpiv = false;
}

/** Whether a VM is a trust domain. @upstream is_td() */
export const isTd = (kvm: X86Vm): boolean => kvm.arch.vmType === KVM_X86_TDX_VM;
/** @upstream is_td_vcpu() */
export const isTdVcpu = (vcpu: X86Vcpu): boolean => isTd(vcpu.kvm);

// Exit qualification of EPT violations.
const EPT_VIOLATION_ACC_WRITE = 1n << 1n;
const EPT_VIOLATION_ACC_INSTR = 1n << 2n;
const EPT_VIOLATION_ACC_READ = 1n << 0n;
const EPT_VIOLATION_PROT_MASK = 7n << 3n;
const EPT_VIOLATION_GVA_IS_VALID = 1n << 7n;
const EPT_VIOLATION_GVA_TRANSLATED = 1n << 8n;

/**
 * An EPT violation as a page fault of the guest-physical address.
 *
 * @param gpa as the guest used it: a shared address of a TD has its shared bit
 * @param isPrivate whether the guest's access was to private memory; only a TD's exits tell
 * @upstream __vmx_handle_ept_violation()
 */
export function vmxHandleEptViolationCommon(vcpu: X86Vcpu, gpa: Gpa, qualification: bigint, isPrivate = false): number {
  let errorCode = isPrivate ? PFERR_PRIVATE_ACCESS : 0;
  if (qualification & EPT_VIOLATION_ACC_READ) errorCode |= PFERR_USER_MASK;
  if (qualification & EPT_VIOLATION_ACC_WRITE) errorCode |= PFERR_WRITE_MASK;
  if (qualification & EPT_VIOLATION_ACC_INSTR) errorCode |= PFERR_FETCH_MASK;
  if (qualification & EPT_VIOLATION_PROT_MASK) errorCode |= PFERR_PRESENT_MASK;
  if (qualification & EPT_VIOLATION_GVA_IS_VALID)
    errorCode |= qualification & EPT_VIOLATION_GVA_TRANSLATED ? PFERR_GUEST_FINAL_MASK : PFERR_GUEST_PAGE_MASK;
  return kvmMmuPageFault(vcpu, gpa, errorCode);
}
