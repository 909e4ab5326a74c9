/** The order of load, and the dispatch table. */
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { Kvm, vtExit, vtInit } from '../../src/kvm/index.ts';
import { vtX86Ops } from '../../src/kvm/x86/vmx/main.ts';
import { tdxState } from '../../src/kvm/x86/vmx/tdx.ts';
import * as vmx from '../../src/kvm/x86/vmx/vmx.ts';
import { trace } from '../../src/util/trace.ts';
import { load, newHost, ok, vmxeCpus, WatchedHooks } from './lab.ts';

const VMX_DIRECTORY = new URL('../../src/kvm/x86/vmx/', import.meta.url);

describe('order of load', () => {
  test('(*) before the first (A), the hook between (A) and (B), /dev/kvm last, (**) after', () => {
    const host = newHost(2);
    const events: string[] = [];
    const hooks = new WatchedHooks(host);
    hooks.onHook = () => events.push('hook');
    const register = host.misc.register.bind(host.misc);
    host.misc.register = (name, device) => {
      events.push(`/dev/${name}`);
      events.push(`registered ${host.cpus.states.length + host.power.registrations.syscore}`);
      return register(name, device);
    };
    trace.kvm_enable_virtualization_cpu = (cpu) => {
      // (*): the list of loaded VMCSs of this CPU is there.
      const lists = vmx.vmxHardware(host.cpus).loadedVmcssOnCpu[cpu];
      events.push(`A ${cpu}${lists === undefined ? ' without list' : ''}`);
    };
    trace.kvm_disable_virtualization_cpu = (cpu) => void events.push(`B ${cpu}`);
    try {
      ok(load(hooks));
    } finally {
      trace.kvm_enable_virtualization_cpu = undefined;
      trace.kvm_disable_virtualization_cpu = undefined;
    }
    expect(events).toEqual(['A 1', 'A 0', 'hook', 'B 1', 'B 0', '/dev/kvm', 'registered 2']);
    expect(hooks.diary.slice(0, 2)).toEqual(['init', 'setup']);
  });

  test('a machine without TDX loads, with the reason that TDs are refused', () => {
    const host = newHost(1);
    const messages: string[] = [];
    host.log = (message) => void messages.push(message);
    const module = ok(vtInit(host));
    expect(tdxState(host).enabled).toBe(false);
    expect(messages).toEqual([`kvm: TDX is disabled: ${tdxState(host).reason}`]);
    expect(ok(Kvm.open(host)).createVm(5)).toBe(-22);
    vtExit(module);
    expect(vmxeCpus(host)).toEqual([]);
  });

  test('load, unload and load again', () => {
    const host = newHost(2);
    const free = host.pages.freePages;
    for (let i = 0; i < 3; i++) {
      const module = ok(vtInit(host));
      ok(ok(Kvm.open(host)).createVm()).close();
      vtExit(module);
      expect(Kvm.open(host)).toBe(-2);
      expect(host.pages.freePages).toBe(free);
    }
  });

  test('a second load while the first is there is refused and harms nothing', () => {
    const host = newHost(1);
    ok(vtInit(host));
    expect(vtInit(host)).toBe(-17);
    ok(ok(Kvm.open(host)).createVm()).close();
  });
});

describe('dispatch', () => {
  test('vtX86Ops holds only vt* wrappers, named after their keys', () => {
    for (const [key, value] of Object.entries(vtX86Ops)) {
      if (typeof value !== 'function') continue;
      expect((value as { name: string }).name).toBe(`vt${key[0]!.toUpperCase()}${key.slice(1)}`);
    }
    const rest = Object.entries(vtX86Ops).filter(([, value]) => typeof value !== 'function');
    expect(rest.map(([key]) => key)).toEqual(['name', 'requiredApicvInhibits', 'setHvTimer', 'cancelHvTimer']);
  });

  test('main.ts alone imports both backends', () => {
    const both = readdirSync(VMX_DIRECTORY)
      .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'))
      .filter((file) => {
        const text = readFileSync(new URL(file, VMX_DIRECTORY), 'utf8');
        return /from '\.\/vmx\w*\.ts'/.test(text) && /from '\.\/tdx\w*\.ts'/.test(text);
      });
    expect(both).toEqual(['main.ts']);
  });

  test('the backends are named consistently', () => {
    expect(vmx.vmxVcpuCreate.name).toBe('vmxVcpuCreate');
    expect(vmx.vmxVcpuFree.name).toBe('vmxVcpuFree');
  });
});
