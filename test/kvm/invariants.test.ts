/** Invariants I1 to I13 of enabling virtualization, and what happens where something fails. */
import { describe, expect, test } from 'vitest';
import { CPUHP } from '../../src/host/cpus.ts';
import type { Host } from '../../src/host/index.ts';
import { Kvm, vtExit } from '../../src/kvm/index.ts';
import type { KvmArchHooks } from '../../src/kvm/virt/arch_hooks.ts';
import type { KvmModule } from '../../src/kvm/virt/kvm_host.ts';
import { kvmExit, kvmInit } from '../../src/kvm/virt/kvm_main.ts';
import { vmxHardware } from '../../src/kvm/x86/vmx/vmx.ts';
import { CR4_VMXE } from '../../src/machine/processor.ts';
import { load, newHost, newTdxHost, ok, vmxeCpus, vmxOnCpus, WatchedHooks } from './lab.ts';

const EIO = 5;
const EBUSY = 16;
const ALL = [0, 1, 2, 3];

const HOSTS = [
  { name: 'without TDX', tdx: false, makeHost: newHost },
  { name: 'with the TDX module initialised in the hook', tdx: true, makeHost: newTdxHost },
];

describe.each(HOSTS)('$name', ({ tdx, makeHost }) => {
  function loaded(host: Host = makeHost()): { host: Host; hooks: WatchedHooks; module: KvmModule; kvm: Kvm } {
    const hooks = new WatchedHooks(host);
    const module = ok(load(hooks));
    hooks.diary.length = 0;
    return { host, hooks, module, kvm: ok(Kvm.open(host)) };
  }

  const nothingLeft = (host: Host): void => {
    expect(host.misc.open('kvm')).toBeUndefined();
    expect(host.cpus.states).toEqual([]);
    expect(host.power.registrations).toEqual({ syscore: 0, reboot: 0 });
    expect(vmxeCpus(host)).toEqual([]);
  };

  test('I1: after load and before the first VM, VMX is off everywhere and anybody could use it', () => {
    const { host, module } = loaded();
    expect(vmxeCpus(host)).toEqual([]);
    expect(vmxOnCpus(host)).toEqual([]);
    expect(module.usageCount).toBe(0);
    expect(module.hardwareEnabled.size).toBe(0);
    // An out-of-tree hypervisor turns VMX on for itself.
    const { processor } = host.cpus.possible[1]!;
    processor.cr4 |= CR4_VMXE;
    expect(processor.vtx.vmxon(vmxHardware(host.cpus).vmxarea[1]!)).toBe(0);
  });

  test('I2: during the hook every online CPU has executed VMXON and the count is 1', () => {
    const host = makeHost();
    const hooks = new WatchedHooks(host);
    let on: number[] = [];
    hooks.onHook = () => {
      on = vmxOnCpus(host);
    };
    ok(load(hooks));
    expect(on).toEqual(ALL);
  });

  test('I3: the hook runs once per load, after the check of all CPUs, before /dev/kvm exists', () => {
    const host = makeHost();
    const hooks = new WatchedHooks(host);
    let device: unknown = 'not asked';
    hooks.onHook = () => {
      device = host.misc.open('kvm');
    };
    ok(load(hooks));
    expect(hooks.diary.filter((entry) => entry === 'hook')).toHaveLength(1);
    const at = hooks.diary.indexOf('hook');
    for (const id of ALL) expect(hooks.diary.indexOf(`compat ${id}`)).toBeLessThan(at);
    expect(device).toBeUndefined();
    expect(host.misc.open('kvm')).toBeDefined();
  });

  test('I4: the check of a CPU precedes its VMXON each time it is enabled', () => {
    const { host, hooks, kvm } = loaded();
    const pairs = (): void => {
      hooks.diary.forEach((entry, i) => {
        if (entry.startsWith('A ')) expect(hooks.diary[i - 1]).toBe(`compat ${entry.slice(2)}`);
      });
    };
    const vm = ok(kvm.createVm());
    host.cpus.down(host.cpus.possible[3]!);
    host.cpus.up(host.cpus.possible[3]!);
    host.power.suspend();
    host.power.resume();
    expect(hooks.diary.filter((entry) => entry.startsWith('A '))).toHaveLength(4 + 1 + 1 + 3);
    pairs();
    vm.close();
  });

  describe('I5: a CPU that cannot be enabled fails the load and leaves nothing behind', () => {
    test('an incompatible CPU: its own errno', () => {
      const host = makeHost();
      const hooks = new WatchedHooks(host);
      hooks.incompatible.set(2, -EIO);
      expect(load(hooks)).toBe(-EIO);
      expect(hooks.diary).not.toContain('A 2');
      expect(hooks.diary).not.toContain('hook');
      for (const id of [0, 1, 3]) expect(hooks.diary).toContain(`B ${id}`);
      nothingLeft(host);
    });
    test('a CPU that somebody else holds: −EBUSY', () => {
      const host = makeHost();
      host.cpus.possible[1]!.processor.cr4 |= CR4_VMXE;
      const hooks = new WatchedHooks(host);
      expect(load(hooks)).toBe(-EBUSY);
      expect(vmxOnCpus(host)).toEqual([]);
      host.cpus.possible[1]!.processor.cr4 &= ~CR4_VMXE;
      nothingLeft(host);
    });
    test('a second load works', () => {
      const host = makeHost();
      const hooks = new WatchedHooks(host);
      hooks.cannotEnable.add(3);
      expect(load(hooks)).toBe(-EBUSY);
      nothingLeft(host);
      vtExit(ok(load(new WatchedHooks(host))));
      nothingLeft(host);
      // The TDX module keeps what it was given; a further load takes nothing.
      const free = host.pages.freePages;
      vtExit(ok(load(new WatchedHooks(host))));
      expect(host.pages.freePages).toBe(free);
      nothingLeft(host);
    });
    test('an error of the hook fails the load, and a later one works', () => {
      const host = makeHost();
      const hooks = new WatchedHooks(host);
      hooks.hookResult = -EIO;
      expect(load(hooks)).toBe(-EIO);
      expect(hooks.diary.filter((entry) => entry.startsWith('B '))).toHaveLength(4);
      nothingLeft(host);
      expect(typeof load(new WatchedHooks(host))).toBe('object');
    });
  });

  test('I6: the lists that VMXOFF walks exist before anything is enabled', () => {
    const host = makeHost();
    const hooks = new WatchedHooks(host);
    let lists = 0;
    hooks.onHook = () => {
      lists = vmxHardware(host.cpus).loadedVmcssOnCpu.length;
    };
    ok(load(hooks));
    expect(lists).toBe(4);
    expect(hooks.diary.filter((entry) => entry.startsWith('B '))).toHaveLength(4);
  });

  test('I7: the first VM turns VMX on everywhere, the last one off, in whatever order they go', () => {
    const { host, hooks, module, kvm } = loaded();
    const first = ok(kvm.createVm());
    expect(vmxOnCpus(host)).toEqual(ALL);
    hooks.diary.length = 0;
    const second = ok(kvm.createVm());
    expect(hooks.diary).toEqual([]);
    expect(module.usageCount).toBe(2);
    first.close();
    expect(vmxOnCpus(host)).toEqual(ALL);
    second.close();
    expect(vmxOnCpus(host)).toEqual([]);
    expect(vmxeCpus(host)).toEqual([]);
    expect(module.usageCount).toBe(0);
  });

  test('I8: a first VM that fails on one CPU leaves the count at 0 and everything off', () => {
    const { host, hooks, module, kvm } = loaded();
    hooks.cannotEnable.add(2);
    expect(kvm.createVm()).toBe(-EBUSY);
    expect(module.usageCount).toBe(0);
    expect(module.vmList).toEqual([]);
    expect(vmxeCpus(host)).toEqual([]);
    hooks.cannotEnable.clear();
    hooks.incompatible.set(1, -EIO);
    expect(kvm.createVm()).toBe(-EIO);
    hooks.incompatible.clear();
    ok(kvm.createVm()).close();
  });

  describe('I9: CPUs that come and go', () => {
    test('without a VM a new CPU stays as it is', () => {
      const { host, hooks } = loaded();
      host.cpus.down(host.cpus.possible[3]!);
      host.cpus.up(host.cpus.possible[3]!);
      expect(hooks.diary).toEqual([]);
      expect(vmxeCpus(host)).toEqual([]);
    });
    test('without a VM a CPU that the TDX module does not know gets VMX only to be made known', () => {
      const host = makeHost();
      host.cpus.down(host.cpus.possible[3]!);
      const { hooks } = loaded(host);
      host.cpus.up(host.cpus.possible[3]!);
      expect(hooks.diary).toEqual(tdx ? ['compat 3', 'A 3', 'B 3'] : []);
      expect(vmxeCpus(host)).toEqual([]);
      expect([...host.tdx.initializedCpus].map((cpu) => cpu.id)).toEqual(tdx ? ALL : []);
    });
    test('with a VM it gets VMX, and gives its VMCSs back before it goes', () => {
      const { host, kvm } = loaded();
      const vm = ok(kvm.createVm());
      const vcpu = ok(vm.createVcpu(0));
      const cpu = host.cpus.current;
      const hardware = vmxHardware(host.cpus);
      expect(hardware.loadedVmcssOnCpu[cpu.id]!.size).toBe(1);
      const region = [...hardware.loadedVmcssOnCpu[cpu.id]!][0]!.vmcs;
      expect(cpu.processor.vtx.vmptrst()).toBe(BigInt(region));
      host.cpus.down(cpu);
      expect(hardware.loadedVmcssOnCpu[cpu.id]!.size).toBe(0);
      expect(cpu.processor.vtx.inVmx).toBe(false);
      expect(vmxeCpus(host)).toEqual([1, 2, 3]);
      // The vCPU goes on elsewhere.
      expect(ok(vcpu.getRegs()).rip).toBe(0xfff0n);
      expect(host.cpus.current).not.toBe(cpu);
      host.cpus.up(cpu);
      expect(vmxOnCpus(host)).toEqual(ALL);
      vm.close();
    });
    test('one that cannot be enabled comes online without', () => {
      const { host, hooks, kvm } = loaded();
      const vm = ok(kvm.createVm());
      const cpu = host.cpus.possible[2]!;
      host.cpus.down(cpu);
      hooks.cannotEnable.add(2);
      expect(host.cpus.up(cpu)).toBe(0);
      expect(cpu.online).toBe(true);
      expect(vmxOnCpus(host)).toEqual([0, 1, 3]);
      vm.close();
    });
  });

  describe('I10: suspend', () => {
    test('only the boot CPU is left, only it is disabled, and resume enables again', () => {
      const { host, hooks, module, kvm } = loaded();
      const vm = ok(kvm.createVm());
      hooks.diary.length = 0;
      expect(host.power.suspend()).toBe(0);
      expect(host.cpus.online.map((cpu) => cpu.id)).toEqual([0]);
      expect(hooks.diary.at(-1)).toBe('B 0');
      expect(vmxeCpus(host)).toEqual([]);
      expect(module.usageCount).toBe(1);
      hooks.diary.length = 0;
      expect(host.power.resume()).toBe(0);
      expect(hooks.diary.slice(0, 2)).toEqual(['compat 0', 'A 0']);
      expect(vmxOnCpus(host)).toEqual(ALL);
      vm.close();
    });
    test('without a VM nothing is touched', () => {
      const { host, hooks } = loaded();
      host.power.suspend();
      host.power.resume();
      expect(hooks.diary).toEqual([]);
    });
  });

  test('I11: reboot sets the flag first, turns VMX off, leaves the count alone, and faults are swallowed', () => {
    const { host, hooks, module, kvm } = loaded();
    const vm = ok(kvm.createVm());
    ok(vm.createVcpu(0));
    const flags: boolean[] = [];
    const disable = hooks.kvmArchHardwareDisable.bind(hooks);
    hooks.kvmArchHardwareDisable = (cpu) => {
      flags.push(module.rebooting && vmxHardware(host.cpus).rebooting);
      disable(cpu);
    };
    host.power.reboot();
    expect(flags).toEqual([true, true, true, true]);
    expect(vmxeCpus(host)).toEqual([]);
    expect(module.usageCount).toBe(1);
    // VMCLEAR now raises #UD; destroying the VM does not mind.
    expect(host.cpus.current.processor.vtx.vmclear(0x1000)).toBe(0x106);
    expect(() => vm.close()).not.toThrow();
    expect(kvm.createVm()).toBe(-EBUSY);
  });

  test('I12: what an architecture registers before kvm_init is there exactly while the module is loaded', () => {
    // A stand-in for MIPS, whose init registers a die notifier first and takes it back when kvm_init fails.
    const notifiers: string[] = [];
    const calls: string[] = [];
    let enableResult = 0;
    const standIn = {
      name: 'stand-in',
      kvmArchInit: () => 0,
      kvmArchExit: () => {},
      kvmArchHardwareSetup: () => 0,
      kvmArchHardwareUnsetup: () => {},
      kvmArchCheckProcessorCompat: () => 0,
      kvmArchHardwareEnable: () => enableResult,
      kvmArchHardwareDisable: () => {
        calls.push(notifiers.length > 0 ? 'disabled with notifier' : 'disabled without');
      },
      kvmArchPostHardwareEnableSetup: () => 0,
      kvmArchReboot: () => {},
    } as Partial<KvmArchHooks> as KvmArchHooks;
    const init = (host: Host): KvmModule | number => {
      notifiers.push('die');
      const module = kvmInit(host, standIn);
      if (typeof module === 'number') notifiers.pop();
      return module;
    };
    const host = makeHost();
    enableResult = -EIO;
    expect(init(host)).toBe(-EBUSY);
    expect(notifiers).toEqual([]);
    enableResult = 0;
    const module = ok(init(host));
    expect(notifiers).toEqual(['die']);
    expect(calls).toEqual(new Array(4).fill('disabled with notifier'));
    // Nothing of x86 was touched.
    expect(vmxeCpus(host)).toEqual([]);
    kvmExit(module);
    notifiers.pop();
    nothingLeft(host);
  });

  test('I13: (A) and (B) alternate on every CPU, whatever happens', () => {
    const { host, hooks, kvm } = loaded();
    const vms = [ok(kvm.createVm()), ok(kvm.createVm())];
    host.cpus.down(host.cpus.possible[1]!);
    host.power.suspend();
    host.power.resume();
    host.cpus.up(host.cpus.possible[1]!);
    vms[0]!.close();
    host.cpus.down(host.cpus.possible[2]!);
    vms[1]!.close();
    host.cpus.up(host.cpus.possible[2]!);
    ok(kvm.createVm()).close();
    for (const id of ALL) {
      const own = hooks.diary.filter((entry) => entry === `A ${id}` || entry === `B ${id}`);
      own.forEach((entry, i) => {
        expect(entry).toBe(i % 2 === 0 ? `A ${id}` : `B ${id}`);
      });
      expect(own.length % 2).toBe(0);
    }
    expect(vmxeCpus(host)).toEqual([]);
  });

  test('with enableVirtAtLoad VMX is on from load to unload, and VMs change nothing', () => {
    const host = makeHost();
    const hooks = new WatchedHooks(host);
    const module = ok(load(hooks, { enableVirtAtLoad: true }));
    expect(vmxOnCpus(host)).toEqual(ALL);
    hooks.diary.length = 0;
    ok(ok(Kvm.open(host)).createVm()).close();
    expect(hooks.diary).toEqual([]);
    kvmExit(module);
    expect(vmxeCpus(host)).toEqual([]);
  });

  test('hotplug callbacks are registered under the seed’s state and gone after unload', () => {
    const { host, module } = loaded();
    expect(host.cpus.states).toEqual(tdx ? ['kvm/cpu:starting', 'kvm/cpu/tdx:online'] : ['kvm/cpu:starting']);
    expect(CPUHP.kvmStarting).toBeLessThan(CPUHP.online);
    kvmExit(module);
    nothingLeft(host);
  });
});
