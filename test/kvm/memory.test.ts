/** Memory slots, lazy mapping, MMIO, and the dirty log. */
import { describe, expect, test } from 'vitest';
import { PAGE_OWNER } from '../../src/host/pages.ts';
import type { X86Vm } from '../../src/kvm/x86/kvm_host.ts';
import { CODE, GuestLab, imm32 } from './guest-lab.ts';
import { ok } from './lab.ts';

const EINVAL = 22;
const EEXIST = 17;
const ENOENT = 2;
const LOG_DIRTY = 1;
const READONLY = 2;
const HLT = 0xf4;
/** mov %eax, address */
const store = (address: number): number[] => [0xa3, ...imm32(address)];
/** mov address, %eax */
const load = (address: number): number[] => [0xa1, ...imm32(address)];

const tdp = (vm: X86Vm) => vm.arch.tdpMmu;

describe('KVM_SET_USER_MEMORY_REGION', () => {
  const lab = new GuestLab();
  const region = {
    slot: 1,
    flags: 0,
    guestPhysAddr: 0x100000,
    memorySize: 0x4000,
    userspaceAddr: lab.vm.mm.mmap(0x10000),
  };
  test.each([
    ['size not aligned', { memorySize: 0x1001 }, -EINVAL],
    ['gpa not aligned', { guestPhysAddr: 0x100001 }, -EINVAL],
    ['address not aligned', { userspaceAddr: region.userspaceAddr + 8 }, -EINVAL],
    ['address beyond user space', { userspaceAddr: 2 ** 47 }, -EINVAL],
    ['unknown flag', { flags: 8 }, -EINVAL],
    ['guest_memfd without one', { flags: 4 }, -EINVAL],
    ['slot number too large', { slot: 32764 }, -EINVAL],
    ['other address space', { slot: 0x10001 }, -EINVAL],
    ['deleting what is not there', { memorySize: 0 }, -EINVAL],
    ['beyond 52 bits', { guestPhysAddr: 2 ** 52 }, -EINVAL],
    ['overlap', { guestPhysAddr: 0x8000 }, -EEXIST],
    ['negative', { guestPhysAddr: -0x1000 }, -EINVAL],
    ['not a number', { memorySize: Number.NaN }, -EINVAL],
  ])('%s', (_name, change, result) => {
    expect(lab.vm.setUserMemoryRegion({ ...region, ...change })).toBe(result);
  });
  test('create, repeat, change flags, move, delete', () => {
    const { vm } = lab;
    expect(vm.setUserMemoryRegion(region)).toBe(0);
    expect(vm.setUserMemoryRegion(region)).toBe(0);
    expect(vm.setUserMemoryRegion({ ...region, flags: LOG_DIRTY })).toBe(0);
    expect(vm.setUserMemoryRegion({ ...region, flags: READONLY })).toBe(-EINVAL);
    expect(vm.setUserMemoryRegion({ ...region, memorySize: 0x5000 })).toBe(-EINVAL);
    expect(vm.setUserMemoryRegion({ ...region, userspaceAddr: region.userspaceAddr + 0x1000 })).toBe(-EINVAL);
    expect(vm.setUserMemoryRegion({ ...region, guestPhysAddr: 0x200000 })).toBe(0);
    expect(vm.setUserMemoryRegion({ ...region, memorySize: 0 })).toBe(0);
    expect(vm.setUserMemoryRegion({ ...region, memorySize: 0 })).toBe(-EINVAL);
  });
});

