/** KVM_PRE_FAULT_MEMORY: mapping guest memory before the guest runs. @upstream virt/kvm/kvm_main.c kvm_vcpu_pre_fault_memory() */
import { EINTR, EINVAL, type Errno } from '../../host/errno.ts';
import { isPageAligned } from '../../util/address.ts';
import type { KvmVcpu } from './kvm_host.ts';
import { vcpuLoad } from './vcpu.ts';

/** Arguments of KVM_PRE_FAULT_MEMORY in bytes; advanced over what is mapped. @upstream struct kvm_pre_fault_memory */
export interface KvmPreFaultMemory {
  gpa: number;
  size: number;
  readonly flags: bigint;
}

/** 0 if at least one page is mapped: then `range` is what remains. */
export function kvmVcpuPreFaultMemory(vcpu: KvmVcpu, range: KvmPreFaultMemory): Errno {
  if (range.flags !== 0n) return -EINVAL;
  if (!isPageAligned(range.gpa) || !isPageAligned(range.size) || range.size === 0) return -EINVAL;
  if (!Number.isSafeInteger(range.gpa + range.size)) return -EINVAL;
  vcpuLoad(vcpu);
  const fullSize = range.size;
  while (range.size > 0) {
    const done = vcpu.task.signalPending
      ? -EINTR
      : vcpu.kvm.arch_hooks.kvmArchVcpuPreFaultMemory(vcpu, range.gpa, range.size);
    if (done < 0) return range.size === fullSize ? done : 0;
    range.size -= done;
    range.gpa += done;
  }
  return 0;
}
