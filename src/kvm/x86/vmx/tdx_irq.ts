/**
 * Events of trust domains: interrupts are posted, an NMI is left with the module, everything else is out of KVM's hands.
 *
 * @upstream arch/x86/kvm/vmx/tdx.c tdx_deliver_interrupt(), tdx_inject_nmi(), tdx_protected_apic_has_interrupt()
 */
import type { Hpa } from '../../../util/address.ts';
import { kvmVmBugged } from '../../virt/kvm_host.ts';
import { kvmCpuHasInterrupt } from '../irq.ts';
import type { X86Vcpu } from '../kvm_host.ts';
import { piHasPendingInterrupt, vcpuToPiDesc, vmxDeliverPostedInterruptCommon } from './posted_intr.ts';
import { SHARED_EPT_POINTER, TD_VCPU_PEND_NMI, TD_VCPU_STATE_DETAILS } from './tdx_arch.ts';
import { toTdx } from './tdx_types.ts';
import { tdvpsRead, tdvpsWrite, vmcsWrite } from './tdx_vcpu.ts';
import { EXIT_REASON_HLT } from './vmcs.ts';

/** INVEPT of all contexts. */
const EXTENT_GLOBAL = 2;
const STATE_DETAILS_VMXIP = 1n;
const ALL_BITS = 0xffff_ffff_ffff_ffffn;

/** Posts the vector: there is no other way in. @upstream tdx_deliver_interrupt() */
export function tdxDeliverInterrupt(vcpu: X86Vcpu, vector: number): void {
  // The module's APIC page cannot be seen, so nothing may fall back to it.
  vmxDeliverPostedInterruptCommon(vcpu, vcpuToPiDesc(vcpu), vector);
}

/** @upstream tdx_inject_nmi() */
export function tdxInjectNmi(vcpu: X86Vcpu): void {
  const { arch } = vcpu;
  tdvpsWrite(vcpu, TD_VCPU_PEND_NMI, 1n, 0xffn);
  // From here on it is pending, not injected; and the module holds no more than one.
  arch.nmiInjected = false;
  arch.nmiPending = 0;
}

/** The guest waits with interrupts blocked only where it said so. @upstream tdx_interrupt_allowed() */
export function tdxInterruptAllowed(vcpu: X86Vcpu): boolean {
  const tdx = toTdx(vcpu);
  return tdx.exitReason !== EXIT_REASON_HLT || tdx.regs[12] === 0n;
}

/** Whether an interrupt would end the vCPU's wait. @upstream tdx_protected_apic_has_interrupt() */
export function tdxProtectedApicHasInterrupt(vcpu: X86Vcpu): boolean {
  if (piHasPendingInterrupt(vcpu)) return true;
  const tdx = toTdx(vcpu);
  // Elsewhere a pending interrupt was either taken at the boundary or must wait for the guest to unblock it.
  if (tdx.exitReason !== EXIT_REASON_HLT || tdx.regs[12] !== 0n) return false;
  return (tdvpsRead(vcpu, TD_VCPU_STATE_DETAILS) & STATE_DETAILS_VMXIP) !== 0n;
}

/** Whether something waits that the guest could take. @upstream kvm_vcpu_has_events() */
export const kvmVcpuHasEvents = (vcpu: X86Vcpu): boolean =>
  vcpu.arch.nmiQueued > 0 || vcpu.arch.nmiPending > 0 || kvmCpuHasInterrupt(vcpu);

/** The root of shared memory's tables; the secure EPT's is the module's. @upstream tdx_load_mmu_pgd() */
export function tdxLoadMmuPgd(vcpu: X86Vcpu, root: Hpa, rootLevel: number): void {
  const shared = rootLevel === 5 ? 2 ** 39 : 2 ** 35;
  if (shared !== vcpu.kvm.arch.gfnDirectBits) {
    kvmVmBugged(vcpu.kvm, `a root of ${rootLevel} levels does not fit the TD's shared bit`);
    return;
  }
  vmcsWrite(vcpu, SHARED_EPT_POINTER, BigInt(root), ALL_BITS);
}

/** Translations of shared memory, of all TDs: there is no EPTP of one to name. @upstream tdx_flush_tlb_all(), tdx_flush_tlb_current() */
export function tdxFlushTlb(vcpu: X86Vcpu): void {
  // TDH.MEM.TRACK has seen to private memory.
  vcpu.kvm.host.cpu.processor.vtx.invept(EXTENT_GLOBAL, 0n);
}
