/**
 * Which vectors' ends must come to KVM although the hardware ends interrupts by itself: those that an I/O APIC waits for.
 *
 * @upstream arch/x86/kvm/x86.c vcpu_scan_ioapic(), vcpu_load_eoi_exitmap()
 */
import { APIC } from '../../devices/lapic-registers.ts';
import { kvmMakeRequest } from '../virt/kvm_host.ts';
import { kvmVcpuApicvActive } from './apicv.ts';
import { kvmScanIoapicRoutes } from './irq_comm.ts';
import { KVM_REQ_LOAD_EOI_EXITMAP, type X86Vcpu } from './kvm_host.ts';

/** Collects the vectors that the I/O APIC (or its routes, where it is in user space) may send to the vCPU. */
export function vcpuScanIoapic(vcpu: X86Vcpu): void {
  const { arch, kvm } = vcpu;
  const { apic, ioapicHandledVectors } = arch;
  if (apic === null || !kvmVcpuApicvActive(vcpu)) return;
  ioapicHandledVectors.fill(0);
  kvm.ops.syncPirToIrr(vcpu);
  const add = (vector: number, destination: number, logical: boolean): void => {
    // An interrupt of an earlier route may still have to end.
    const { registers } = apic.state;
    const word = 4 * (vector >> 5);
    const inFlight = registers[(APIC.IRR >> 2) + word]! | registers[(APIC.ISR >> 2) + word]!;
    if (apic.matches(destination, logical) || (inFlight >>> (vector & 31)) & 1)
      ioapicHandledVectors[vector >> 5]! |= 1 << (vector & 31);
  };
  if (kvm.arch.irqchipMode === 'split') kvmScanIoapicRoutes(kvm, add);
  else kvm.arch.vioapic?.scanEntries(add);
  kvmMakeRequest(KVM_REQ_LOAD_EOI_EXITMAP, vcpu);
}

/** Gives the vectors to the hardware. */
export function vcpuLoadEoiExitmap(vcpu: X86Vcpu): void {
  vcpu.kvm.ops.loadEoiExitmap(vcpu, vcpu.arch.ioapicHandledVectors);
}
