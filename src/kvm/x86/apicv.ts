/**
 * Whether KVM uses APIC virtualization: the module parameter, and what keeps a VM from it.
 *
 * @upstream arch/x86/kvm/x86.c enable_apicv, kvm_set_or_clear_apicv_inhibit(), kvm_vcpu_update_apicv()
 */
import type { Cpus } from '../../host/cpus.ts';
import type { Host } from '../../host/host.ts';

const enabled: WeakMap<Cpus, boolean> = new WeakMap();

/** Whether virtual-interrupt delivery and posted interrupts are in use on this host. @upstream enable_apicv */
export const enableApicv = (host: Host): boolean => enabled.get(host.cpus) ?? false;
/** Set once by hardware setup: the parameter, and what the processors offer. */
export function setEnableApicv(host: Host, on: boolean): void {
  enabled.set(host.cpus, on);
}
