/** Loads in which TDs are refused, by choice or for want of something: KVM is there, VMs run, and the reason can be read. */
import { expect, test } from 'vitest';
import { Host } from '../../src/host/index.ts';
import { TDX_FEATURES0_NO_RBP_MOD, TDX_FEATURES0_TOPOLOGY_ENUM } from '../../src/host/tdx-metadata.ts';
import { FakeTdxModule } from '../../src/host/testing/fake-tdx-module.ts';
import { Kvm, vtInit } from '../../src/kvm/index.ts';
import type { VtModuleParameters } from '../../src/kvm/x86/vmx/main.ts';
import { tdxState } from '../../src/kvm/x86/vmx/tdx.ts';
import { Machine } from '../../src/machine/machine.ts';
import { ok, vmxeCpus } from './lab.ts';

const EINVAL = 22;
const ENODEV = 19;
const FEATURES0 = 0x0a00_0003_0000_0008n;
const ATTRIBUTES_FIXED1 = 0x1900_0003_0000_0001n;
const XFAM_FIXED1 = 0x1900_0003_0000_0003n;
const MAX_VCPUS_PER_TD = 0x9900_0001_0000_0008n;

/** Loads KVM on a host with a recording module. */
function load(
  change: (module: FakeTdxModule) => void,
  parameters: VtModuleParameters = {},
): { host: Host; module: FakeTdxModule } {
  const machine = new Machine({ processors: 2, ramSize: 32 << 20, profile: 'tdx-host' });
  const module = new FakeTdxModule();
  change(module);
  machine.seam.install(module);
  const host = new Host(machine);
  ok(vtInit(host, parameters));
  return { host, module };
}

/** VMs are there, TDs are not, and VMX is on only while a VM exists. */
function onlyVms(host: Host): void {
  const kvm = ok(Kvm.open(host));
  expect(kvm.createVm(5)).toBe(-EINVAL);
  expect(host.cpus.states).toEqual(['kvm/cpu:starting']);
  const vm = ok(kvm.createVm(0));
  ok(vm.createVcpu(0));
  vm.close();
  expect(vmxeCpus(host)).toEqual([]);
}

test.each([
  ['the parameter tdx', { tdx: false }, /parameter tdx/],
  ['no APIC virtualization', { enableApicv: false }, /APIC virtualization is off/],
] as const)('%s: the module is not even asked', (_name, parameters, reason) => {
  const { host, module } = load(() => {}, parameters);
  expect(module.calls).toEqual([]);
  expect(tdxState(host)).toMatchObject({ enabled: false, result: -ENODEV, reason: expect.stringMatching(reason) });
  onlyVms(host);
});

test.each([
  ['no TOPOLOGY_ENUM', FEATURES0, TDX_FEATURES0_NO_RBP_MOD, /TOPOLOGY_ENUM/],
  ['an attribute that must be 1 and is not known', ATTRIBUTES_FIXED1, 1n << 29n, /ATTRIBUTES/],
  ['XFAM bits that must be 1 and are not known', XFAM_FIXED1, 0x1_0003n, /XFAM/],
  ['fewer vCPUs per TD than CPUs', MAX_VCPUS_PER_TD, 1n, /1 vCPUs at most, and there are 2 CPUs/],
] as const)('a module that came up, with %s', (_name, field, value, reason) => {
  const { host, module } = load((fake) => fake.metadata.set(field, value));
  expect(module.names()).toContain('SYS_CONFIG');
  expect(tdxState(host)).toMatchObject({ enabled: false, result: -EINVAL, reason: expect.stringMatching(reason) });
  onlyVms(host);
});

test('the recording module as it is would do', () => {
  const { host } = load((fake) => fake.metadata.set(FEATURES0, TDX_FEATURES0_NO_RBP_MOD | TDX_FEATURES0_TOPOLOGY_ENUM));
  expect(tdxState(host)).toEqual({ enabled: true, result: 0, reason: 'the TDX module is initialised' });
  expect(ok(Kvm.open(host)).checkExtension(235) & (1 << 5)).not.toBe(0);
});

test('a module that fails: the load is as without TDX, and the errno is upstream’s', () => {
  const { host } = load((fake) => fake.fail.set('SYS_LP_INIT', [0xc000_0900_0000_0000n]));
  expect(tdxState(host)).toMatchObject({ enabled: false, result: -5 });
  onlyVms(host);
});
