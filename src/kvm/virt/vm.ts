/** Making and destroying VMs. @upstream virt/kvm/kvm_main.c kvm_create_vm(), kvm_destroy_vm() */
import type { Errno } from '../../host/errno.ts';
import { hardwareDisableAll, hardwareEnableAll } from './hardware.ts';
import { type Kvm, type KvmModule, kvmVmDead } from './kvm_host.ts';
import { kvmMmuNotifierInvalidateRange } from './mmu_notifier.ts';
import { kvmDestroyVcpus } from './vcpu.ts';

/** A new VM, or a negative errno. The first one turns virtualization on. */
export function kvmCreateVm(module: KvmModule, type: number): Kvm | Errno {
  const { arch } = module;
  const kvm = arch.kvmArchAllocVm(module, type);
  let result = arch.kvmArchInitVm(kvm, type);
  if (result !== 0) return result;
  result = hardwareEnableAll(module);
  if (result !== 0) {
    arch.kvmArchDestroyVm(kvm);
    return result;
  }
  const unmap = (start: number, end: number): void => kvmMmuNotifierInvalidateRange(kvm, start, end);
  kvm.mm.registerNotifier(unmap);
  kvm.releaseMm = () => kvm.mm.unregisterNotifier(unmap);
  module.vmList.push(kvm);
  kvm.created = true;
  return kvm;
}

/** One more that keeps the VM alive. @upstream kvm_get_kvm() */
export function kvmGetKvm(kvm: Kvm): void {
  kvm.usersCount++;
}

/** One less: after the last the VM is destroyed. @upstream kvm_put_kvm() */
export function kvmPutKvm(kvm: Kvm): void {
  kvm.usersCount--;
  if (kvm.usersCount === 0) kvmDestroyVm(kvm);
}

/** Nothing refers to the VM any more. The last VM turns virtualization off. */
function kvmDestroyVm(kvm: Kvm): void {
  if (!kvm.created) return;
  kvm.created = false;
  // A KVM_RUN that waits for its turn or its guest's events finds the VM dead when it goes on.
  kvmVmDead(kvm);
  const { module } = kvm;
  const { arch } = module;
  module.vmList.splice(module.vmList.indexOf(kvm), 1);
  for (const hook of kvm.onDestroy.splice(0)) hook();
  arch.kvmArchPreDestroyVm(kvm);
  kvm.releaseMm();
  kvmDestroyVcpus(kvm);
  arch.kvmArchDestroyVm(kvm);
  kvm.memslots = [];
  hardwareDisableAll(module);
}