describe('EPT', () => {
  test('pages are mapped when they are touched, one fault each', async () => {
    const lab = new GuestLab();
    lab.load(...store(0x2000), ...store(0x3000), ...store(0x3004), HLT);
    await lab.run();
    // Code page and two data pages.
    expect(lab.vcpu.vcpu.stat.pf_fixed).toBe(3);
  });

  test('2 MiB of aligned huge memory take one fault and no table of small pages', async () => {
    const lab = new GuestLab({ ram: 4 << 20 });
    lab.load(...store(0x2000), ...store(0x1f_f000), ...store(0x20_0000), HLT);
    await lab.run();
    expect(lab.vcpu.vcpu.stat.pf_fixed).toBe(2);
    // Root, 512 GiB, 1 GiB: leaves are in the table of 2 MiB entries.
    expect(tdp(lab.vm.kvm).tables).toBe(3);
  });

  test('what no slot has is MMIO, again and again with one violation', async () => {
    const lab = new GuestLab();
    lab.load(...load(0xd000_0000), ...store(0x2000), ...store(0xd000_0010), ...load(0xd000_0000), HLT);
    const seen: string[] = [];
    await lab.run((exit) => {
      if (exit.kind !== 'mmio') return;
      seen.push(`${exit.isWrite ? 'write' : 'read'} ${exit.physAddr.toString(16)} ${exit.len}`);
      if (!exit.isWrite) exit.data.set([0x78, 0x56, 0x34, 0x12]);
      else expect([...exit.data.subarray(0, 4)]).toEqual([0x78, 0x56, 0x34, 0x12]);
    });
    expect(seen).toEqual(['read d0000000 4', 'write d0000010 4', 'read d0000000 4']);
    expect(lab.read32(0x2000)).toBe(0x12345678);
    const { exitCounts } = lab.vcpu;
    expect([exitCounts[48], exitCounts[49]]).toEqual([3, 2]);
  });

  test('a slot that appears under an MMIO entry is seen at once', async () => {
    const lab = new GuestLab();
    lab.load(...load(0x10_0000), HLT, ...load(0x10_0000), HLT);
    await lab.run();
    const userspaceAddr = lab.vm.mm.mmap(0x1000);
    lab.vm.mm.write(userspaceAddr, Uint8Array.of(1, 2, 3, 4));
    expect(
      lab.vm.setUserMemoryRegion({ slot: 1, flags: 0, guestPhysAddr: 0x10_0000, memorySize: 0x1000, userspaceAddr }),
    ).toBe(0);
    let mmio = 0;
    await lab.run(() => mmio++);
    expect(mmio).toBe(0);
    expect(ok(lab.vcpu.getRegs()).rax).toBe(0x04030201n);
  });

  test('a slot that is deleted is gone from the EPT and the TLB', async () => {
    const lab = new GuestLab();
    const userspaceAddr = lab.vm.mm.mmap(0x1000);
    const slot = { slot: 1, flags: 0, guestPhysAddr: 0x10_0000, memorySize: 0x1000, userspaceAddr };
    lab.vm.setUserMemoryRegion(slot);
    lab.load(...load(0x10_0000), HLT, ...load(0x10_0000), HLT);
    let mmio = 0;
    await lab.run(() => mmio++);
    expect(mmio).toBe(0);
    lab.vm.setUserMemoryRegion({ ...slot, memorySize: 0 });
    await lab.run(() => mmio++);
    expect(mmio).toBe(1);
  });

  test('a write to a read-only slot is MMIO, a read is not', async () => {
    const lab = new GuestLab();
    const userspaceAddr = lab.vm.mm.mmap(0x1000);
    lab.vm.setUserMemoryRegion({
      slot: 1,
      flags: READONLY,
      guestPhysAddr: 0x10_0000,
      memorySize: 0x1000,
      userspaceAddr,
    });
    lab.load(...load(0x10_0000), ...store(0x10_0004), HLT);
    const seen: string[] = [];
    await lab.run((exit) => seen.push(exit.kind === 'mmio' && exit.isWrite ? 'write' : exit.kind));
    expect(seen).toEqual(['write']);
  });

  test('memory that the process unmaps is gone from the guest', async () => {
    const lab = new GuestLab();
    const userspaceAddr = lab.vm.mm.mmap(0x1000);
    lab.vm.setUserMemoryRegion({ slot: 1, flags: 0, guestPhysAddr: 0x10_0000, memorySize: 0x1000, userspaceAddr });
    lab.load(...load(0x10_0000), HLT, ...load(0x10_0000), HLT);
    await lab.run();
    lab.vm.mm.munmap(userspaceAddr);
    expect(await lab.vcpu.run()).toBe(-14);
  });

  test('destroying the VM gives every table and page back', async () => {
    const lab = new GuestLab({ ram: 4 << 20 });
    lab.load(...store(0x2000), HLT);
    await lab.run();
    lab.vm.mm.exit();
    lab.vm.close();
    expect(lab.host.pages.count(PAGE_OWNER.ept)).toBe(0);
    expect(lab.host.pages.count(PAGE_OWNER.user)).toBe(0);
    expect(lab.host.cpu.processor.vtx.inVmx).toBe(false);
  });
});

