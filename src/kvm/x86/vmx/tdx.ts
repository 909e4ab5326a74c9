/**
 * The TDX backend: bringing up the TDX module when KVM is loaded, refusing trust domains with the reason where that is not
 * possible, and CPUs that come and go.
 *
 * @upstream arch/x86/kvm/vmx/tdx.c tdx_bringup(), tdx_cleanup(), tdx_online_cpu(), tdx_offline_cpu()
 */
import { CPUHP, type Cpu, type Cpus } from '../../../host/cpus.ts';
import { EBUSY, EINVAL, EIO, ENODEV, ENOMEM, type Errno } from '../../../host/errno.ts';
import type { Host } from '../../../host/host.ts';
import type { TdxStatus } from '../../../host/tdx.ts';
import { TDX_FEATURES0_TOPOLOGY_ENUM } from '../../../host/tdx-metadata.ts';
import { hardwareDisableNolock, hardwareEnableNolock } from '../../virt/hardware.ts';
import type { KvmModule } from '../../virt/kvm_host.ts';
import { KVM_DEVICE } from '../../virt/kvm_main.ts';
import { kvmCaps } from '../kvm_caps.ts';
import { KVM_X86_TDX_VM } from '../kvm_host.ts';
import { tdxGetSupportedAttrs, tdxGetSupportedXfam } from './tdx_init_vm.ts';

/** Whether trust domains can be created, and why not. @upstream enable_tdx */
export interface TdxState {
  readonly enabled: boolean;
  readonly reason: string;
  /** 0, or the negative errno that upstream's bring-up ends with. */
  readonly result: Errno;
}

const NOT_INITIALISED: TdxState = { enabled: false, reason: 'TDX is not initialised', result: -ENODEV };
const states: WeakMap<Cpus, TdxState> = new WeakMap();

/** Whether TDs can be created. */
export const tdxState = (host: Host): TdxState => states.get(host.cpus) ?? NOT_INITIALISED;

/**
 * Initialises the TDX module; VMX is on on every CPU. A missing module, or one that fails, disables TDX and the load goes
 * on; any other error fails it.
 *
 * @param lacking what the VMX backend lacks for TDs, or null
 * @upstream tdx_bringup()
 */
export function tdxBringup(host: Host, lacking: string | null): Errno {
  const { result, reason } = lacking === null ? bringup(host) : { result: -ENODEV, reason: lacking };
  if (result === -ENOMEM) return result;
  states.set(host.cpus, { enabled: result === 0, reason, result });
  if (result !== 0) host.log(`kvm: TDX is disabled: ${reason}`);
  return 0;
}

/** @upstream __tdx_bringup() */
function bringup(host: Host): TdxStatus {
  const status = host.tdx.enable();
  if (status.result !== 0) return status;
  const unsuitable = unsuitableModule(host);
  if (unsuitable !== null) return { result: -EINVAL, reason: unsuitable };
  const registered = host.cpus.setupStateNocalls(
    CPUHP.onlineDynamic,
    'kvm/cpu/tdx:online',
    (cpu) => tdxOnlineCpu(host, cpu),
    (cpu) => tdxOfflineCpu(host, cpu),
  );
  if (registered !== 0) return { result: registered, reason: 'no hotplug state is free' };
  kvmCaps(host).supportedVmTypes |= 1 << KVM_X86_TDX_VM;
  return status;
}

/** What KVM asks of the module beyond what the host does, or null. */
function unsuitableModule(host: Host): string | null {
  const info = host.tdx.sysInfo;
  if (info === null) return 'the TDX module says nothing about itself';
  if (tdxGetSupportedAttrs(info) === 0n) return 'the TDX module demands ATTRIBUTES that KVM does not support';
  if (tdxGetSupportedXfam(info) === 0n) return 'the TDX module demands XFAM bits that KVM does not support';
  if ((info.features0 & TDX_FEATURES0_TOPOLOGY_ENUM) === 0n)
    return 'the TDX module is too old: it takes no x2APIC identifiers (TOPOLOGY_ENUM is missing)';
  const cpus = host.cpus.possible.length;
  if (info.maxVcpusPerTd < cpus)
    return `the TDX module gives a TD ${info.maxVcpusPerTd} vCPUs at most, and there are ${cpus} CPUs`;
  return null;
}

/** KVM is unloaded; the module stays as it is. @upstream tdx_cleanup() */
export function tdxCleanup(host: Host): void {
  if (tdxState(host).enabled) host.cpus.removeStateNocalls(CPUHP.onlineDynamic);
  states.delete(host.cpus);
}

/**
 * A CPU comes online, under the hotplug lock: the module must know it before a TD vCPU may get there. Where no VM exists VMX
 * goes on for that alone, and off again.
 *
 * @upstream tdx_online_cpu()
 */
function tdxOnlineCpu(host: Host, cpu: Cpu): Errno {
  // What LP.INIT did lasts until the machine is reset.
  if (host.tdx.initializedCpus.has(cpu)) return 0;
  const kvm = host.misc.open(KVM_DEVICE) as KvmModule | undefined;
  if (kvm === undefined) return -EIO;
  const wasOn = kvm.hardwareEnabled.has(cpu);
  if (!wasOn) hardwareEnableNolock(kvm);
  if (!kvm.hardwareEnabled.has(cpu)) return -EIO;
  const { result, reason } = host.tdx.cpuEnable();
  if (!wasOn) hardwareDisableNolock(kvm);
  if (result !== 0) host.log(`kvm: CPU ${cpu.id} stays offline: ${reason}`);
  return result;
}

/** The last CPU of a package has to be there as long as a TD has a KeyID: it is given back on each package. @upstream tdx_offline_cpu() */
function tdxOfflineCpu(host: Host, cpu: Cpu): Errno {
  const { tdx, cpus } = host;
  if (tdx.keyIds.inUse === 0) return 0;
  const id = tdx.packageOf(cpu);
  return cpus.online.some((other) => other !== cpu && tdx.packageOf(other) === id) ? 0 : -EBUSY;
}
