import { describe, expect, test } from 'vitest';
import { Host } from '../../src/host/index.ts';
import { Kvm, Vm, vtInit } from '../../src/kvm/index.ts';
import { Machine } from '../../src/machine/machine.ts';
import { installTdxModule, type TdxModule } from '../../src/tdx-module/module.ts';

const MIB = 2 ** 20;
const KVM_X86_DEFAULT_VM = 0;
const KVM_X86_TDX_VM = 5;
const KVM_CAP_VM_TYPES = 235;
const EINVAL = -22;
const NO_RBP_MOD = 1n << 18n;

interface Variant {
  readonly absent?: true;
  readonly privateKeyIds?: number;
  /** Changes the module before anybody calls it. */
  readonly change?: (module: TdxModule) => void;
}

/** Loads KVM on a machine with a module like that. */
function load({ absent, privateKeyIds, change }: Variant): { kvm: Kvm; log: string[]; module: TdxModule | undefined } {
  const tdx = privateKeyIds === undefined ? {} : { tdx: { privateKeyIds } };
  const machine = new Machine({ processors: 2, ramSize: 64 * MIB, profile: 'tdx-host', ...tdx });
  const module = absent ? undefined : installTdxModule(machine);
  if (module !== undefined) change?.(module);
  const host = new Host(machine);
  const log: string[] = [];
  host.log = (message) => void log.push(message);
  const loaded = vtInit(host);
  const kvm = typeof loaded === 'number' ? loaded : Kvm.open(host);
  if (typeof kvm === 'number') throw new Error(`KVM does not load: ${kvm}`);
  return { kvm, log, module };
}

const INVALID = 0xc000_0100_0000_0000n;
const failing = (leaf: number) => (module: TdxModule) => {
  module.hooks.fail = (call) => (call.leaf === leaf ? INVALID : undefined);
};

const VARIANTS: readonly (readonly [string, Variant, RegExp])[] = [
  ['no module', { absent: true }, /no TDX module/],
  ['no private KeyIDs', { privateKeyIds: 0 }, /no TDX KeyIDs/],
  ['only the module own KeyID', { privateKeyIds: 1 }, /too few TDX KeyIDs/],
  ['a module without NO_RBP_MOD', { change: (m) => void (m.hooks.missingFeatures = NO_RBP_MOD) }, /too old/],
  ['TDH.SYS.INIT fails', { change: failing(33) }, /TDH\.SYS\.INIT/],
  ['TDH.SYS.LP.INIT fails', { change: failing(35) }, /TDH\.SYS\.LP\.INIT/],
  ['TDH.SYS.RD fails', { change: failing(34) }, /metadata/],
  ['TDH.SYS.CONFIG fails', { change: failing(45) }, /TDH\.SYS\.CONFIG/],
  ['TDH.SYS.KEY.CONFIG fails', { change: failing(31) }, /TDH\.SYS\.KEY\.CONFIG/],
  ['TDH.SYS.TDMR.INIT fails', { change: failing(36) }, /TDH\.SYS\.TDMR\.INIT/],
];

describe('KVM on a TDX module', () => {
  test.each(VARIANTS)('%s: KVM loads, VMs are there, TDs are refused with the reason', (_name, variant, reason) => {
    const { kvm, log } = load(variant);
    expect(log.filter((line) => reason.test(line))).toHaveLength(1);
    expect(kvm.checkExtension(KVM_CAP_VM_TYPES) & (1 << KVM_X86_TDX_VM)).toBe(0);
    expect(kvm.createVm(KVM_X86_TDX_VM)).toBe(EINVAL);
    const vm = kvm.createVm(KVM_X86_DEFAULT_VM);
    expect(vm).toBeInstanceOf(Vm);
    if (vm instanceof Vm) vm.close();
  });

  test('that works: TDs are offered, and the log says nothing', () => {
    const { kvm, log, module } = load({});
    expect(log).toEqual([]);
    expect(kvm.checkExtension(KVM_CAP_VM_TYPES) & (1 << KVM_X86_TDX_VM)).not.toBe(0);
    const vm = kvm.createVm(KVM_X86_TDX_VM);
    expect(vm).toBeInstanceOf(Vm);
    if (vm instanceof Vm) vm.close();
    expect(module!.seamcalls.get('TDH.SYS.INIT')).toBe(1);
    expect(module!.seamcalls.get('TDH.SYS.LP.INIT')).toBe(2);
    expect(module!.seamcalls.get('TDH.SYS.TDMR.INIT')).toBe(256);
  });

  test('locks that others hold for a moment delay the bring-up and do not fail it', () => {
    let busy = 0;
    const { log } = load({
      change: (module) => {
        module.hooks.lockHeld = (kind) => (kind === 'sys' || kind === 'tdmr') && ++busy % 3 !== 0;
      },
    });
    expect(log).toEqual([]);
    expect(busy).toBeGreaterThan(700);
  });
});