describe('dirty log', () => {
  const bits = (log: Uint32Array | number): number[] => {
    if (typeof log === 'number') throw new Error(`errno ${-log}`);
    return [...log].flatMap((word, i) =>
      Array.from({ length: 32 }, (_, bit) => (word & (1 << bit) ? i * 32 + bit : -1)).filter((n) => n >= 0),
    );
  };

  test('pages that the guest writes are in it once, and again after the next write', async () => {
    const lab = new GuestLab();
    lab.load(...store(0x2000), ...store(0x5008), HLT, ...store(0x2004), HLT);
    lab.vm.setUserMemoryRegion(lab.slot(LOG_DIRTY));
    await lab.run();
    expect(bits(lab.vm.getDirtyLog(0))).toEqual([2, 5]);
    expect(bits(lab.vm.getDirtyLog(0))).toEqual([]);
    await lab.run();
    expect(bits(lab.vm.getDirtyLog(0))).toEqual([2]);
  });

  test('logging that starts on mapped huge pages finds every write', async () => {
    const lab = new GuestLab({ ram: 4 << 20 });
    lab.load(...store(0x2000), HLT, ...store(0x3000), ...store(0x20_0000), ...load(0x4000), HLT);
    await lab.run();
    lab.vm.setUserMemoryRegion(lab.slot(LOG_DIRTY));
    await lab.run();
    expect(bits(lab.vm.getDirtyLog(0))).toEqual([3, 0x200]);
    // When it ends, large pages come back.
    lab.vm.setUserMemoryRegion(lab.slot(0));
    lab.start();
    await lab.run();
    expect(tdp(lab.vm.kvm).tables).toBeLessThanOrEqual(4);
  });

  test('manual protection: reading does not clear, clearing does, by whole granules', async () => {
    const lab = new GuestLab();
    expect(lab.vm.enableCap(168, [1n])).toBe(0);
    lab.vm.setUserMemoryRegion(lab.slot(LOG_DIRTY));
    lab.load(...store(0x2000), HLT, ...store(0x2000), HLT);
    await lab.run();
    expect(bits(lab.vm.getDirtyLog(0))).toEqual([2]);
    expect(bits(lab.vm.getDirtyLog(0))).toEqual([2]);
    expect(lab.vm.clearDirtyLog(0, 1, 16, Uint32Array.of(4))).toBe(-EINVAL);
    expect(lab.vm.clearDirtyLog(0, 0, 16, Uint32Array.of(4))).toBe(0);
    expect(bits(lab.vm.getDirtyLog(0))).toEqual([]);
    await lab.run();
    expect(bits(lab.vm.getDirtyLog(0))).toEqual([2]);
  });

  test('a slot without logging has no log', () => {
    const lab = new GuestLab();
    expect(lab.vm.getDirtyLog(0)).toBe(-ENOENT);
    expect(lab.vm.getDirtyLog(7)).toBe(-ENOENT);
  });
});

test('code in guest memory that the process changes is executed as changed', async () => {
  const lab = new GuestLab();
  // mov $1, %eax; hlt
  lab.load(0xb8, ...imm32(1), HLT);
  await lab.run();
  expect(ok(lab.vcpu.getRegs()).rax).toBe(1n);
  lab.vm.mm.write(lab.memory + CODE + 1, Uint8Array.of(2));
  lab.start();
  await lab.run();
  expect(ok(lab.vcpu.getRegs()).rax).toBe(2n);
});
