/**
 * Loading and unloading KVM.
 *
 * The order is the seed's: hardware is enabled once on every CPU while the module loads, the architecture's hook runs
 * in between, and /dev/kvm appears when nothing can fail any more.
 *
 * @upstream virt/kvm/kvm_main.c kvm_init(), kvm_exit()
 */
import { CPUHP } from '../../host/cpus.ts';
import type { Errno } from '../../host/errno.ts';
import type { Host } from '../../host/host.ts';
import type { SyscoreOps } from '../../host/power.ts';
import type { KvmArchHooks } from './arch_hooks.ts';
import {
  hardwareDisableAll,
  hardwareEnableAll,
  kvmDyingCpu,
  kvmReboot,
  kvmResume,
  kvmStartingCpu,
  kvmSuspend,
} from './hardware.ts';
import type { KvmModule } from './kvm_host.ts';

/** Parameters of the generic module. */
export interface KvmModuleParameters {
  /** Default false: the seed's semantics, on with the first VM and off after the last. */
  readonly enableVirtAtLoad?: boolean;
}

interface Registrations {
  readonly syscore: SyscoreOps;
  readonly reboot: () => void;
}

const registrations: WeakMap<KvmModule, Registrations> = new WeakMap();

/** Name of the device. */
export const KVM_DEVICE = 'kvm';

/** Loads KVM with an architecture: the module, or a negative errno with everything undone. @upstream kvm_init() */
export function kvmInit(host: Host, arch: KvmArchHooks, parameters: KvmModuleParameters = {}): KvmModule | Errno {
  const kvm: KvmModule = {
    host,
    arch,
    enableVirtAtLoad: parameters.enableVirtAtLoad ?? false,
    usageCount: 0,
    hardwareEnabled: new Set(),
    hardwareEnableFailed: 0,
    vmList: [],
    rebooting: false,
    runningVcpu: host.cpus.possible.map(() => null),
  };
  const undo: (() => void)[] = [];
  const fail = (error: Errno): Errno => {
    for (const step of undo.reverse()) step();
    return error;
  };

  let result = arch.kvmArchInit();
  if (result !== 0) return fail(result);
  undo.push(() => arch.kvmArchExit());

  result = arch.kvmArchHardwareSetup();
  if (result !== 0) return fail(result);
  undo.push(() => arch.kvmArchHardwareUnsetup());

  result = hardwareEnableAll(kvm);
  if (result !== 0) return fail(result);
  result = arch.kvmArchPostHardwareEnableSetup();
  // The one place where the seed's patch ignored an error: a hook that fails takes the load with it.
  hardwareDisableAll(kvm);
  if (result !== 0) return fail(result);

  if (kvm.enableVirtAtLoad) {
    result = hardwareEnableAll(kvm);
    if (result !== 0) return fail(result);
    undo.push(() => hardwareDisableAll(kvm));
  }

  result = host.cpus.setupStateNocalls(
    CPUHP.kvmStarting,
    'kvm/cpu:starting',
    () => kvmStartingCpu(kvm),
    () => kvmDyingCpu(kvm),
  );
  if (result !== 0) return fail(result);
  undo.push(() => host.cpus.removeStateNocalls(CPUHP.kvmStarting));

  const registered: Registrations = {
    reboot: () => kvmReboot(kvm),
    syscore: { suspend: () => kvmSuspend(kvm), resume: () => kvmResume(kvm) },
  };
  registrations.set(kvm, registered);
  host.power.registerRebootNotifier(registered.reboot);
  undo.push(() => host.power.unregisterRebootNotifier(registered.reboot));
  host.power.registerSyscoreOps(registered.syscore);
  undo.push(() => host.power.unregisterSyscoreOps(registered.syscore));

  // Nothing may follow: as soon as the device is there, VMs can be made.
  result = host.misc.register(KVM_DEVICE, kvm);
  if (result !== 0) return fail(result);
  return kvm;
}

/** Unloads KVM. Every VM is gone: each holds a reference to the module. @upstream kvm_exit() */
export function kvmExit(kvm: KvmModule): void {
  const { host, arch } = kvm;
  if (kvm.vmList.length > 0) throw new Error('KVM is unloaded while VMs exist');
  host.misc.deregister(KVM_DEVICE);
  const registered = registrations.get(kvm);
  if (registered !== undefined) {
    host.power.unregisterSyscoreOps(registered.syscore);
    host.power.unregisterRebootNotifier(registered.reboot);
  }
  host.cpus.removeStateNocalls(CPUHP.kvmStarting);
  if (kvm.enableVirtAtLoad) hardwareDisableAll(kvm);
  arch.kvmArchHardwareUnsetup();
  arch.kvmArchExit();
}
