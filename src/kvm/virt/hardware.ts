/**
 * Turning virtualization on and off: on every CPU for the first user, off after the last, and along with CPUs that come
 * and go, suspend, and reboot.
 *
 *   (A) kvmArchHardwareEnable, after the compatibility check, on the CPU itself
 *   (B) kvmArchHardwareDisable, on the CPU itself
 *
 * @upstream virt/kvm/kvm_main.c hardware_enable_all() and what is around it, in the seed's order
 */
import type { Cpu } from '../../host/cpus.ts';
import { EBUSY, type Errno } from '../../host/errno.ts';
import { trace } from '../../util/trace.ts';
import type { KvmModule } from './kvm_host.ts';

/** Compatibility check, then (A), on the current CPU; a failure is noted in `hardwareEnableFailed`. @upstream hardware_enable_nolock() */
export function hardwareEnableNolock(kvm: KvmModule): void {
  const cpu = kvm.host.cpu;
  if (kvm.hardwareEnabled.has(cpu)) return;
  kvm.hardwareEnabled.add(cpu);
  const incompatible = kvm.arch.kvmArchCheckProcessorCompat(cpu);
  // An incompatible CPU is told by its own errno; whatever else keeps a CPU from enabling is −EBUSY.
  const result = incompatible !== 0 ? incompatible : kvm.arch.kvmArchHardwareEnable(cpu);
  trace.kvm_enable_virtualization_cpu?.(cpu.id, result);
  if (result === 0) return;
  kvm.hardwareEnabled.delete(cpu);
  if (kvm.hardwareEnableFailed === 0) kvm.hardwareEnableFailed = incompatible !== 0 ? incompatible : -EBUSY;
  kvm.host.log(`kvm: enabling virtualization on CPU${cpu.id} failed`);
}

/** (B) on the current CPU, if (A) was done there. @upstream hardware_disable_nolock() */
export function hardwareDisableNolock(kvm: KvmModule): void {
  const cpu = kvm.host.cpu;
  if (!kvm.hardwareEnabled.has(cpu)) return;
  putRunningVcpu(kvm, cpu);
  kvm.hardwareEnabled.delete(cpu);
  kvm.arch.kvmArchHardwareDisable(cpu);
  trace.kvm_disable_virtualization_cpu?.(cpu.id);
}

/** One more user of virtualization: the first turns it on everywhere, or nowhere. @upstream hardware_enable_all() */
export function hardwareEnableAll(kvm: KvmModule): Errno {
  const { state } = kvm.host.power;
  if (state === 'restart' || state === 'poweroff') return -EBUSY;
  kvm.usageCount++;
  if (kvm.usageCount > 1) return 0;
  kvm.hardwareEnableFailed = 0;
  kvm.host.cpus.onEachCpu(() => hardwareEnableNolock(kvm));
  const failed = kvm.hardwareEnableFailed;
  if (failed !== 0) hardwareDisableAll(kvm);
  return failed;
}

/** One user less: after the last, virtualization is off everywhere. @upstream hardware_disable_all() */
export function hardwareDisableAll(kvm: KvmModule): void {
  if (kvm.usageCount === 0) throw new Error('virtualization is disabled more often than it was enabled');
  kvm.usageCount--;
  if (kvm.usageCount === 0) kvm.host.cpus.onEachCpu(() => hardwareDisableNolock(kvm));
}

/** A CPU comes online. A failure is only logged: the CPU works, without virtualization. @upstream kvm_starting_cpu() */
export function kvmStartingCpu(kvm: KvmModule): Errno {
  if (kvm.usageCount > 0) hardwareEnableNolock(kvm);
  return 0;
}

/** A CPU goes offline. @upstream kvm_dying_cpu() */
export function kvmDyingCpu(kvm: KvmModule): Errno {
  if (kvm.usageCount > 0) hardwareDisableNolock(kvm);
  return 0;
}

/** The machine goes down. The flag comes first: from then on faults of virtualization instructions are nobody's bug. @upstream kvm_reboot() */
export function kvmReboot(kvm: KvmModule): void {
  kvm.rebooting = true;
  kvm.arch.kvmArchReboot();
  kvm.host.cpus.onEachCpu(() => hardwareDisableNolock(kvm));
}

/** Only the boot CPU is still there. @upstream kvm_suspend() */
export function kvmSuspend(kvm: KvmModule): Errno {
  if (kvm.usageCount > 0) hardwareDisableNolock(kvm);
  return 0;
}

/** @upstream kvm_resume() */
export function kvmResume(kvm: KvmModule): void {
  if (kvm.usageCount > 0) hardwareEnableNolock(kvm);
}

/** Takes whatever vCPU is loaded on `cpu` off it: its guest state goes back to memory before the CPU changes. */
function putRunningVcpu(kvm: KvmModule, cpu: Cpu): void {
  const vcpu = kvm.runningVcpu[cpu.id] ?? null;
  if (vcpu === null) return;
  kvm.arch.kvmArchVcpuPut(vcpu);
  kvm.runningVcpu[cpu.id] = null;
}
