/** Guests of every kind come and go, a thousand times, in any order: afterwards the host is what it was. */
import { describe, expect, test } from 'vitest';
import type { Host } from '../../src/host/index.ts';
import { vtInit } from '../../src/kvm/index.ts';
import { GuestLab, imm32 } from './guest-lab.ts';
import { newHost, ok, vmxOnCpus } from './lab.ts';
import { resourcesOf } from './resources.ts';
import { INIT_CPUID, KVM_CAP_SPLIT_IRQCHIP, KVM_X86_TDX_VM, must, TdLab, type TdxHostLab, tdxHost } from './td-lab.ts';

const PAGE = 4096;
const BASE = 0x20_0000;
const PRIVATE = 8n;
const SEPT_VE_DISABLE: bigint = 1n << 28n;
const HLT = 0xf4;
const store = (address: number, value: number): number[] => [0xc7, 0x05, ...imm32(address), ...imm32(value)];

/** Something to be closed; nothing of it may stay. */
type Guest = () => void;

/** An ordinary VM, with or without interrupt controllers; now and then it runs. */
async function vm(host: Host, i: number): Promise<Guest> {
  const lab = new GuestLab({ host, irqchip: i % 2 === 0, split: i % 4 === 1 });
  if (i % 50 === 0) {
    lab.load(0xb8, ...imm32(i), 0xe6, 0x80);
    ok(await lab.vcpu.run());
    expect(ok(lab.vcpu.getRegs()).rax).toBe(BigInt(i));
  }
  return () => {
    lab.vm.close();
    lab.vm.mm.exit();
  };
}

/** A VM with private memory, which it converts both ways; files are closed before or after the VM, or punched. */
async function swProtected(host: Host, i: number): Promise<Guest> {
  const lab = new GuestLab({ host, type: 1 });
  const size = 4 * PAGE;
  const file = ok(lab.vm.createGuestMemfd({ size, flags: 0n }));
  const region = { slot: 1, flags: 4, guestPhysAddr: BASE, memorySize: size, guestMemfd: file, guestMemfdOffset: 0 };
  must(lab.vm.setUserMemoryRegion2({ ...region, userspaceAddr: lab.vm.mm.mmap(size) }));
  const convert = (first: number, count: number, attributes: bigint): void =>
    must(lab.vm.setMemoryAttributes({ address: BASE + first * PAGE, size: count * PAGE, attributes, flags: 0n }));
  convert(0, 4, PRIVATE);
  must(lab.vcpu.preFaultMemory({ gpa: BASE, size, flags: 0n }));
  if (i % 20 === 0) {
    convert(1, 1, 0n);
    lab.load(...store(BASE, i), ...store(BASE + PAGE, i), HLT);
    expect(await lab.vcpu.run()).toMatchObject({ kind: 'hlt' });
    must(file.fallocate(3, 0, 2 * PAGE));
  }
  return () => {
    if (i % 3 === 0) file.close();
    lab.vm.close();
    file.close();
    lab.vm.mm.exit();
  };
}

/** A trust domain: with one page, not measured, and two more after it is final; now and then one that runs. */
async function td(lab: TdxHostLab, i: number): Promise<Guest> {
  if (i % 100 === 0) {
    const running = new TdLab({ vcpus: 2 }, lab);
    await running.ready();
    return () => {
      running.close();
      running.vm.mm.exit();
    };
  }
  const vm = ok(lab.kvm.createVm(KVM_X86_TDX_VM));
  must(vm.enableCap(KVM_CAP_SPLIT_IRQCHIP, [24n]));
  must(vm.memoryEncryptOp({ id: 1, data: { attributes: SEPT_VE_DISABLE, xfam: 3n, cpuid: INIT_CPUID } }));
  const vcpu = ok(vm.createVcpu(0));
  must(vcpu.setCpuid2(lab.kvm.getSupportedCpuid()));
  must(vcpu.memoryEncryptOp({ id: 2, data: 0n }));
  const size = 4 * PAGE;
  const userspaceAddr = vm.mm.mmap(size);
  const file = ok(vm.createGuestMemfd({ size, flags: 0n }));
  const region = { slot: 0, flags: 4, guestPhysAddr: BASE, memorySize: size, userspaceAddr };
  must(vm.setUserMemoryRegion2({ ...region, guestMemfd: file, guestMemfdOffset: 0 }));
  must(vm.setMemoryAttributes({ address: BASE, size, attributes: PRIVATE, flags: 0n }));
  must(vcpu.memoryEncryptOp({ id: 3, data: { sourceAddr: userspaceAddr, gpa: BASE, nrPages: 1 } }));
  if (i % 2 === 0) {
    must(vm.memoryEncryptOp({ id: 4, data: 0n }));
    must(vcpu.preFaultMemory({ gpa: BASE + PAGE, size: 2 * PAGE, flags: 0n }));
    if (i % 4 === 0) must(file.fallocate(3, PAGE, PAGE));
  }
  return () => {
    if (i % 3 === 0) file.close();
    vm.close();
    file.close();
    vm.mm.exit();
  };
}

describe('a thousand', () => {
  test.each([
    ['VMs', vm],
    ['VMs with private memory', swProtected],
  ] as const)('%s: one after the other', async (_name, make) => {
    const host = newHost(2);
    ok(vtInit(host));
    const before = resourcesOf(host);
    for (let i = 0; i < 1000; i++) (await make(host, i))();
    expect(resourcesOf(host)).toEqual(before);
  });

  test('of both kinds, several at once, closed in another order than they came', async () => {
    const host = newHost(2);
    ok(vtInit(host));
    const before = resourcesOf(host);
    const alive: Guest[] = [];
    for (let i = 0; i < 1000; i++) {
      alive.push(await (i % 3 === 0 ? vm : swProtected)(host, i));
      // The first guest turns virtualization on, the last one off: it is on for as long as there is one.
      expect(vmxOnCpus(host)).toEqual([0, 1]);
      if (alive.length > 4) alive.splice((i * 7) % alive.length, 1)[0]!();
    }
    for (const close of alive) close();
    expect(resourcesOf(host)).toEqual(before);
  });

  test('trust domains, with VMs between them', async () => {
    const lab = tdxHost();
    const { host, tdxModule } = lab;
    const before = resourcesOf(host, tdxModule);
    const alive: Guest[] = [];
    for (let i = 0; i < 1000; i++) {
      alive.push(await (i % 10 === 5 ? swProtected(host, i) : td(lab, i)));
      if (alive.length > 3) alive.splice((i * 7) % alive.length, 1)[0]!();
    }
    for (const close of alive) close();
    expect(resourcesOf(host, tdxModule)).toEqual(before);
    expect(lab.log).toEqual([]);
  }, 180_000);
});
