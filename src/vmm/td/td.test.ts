import { describe, expect, test } from 'vitest';
import { EXIT_SHUTDOWN } from '../../kvm/virt/kvm_run.ts';
import type { GuestConfig } from '../guest-run.ts';
import { GuestRunner } from '../guest-runner.ts';
import { makeBzImage } from '../loaders/testing.ts';
import { FakeHost, type Script } from '../testing.ts';
import { buildTdImage } from './image.ts';
import { LEAST_TD_MEMORY, SHIM_ADDRESS } from './layout.ts';

const config: GuestConfig = {
  type: 'td',
  kernel: makeBzImage(),
  kernelName: 'vmlinuz',
  commandLine: '',
  memorySize: LEAST_TD_MEMORY,
  cpus: 2,
  seed: 0,
  clock: 'virtual',
  epochSeconds: 0,
  reboot: false,
};

function start(script: Script, extra: Partial<GuestConfig> = {}) {
  const fake = new FakeHost(script);
  let text = '';
  const sink = { ready: undefined, write: (bytes: Uint8Array) => (text += new TextDecoder().decode(bytes)) };
  const guest = new GuestRunner(fake, { ...config, ...extra }, sink);
  const vm = fake.vms[0]!;
  return { fake, guest, vm, output: () => text };
}

/** Runs to the end. */
async function run(script: Script) {
  const started = start(script);
  return { ...started, end: await started.guest.done };
}

describe('building a TD', () => {
  test('capabilities, TD, vCPUs, memory and measurement come in the order that KVM wants', async () => {
    const { guest, vm } = start(function* () {});
    guest.stop({ reason: 'quit' });
    await guest.done;
    const kinds = vm.calls.filter((call, n) => call !== vm.calls[n - 1]);
    expect(kinds).toEqual([
      'cap 121 24',
      'cap 201 4096',
      'cap 237 40',
      'capabilities',
      'init vm',
      'memfd c000000',
      'attributes 0 c000000 8',
      'memfd 9000',
      'attributes ffff7000 9000 8',
      'init vcpu',
      'init mem region',
      'finalize',
    ]);
  });

  test('the TD gets SEPT_VE_DISABLE, the features the module has, and 48-bit addresses', () => {
    const { vm } = start(function* () {});
    const command = vm.tdx.find(({ id }) => id === 1);
    expect(command?.data).toMatchObject({ attributes: 1n << 28n, xfam: 3n });
    const { cpuid } = command!.data as { cpuid: readonly { function: number; eax: number; ecx: number }[] };
    expect(cpuid.map(({ function: leaf, eax, ecx }) => [leaf, eax, ecx])).toEqual([
      [1, 0, 0x80000000],
      [0x80000008, 0x300000, 0],
    ]);
  });

  test('every vCPU starts with the address of the HOB list; slots are RAM in one piece, and the shim', () => {
    const { vm } = start(function* () {});
    expect(vm.tdx.flatMap(({ id, data }) => (id === 2 ? [data] : []))).toEqual([0x10000n, 0x10000n]);
    expect(vm.slots.map(({ guestPhysAddr, memorySize, flags }) => [guestPhysAddr, memorySize, flags])).toEqual([
      [0, LEAST_TD_MEMORY, 4],
      [SHIM_ADDRESS, 0x9000, 4],
    ]);
  });

  test('memory is added in ascending order, all of it measured', () => {
    const { vm } = start(function* () {});
    const { regions } = buildTdImage(config);
    const added = vm.tdx.flatMap((command) =>
      command.id === 3 ? [[command.data.gpa, command.data.nrPages * 4096, command.flags]] : [],
    );
    expect(added).toEqual(regions.map(({ gpa, data }) => [gpa, data.length, 1]));
  });
});

test('memory that the td-shim accepts is mapped before the TD runs', () => {
  const { vm } = start(function* () {});
  const { regions, unaccepted } = buildTdImage(config);
  expect(vm.vcpus[0]!.mapped).toEqual(unaccepted.map(({ gpa, size }) => [gpa, size]));
  const added = regions.reduce((sum, { gpa, data }) => sum + (gpa < LEAST_TD_MEMORY ? data.length : 0), 0);
  expect(unaccepted.reduce((sum, { size }) => sum + size, 0)).toBe(LEAST_TD_MEMORY - added);
});

