/**
 * What x86 KVM can do on a host, found out while it loads.
 *
 * @upstream arch/x86/kvm/x86.h struct kvm_caps
 */
import type { Cpus } from '../../host/cpus.ts';
import type { Host } from '../../host/host.ts';
import { KVM_X86_DEFAULT_VM, KVM_X86_SW_PROTECTED_VM } from './kvm_host.ts';

/** @upstream struct kvm_caps */
export interface KvmCaps {
  /** VM types that can be created, a bit each. */
  supportedVmTypes: number;
}

const caps: WeakMap<Cpus, KvmCaps> = new WeakMap();

/** The capabilities of a host's KVM; the backends add theirs at load. */
export function kvmCaps(host: Host): KvmCaps {
  let known = caps.get(host.cpus);
  if (known === undefined) {
    known = { supportedVmTypes: (1 << KVM_X86_DEFAULT_VM) | (1 << KVM_X86_SW_PROTECTED_VM) };
    caps.set(host.cpus, known);
  }
  return known;
}

/** KVM is unloaded. */
export function forgetKvmCaps(host: Host): void {
  caps.delete(host.cpus);
}

/** Whether KVM_CREATE_VM takes a type. @upstream kvm_is_vm_type_supported() */
export const kvmIsVmTypeSupported = (host: Host, type: number): boolean =>
  Number.isInteger(type) && type >= 0 && type < 32 && (kvmCaps(host).supportedVmTypes & (1 << type)) !== 0;
