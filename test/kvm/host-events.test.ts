/** Guests go on across what happens to the host: CPUs that go, suspend and resume. */
import { expect, test } from 'vitest';
import type { Host } from '../../src/host/index.ts';
import { vtInit } from '../../src/kvm/index.ts';
import { GuestLab } from './guest-lab.ts';
import { newHost, ok, vmxOnCpus } from './lab.ts';

/** inc %ecx; movd %ecx, %xmm0; out %al, $0x80; jmp back. */
const COUNTER = [0x41, 0x66, 0x0f, 0x6e, 0xc1, 0xe6, 0x80, 0xeb, 0xf7];

function counting(host: Host): GuestLab {
  const lab = new GuestLab({ host }).load(...COUNTER);
  const sregs = ok(lab.vcpu.getSregs());
  lab.vcpu.setSregs({ ...sregs, cr4: sregs.cr4 | 0x600n });
  lab.vcpu.setMsrs([{ index: 0xc000_0102, data: 0x1234_5000n }]);
  return lab;
}

async function step(lab: GuestLab): Promise<bigint> {
  const exit = ok(await lab.vcpu.run());
  expect(exit.kind).toBe('io');
  return ok(lab.vcpu.getRegs()).rcx;
}

const loadedHost = (cpus: number): Host => {
  const host = newHost(cpus);
  ok(vtInit(host));
  return host;
};

test('a vCPU moves when its CPU goes offline, with all its state', async () => {
  const host = loadedHost(2);
  const lab = counting(host);
  expect(await step(lab)).toBe(1n);
  const home = host.cpus.current;
  expect(host.cpus.down(home)).toBe(0);
  expect(await step(lab)).toBe(2n);
  expect(host.cpus.current).not.toBe(home);
  expect([...ok(lab.vcpu.getFpu()).xmm.subarray(0, 4)]).toEqual([2, 0, 0, 0]);
  expect(lab.vcpu.getMsrs([0xc000_0102])).toEqual([{ index: 0xc000_0102, data: 0x1234_5000n }]);
  host.cpus.up(home);
  expect(await step(lab)).toBe(3n);
  lab.vm.close();
});

test('guests sleep through suspend', async () => {
  const host = loadedHost(3);
  const labs = [counting(host), counting(host), counting(host)];
  for (const lab of labs) expect(await step(lab)).toBe(1n);
  expect(host.power.suspend()).toBe(0);
  expect(vmxOnCpus(host)).toEqual([]);
  expect(host.power.resume()).toBe(0);
  for (const lab of labs) {
    expect(await step(lab)).toBe(2n);
    expect([...ok(lab.vcpu.getFpu()).xmm.subarray(0, 4)]).toEqual([2, 0, 0, 0]);
  }
  for (const lab of labs) lab.vm.close();
  expect(vmxOnCpus(host)).toEqual([]);
});

test('VMs side by side do not see each other', async () => {
  const host = loadedHost(1);
  const labs = Array.from({ length: 4 }, () => counting(host));
  for (let round = 1n; round <= 3n; round++)
    for (const [i, lab] of labs.entries()) {
      lab.vm.mm.write(lab.memory + 0x2000, Uint8Array.of(i));
      expect(await step(lab)).toBe(round);
    }
  for (const [i, lab] of labs.entries()) {
    expect(lab.read32(0x2000)).toBe(i);
    expect([...ok(lab.vcpu.getFpu()).xmm.subarray(0, 4)]).toEqual([3, 0, 0, 0]);
  }
});
