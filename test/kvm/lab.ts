/** A host whose KVM load can be watched and made to fail: for the tests of load order and of enabling and disabling. */
import type { Cpu } from '../../src/host/cpus.ts';
import type { Errno } from '../../src/host/errno.ts';
import { Host } from '../../src/host/index.ts';
import type { KvmModule } from '../../src/kvm/virt/kvm_host.ts';
import { type KvmModuleParameters, kvmInit } from '../../src/kvm/virt/kvm_main.ts';
import { vtInitOps } from '../../src/kvm/x86/vmx/main.ts';
import { vmxExit, vmxInitEarly } from '../../src/kvm/x86/vmx/vmx.ts';
import { X86ArchHooks } from '../../src/kvm/x86/x86.ts';
import { Machine } from '../../src/machine/machine.ts';
import { CR4_VMXE } from '../../src/machine/processor.ts';
import { installTdxModule } from '../../src/tdx-module/module.ts';

export const newHost = (processors = 4): Host =>
  new Host(new Machine({ processors, ramSize: 32 << 20, profile: 'pc' }));
/** The same with a TDX module for KVM to bring up. */
export function newTdxHost(processors = 4): Host {
  const machine = new Machine({ processors, ramSize: 32 << 20, profile: 'tdx-host' });
  installTdxModule(machine);
  return new Host(machine);
}

/** CPUs with CR4.VMXE set. */
export const vmxeCpus = (host: Host): number[] =>
  host.cpus.possible.filter((cpu) => cpu.processor.cr4 & CR4_VMXE).map((cpu) => cpu.id);
/** CPUs in VMX operation. */
export const vmxOnCpus = (host: Host): number[] =>
  host.cpus.possible.filter((cpu) => cpu.processor.vtx.inVmx).map((cpu) => cpu.id);

/** x86 with a diary, and failures on demand. */
export class WatchedHooks extends X86ArchHooks {
  /** `compat 0`, `A 0`, `B 0`, `hook`, `init`, `setup`, `unsetup`, `exit` in order. */
  readonly diary: string[] = [];
  /** CPU ids whose check or enabling fails, with the errno. */
  readonly incompatible: Map<number, Errno> = new Map();
  readonly cannotEnable: Set<number> = new Set();
  hookResult: Errno = 0;
  /** Called inside the hook. */
  onHook: () => void = () => {};

  constructor(host: Host) {
    super(host, vtInitOps);
  }

  override kvmArchInit(): Errno {
    this.diary.push('init');
    return super.kvmArchInit();
  }
  override kvmArchExit(): void {
    this.diary.push('exit');
    super.kvmArchExit();
  }
  override kvmArchHardwareSetup(): Errno {
    this.diary.push('setup');
    return super.kvmArchHardwareSetup();
  }
  override kvmArchHardwareUnsetup(): void {
    this.diary.push('unsetup');
    super.kvmArchHardwareUnsetup();
  }
  override kvmArchCheckProcessorCompat(cpu: Cpu): Errno {
    this.diary.push(`compat ${cpu.id}`);
    return this.incompatible.get(cpu.id) ?? super.kvmArchCheckProcessorCompat(cpu);
  }
  override kvmArchHardwareEnable(cpu: Cpu): Errno {
    this.diary.push(`A ${cpu.id}`);
    if (this.cannotEnable.has(cpu.id)) return -14;
    return super.kvmArchHardwareEnable(cpu);
  }
  override kvmArchHardwareDisable(cpu: Cpu): void {
    this.diary.push(`B ${cpu.id}`);
    super.kvmArchHardwareDisable(cpu);
  }
  override kvmArchPostHardwareEnableSetup(): Errno {
    this.diary.push('hook');
    this.onHook();
    return this.hookResult || super.kvmArchPostHardwareEnableSetup();
  }
}

/** Loads as vtInit does, with watched hooks: (*), then kvm_init. */
export function load(hooks: WatchedHooks, parameters: KvmModuleParameters = {}): KvmModule | Errno {
  const early = vmxInitEarly(hooks.host);
  if (early !== 0) return early;
  const module = kvmInit(hooks.host, hooks, parameters);
  if (typeof module === 'number') vmxExit(hooks.host);
  return module;
}

/** The value, or a failure of the test. */
export function ok<T>(result: T | Errno): T {
  if (typeof result === 'number') throw new Error(`errno ${-result}`);
  return result;
}
