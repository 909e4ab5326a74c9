/**
 * INIT and SIPI as a vCPU takes them: apart from lapic.ts because a reset of the vCPU resets its local APIC.
 *
 * @upstream arch/x86/kvm/lapic.c kvm_apic_accept_events()
 */
import type { Errno } from '../../host/errno.ts';
import { KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_RUNNABLE, type X86Vcpu } from './kvm_host.ts';
import { KVM_APIC_INIT, KVM_APIC_SIPI } from './lapic.ts';
import { kvmVcpuReset } from './vcpu_reset.ts';

/** @upstream kvm_apic_has_pending_init_or_sipi() */
export const kvmApicHasPendingInitOrSipi = (vcpu: X86Vcpu): boolean =>
  vcpu.arch.apic !== null && vcpu.arch.apic.pendingEvents !== 0;

/** Takes a pending INIT, and a SIPI if the vCPU waits for one; a SIPI at any other time is lost. */
export function kvmApicAcceptEvents(vcpu: X86Vcpu): Errno {
  const { arch, kvm } = vcpu;
  const { apic } = arch;
  if (apic === null || apic.pendingEvents === 0) return 0;
  if (kvm.ops.apicInitSignalBlocked(vcpu)) {
    // An INIT stays until it is unblocked.
    apic.pendingEvents &= ~KVM_APIC_SIPI;
    return 0;
  }
  if (apic.pendingEvents & KVM_APIC_INIT) {
    apic.pendingEvents &= ~KVM_APIC_INIT;
    kvmVcpuReset(vcpu, true);
    arch.mpState = vcpu.vcpuId === kvm.arch.bspVcpuId ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_INIT_RECEIVED;
  }
  if (apic.pendingEvents & KVM_APIC_SIPI) {
    apic.pendingEvents &= ~KVM_APIC_SIPI;
    if (arch.mpState === KVM_MP_STATE_INIT_RECEIVED) {
      kvm.ops.vcpuDeliverSipiVector(vcpu, apic.sipiVector);
      arch.mpState = KVM_MP_STATE_RUNNABLE;
    }
  }
  return 0;
}