describe('exits of a TD', () => {
  test('a page used the other way is converted, and its other side given up', async () => {
    const { vm, end } = await run(function* ({ run: { memoryFault }, index, out, run: area }) {
      if (index !== 0) return;
      for (const [gpa, flags] of [
        [0x5000, 0n],
        [0x6000, 8n],
      ] as const) {
        Object.assign(memoryFault, { gpa, size: 0x1000, flags });
        area.setExit(memoryFault);
        yield -14;
      }
      yield out(0x604, (5 << 10) | (1 << 13), 2);
    });
    expect(end).toEqual({ reason: 'power-off' });
    expect(vm.calls.slice(-3)).toEqual(['attributes 5000 1000 0', 'fallocate 3 5000 1000', 'attributes 6000 1000 8']);
  });

  test('a fault outside of memory is not one that user space can mend', async () => {
    const { end } = await run(function* ({ run: area, index }) {
      if (index !== 0) return;
      Object.assign(area.memoryFault, { gpa: 2 ** 40, size: 0x1000, flags: 8n });
      area.setExit(area.memoryFault);
      yield -14;
    });
    const message = 'the TD used private memory at 0x10000000000, where there is none';
    expect(end).toEqual({ reason: 'kvm-error', message });
  });

  test('the I/O APIC answers in memory', async () => {
    let version = 0;
    const access = (physAddr: number, isWrite: boolean, value = 0) => {
      return { physAddr, len: 4, isWrite, data: Uint8Array.of(value, 0, 0, 0, 0, 0, 0, 0) };
    };
    const { end } = await run(function* ({ run: { mmio }, index, out }) {
      if (index !== 0) return;
      Object.assign(mmio, access(0xfec00000, true, 1));
      yield mmio;
      Object.assign(mmio, access(0xfec00010, false));
      yield mmio;
      version = new DataView(mmio.data.buffer).getUint32(0, true);
      yield out(0xf4, 3);
    });
    expect(version).toBe(0x170011);
    expect(end).toEqual({ reason: 'debug-exit', value: 3 });
  });

  test('a triple fault ends the guest, and nobody knows where it was', async () => {
    const { end } = await run(function* ({ index }) {
      if (index === 1) yield EXIT_SHUTDOWN;
    });
    expect(end).toEqual({ reason: 'triple-fault', vcpu: 1, rip: undefined });
  });

  test('the console is a serial port', async () => {
    const { output } = await run(function* ({ out, index }) {
      if (index !== 0) return;
      yield out(0x3fb, 3);
      for (const char of 'hi') yield out(0x3f8, char.charCodeAt(0));
      yield out(0x604, (5 << 10) | (1 << 13), 2);
    });
    expect(output()).toBe('hi');
  });
});

test('a TD that cannot be made leaves nothing behind', () => {
  const fake = new FakeHost(function* () {});
  const createVm = (): ReturnType<typeof fake.kvm.createVm> => {
    const vm = fake.kvm.createVm() as (typeof fake.vms)[0];
    vm.createVcpu = () => -28 as never;
    return vm;
  };
  const sink = { ready: undefined, write: () => {} };
  expect(() => new GuestRunner({ host: fake.host, kvm: { ...fake.kvm, createVm } }, config, sink)).toThrow(
    'KVM_CREATE_VCPU failed with errno 28',
  );
  expect(fake.vms[0]!.calls.slice(-2)).toEqual(['close memfd', 'close memfd']);
  expect(fake.vms[0]!.closed).toBe(true);
});

test('a host without TDX refuses, with the reason', () => {
  const fake = new FakeHost(function* () {});
  const kvm = { ...fake.kvm, checkExtension: () => 1 };
  const sink = { ready: undefined, write: () => {} };
  const host = { host: fake.host, kvm, noTdx: 'the module has the wrong colour' };
  expect(() => new GuestRunner(host, config, sink)).toThrow(
    expect.objectContaining({
      code: 'ERR_SOFTVT_NO_TDX',
      message: 'this host cannot run TDs: the module has the wrong colour',
    }),
  );
});
