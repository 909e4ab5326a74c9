/**
 * vCPUs: creation, destruction, being loaded on a CPU, and running.
 *
 * @upstream virt/kvm/kvm_main.c kvm_vm_ioctl_create_vcpu(), vcpu_load(), kvm_vcpu_block()
 */
import { EEXIST, EINVAL, EIO, type Errno } from '../../host/errno.ts';
import { RUN_BLOCK, type RunResult } from './arch_hooks.ts';
import type { Kvm, KvmVcpu } from './kvm_host.ts';

/** vCPU ids are below this many times the number of vCPUs. */
const VCPU_ID_RATIO = 4;
export const KVM_MAX_VCPUS = 1024;
export const KVM_MAX_VCPU_IDS: number = KVM_MAX_VCPUS * VCPU_ID_RATIO;

/** A new vCPU, or a negative errno. */
export function kvmVmIoctlCreateVcpu(kvm: Kvm, id: number): KvmVcpu | Errno {
  if (kvm.vmBugged) return -EIO;
  if (!Number.isInteger(id) || id < 0 || id >= KVM_MAX_VCPU_IDS) return -EINVAL;
  if (kvm.vcpus.length >= kvm.maxVcpus) return -EINVAL;
  const arch = kvm.arch_hooks;
  const failed = arch.kvmArchVcpuPrecreate(kvm, id);
  if (failed !== 0) return failed;
  if (kvm.vcpus.some((vcpu) => vcpu.vcpuId === id)) return -EEXIST;
  const vcpu = arch.kvmArchAllocVcpu(kvm, id);
  const result = arch.kvmArchVcpuCreate(vcpu);
  if (result !== 0) return result;
  kvm.vcpus.push(vcpu);
  arch.kvmArchVcpuPostcreate(vcpu);
  return vcpu;
}

/** @upstream kvm_destroy_vcpus() */
export function kvmDestroyVcpus(kvm: Kvm): void {
  for (const vcpu of kvm.vcpus.splice(0)) {
    vcpuUnload(vcpu);
    kvm.arch_hooks.kvmArchVcpuDestroy(vcpu);
  }
}

/**
 * Loads a vCPU on the current CPU. It stays there until another one is loaded, so a vCPU that goes to user space and
 * comes back pays nothing: upstream's preemption notifiers do their work only when something else runs, too.
 *
 * @upstream vcpu_load(), kvm_sched_in()
 */
export function vcpuLoad(vcpu: KvmVcpu): void {
  const { module } = vcpu.kvm;
  const cpu = module.host.cpu;
  const loaded = module.runningVcpu[cpu.id] ?? null;
  if (loaded === vcpu) return;
  if (loaded !== null) {
    module.arch.kvmArchVcpuPut(loaded);
    module.runningVcpu[cpu.id] = null;
  }
  vcpuUnload(vcpu);
  module.runningVcpu[cpu.id] = vcpu;
  module.arch.kvmArchVcpuLoad(vcpu, cpu);
}

/** Takes a vCPU off the CPU it is loaded on. @upstream vcpu_put(), kvm_sched_out() */
export function vcpuUnload(vcpu: KvmVcpu): void {
  const { module } = vcpu.kvm;
  const { cpu } = vcpu;
  if (cpu === null || module.runningVcpu[cpu.id] !== vcpu) return;
  const { cpus } = module.host;
  const put = (): void => {
    module.arch.kvmArchVcpuPut(vcpu);
    module.runningVcpu[cpu.id] = null;
  };
  if (cpus.current === cpu) put();
  else cpus.smpCallFunctionSingle(cpu, put);
}

/** Begins or continues KVM_RUN on the current CPU; see {@link RunResult}. @upstream kvm_vcpu_ioctl() case KVM_RUN */
export function kvmVcpuIoctlRun(vcpu: KvmVcpu): RunResult {
  const { kvm } = vcpu;
  if (kvm.vmDead || kvm.vmBugged) {
    vcpu.running = false;
    return -EIO;
  }
  vcpuLoad(vcpu);
  const result = kvm.arch_hooks.kvmArchVcpuIoctlRun(vcpu);
  // Who waits is not on its CPU: interrupts that come without KVM's doing must know that they have to wake it.
  if (result === RUN_BLOCK) vcpuUnload(vcpu);
  return result;
}
