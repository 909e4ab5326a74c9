/** Memory of a running TD: accepting, converting both ways, faults that user space must see, and a module that is busy. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { TDX_OPERAND_BUSY } from '../../src/host/tdx-errno.ts';
import { KVM_MEMORY_ATTRIBUTE_PRIVATE, SHARED, SHARED_BIT, TdLab } from './td-lab.ts';

const ACCEPT = 6n;
const RD_VP_INFO = 1n;
const PAGE = 0x8_0000;
const EFAULT = 14;
const EIO = 5;
const PAGE_SIZE_MISMATCH = 0xc000_0b0bn;
const ALREADY_ACCEPTED = 0x0000_0b0an;
const PUNCH_HOLE = 3;

let td: TdLab;
beforeEach(async () => {
  td = new TdLab();
  await td.ready();
  td.lab.seam.clear();
});
afterEach(() => td.close());

const accept = (gpa: number, serve?: Parameters<TdLab['call']>[1]): Promise<bigint[]> =>
  td.call({ 0: ACCEPT, 1: BigInt(gpa) }, serve);
const calls = (): string[] => td.lab.seam.sequence.filter((name) => !name.startsWith('VP_'));
const attribute = (gpa: number, value: bigint): number =>
  td.vm.setMemoryAttributes({ address: gpa, size: 4096, attributes: value, flags: 0n });
const owner = (index: number): number => td.lab.host.machine.memory.keyed.ownerOf(td.files[0]!.page(index)!);

/** A TD whose guest does something else than to serve. */
async function guest(code: string): Promise<{ exit: Awaited<ReturnType<TdLab['vcpu']['run']>>; other: TdLab }> {
  const other = new TdLab({ code: `bits 64\norg 0x10000\n${code}\n` }, td.lab);
  return { exit: await other.vcpu.run(), other };
}

describe('accepting', () => {
  test('a page that is not there is added when the guest accepts it', async () => {
    expect((await accept(PAGE))[0]! >> 32n).toBe(0n);
    expect(calls()).toEqual(['MEM_PAGE_AUG']);
    expect(owner(PAGE / 4096)).toBe(td.vm.kvm.host.tdx.keyIds.first);
    expect((await accept(PAGE))[0]! >> 32n).toBe(ALREADY_ACCEPTED);
  });
  test('tables come as they are needed', async () => {
    td.vm.setUserMemoryRegion2({ slot: 5, flags: 0, guestPhysAddr: 0, memorySize: 0, userspaceAddr: 0 });
    const file = td.vm.createGuestMemfd({ size: 4096, flags: 0n });
    if (typeof file === 'number') throw new Error(`${file}`);
    td.files.push(file);
    const gpa = 0x40_0000_0000;
    td.vm.setUserMemoryRegion2({
      slot: 6,
      flags: 4,
      guestPhysAddr: gpa,
      memorySize: 4096,
      userspaceAddr: td.vm.mm.mmap(4096),
      guestMemfd: file,
      guestMemfdOffset: 0,
    });
    attribute(gpa, KVM_MEMORY_ATTRIBUTE_PRIVATE);
    expect((await accept(gpa))[0]! >> 32n).toBe(0n);
    expect(calls()).toEqual(['MEM_SEPT_ADD ×2', 'MEM_PAGE_AUG']);
  });
  test('2 MiB at once: the size does not match, and 4 KiB works', async () => {
    const level1 = await td.call({ 0: ACCEPT, 1: 0x0n | 1n });
    expect(level1[0]! >> 32n).toBe(PAGE_SIZE_MISMATCH);
  });
  test('a page that the guest touches without accepting it ends the TD', async () => {
    const { exit, other } = await guest('mov al, [0x80000]\nhlt');
    expect(exit).toBe(-EIO);
    expect(td.lab.log.at(-1)).toContain('guest access before accepting 80000');
    expect(other.vm.kvm.vmDead).toBe(true);
    other.close();
    // Others go on.
    expect((await td.call({ 0: RD_VP_INFO }))[0]).toBe(0n);
  });
});

describe('conversion', () => {
  test('to shared: the page is blocked, tracked, removed, written back, and the host’s again', async () => {
    await accept(PAGE);
    td.lab.seam.clear();
    expect(attribute(PAGE, 0n)).toBe(0);
    expect(calls()).toEqual(['MEM_RANGE_BLOCK', 'MEM_TRACK', 'MEM_PAGE_REMOVE', 'PHYMEM_PAGE_WBINVD']);
    const written = td.lab.seam.calls.at(-1)!.rcx;
    expect(written >> 46n).toBe(BigInt(td.vm.kvm.host.tdx.keyIds.first));
    expect(owner(PAGE / 4096)).toBe(0);
  });
  test('and back: a new page of zeros, to be accepted again', async () => {
    await accept(PAGE);
    attribute(PAGE, 0n);
    attribute(PAGE, KVM_MEMORY_ATTRIBUTE_PRIVATE);
    td.lab.seam.clear();
    expect((await accept(PAGE))[0]! >> 32n).toBe(0n);
    expect(calls()).toEqual(['MEM_PAGE_AUG']);
  });
  test('through the guest: MapGPA, user space changes the attribute, the guest uses the page as shared', async () => {
    const { other } = await guest(`
      xor eax, eax
      mov ecx, 0xfc00
      xor r10d, r10d
      mov r11d, 0x10001
      mov r12, ${SHARED_BIT + BigInt(PAGE)}
      mov r13d, 0x1000
      tdcall
      mov rbx, ${0x80_0000_0000n + BigInt(PAGE)}
      mov dword [rbx], 0x12345678
      xor eax, eax
      mov ecx, 0xfc00
      xor r10d, r10d
      mov r11d, 12
      xor r12d, r12d
      tdcall`);
    const convert = (attributes: bigint): number =>
      other.vm.setMemoryAttributes({ address: PAGE, size: 4096, attributes, flags: 0n });
    // The first run has stopped at MapGPA.
    const { hypercall } = other.vcpu.kvmRun;
    expect(hypercall.args.slice(0, 3)).toEqual([BigInt(PAGE), 1n, 0n]);
    expect(convert(0n)).toBe(0);
    const running = other.vcpu.run();
    await new Promise((resolve) => setTimeout(resolve, 30));
    other.vcpu.kick();
    await running;
    const hva = other.vm.kvm.memslots.find((slot) => slot.baseGfn === 0)!.userspaceAddr + PAGE;
    expect(other.vm.mm.read(hva, 4)).toEqual(Uint8Array.of(0x78, 0x56, 0x34, 0x12));
    other.close();
  });
  test('a hole in the guest_memfd takes the page; the next access brings another', async () => {
    await accept(PAGE);
    td.lab.seam.clear();
    expect(td.files[0]!.fallocate(PUNCH_HOLE, PAGE, 4096)).toBe(0);
    expect(calls()).toEqual(['MEM_RANGE_BLOCK', 'MEM_TRACK', 'MEM_PAGE_REMOVE', 'PHYMEM_PAGE_WBINVD']);
    expect((await accept(PAGE))[0]! >> 32n).toBe(0n);
  });
});

describe('accesses of the other kind exit to user space', () => {
  test('private, where user space says shared', async () => {
    attribute(PAGE, 0n);
    const seen: unknown[] = [];
    await accept(PAGE, (result) => {
      const { memoryFault } = td.vcpu.kvmRun;
      seen.push(result, memoryFault.flags, memoryFault.gpa, memoryFault.size);
      attribute(PAGE, KVM_MEMORY_ATTRIBUTE_PRIVATE);
    });
    expect(seen).toEqual([-EFAULT, 8n, PAGE, 4096]);
  });
  test('shared, where user space says private', async () => {
    const { exit, other } = await guest(`mov rbx, ${0x80_0000_0000n + 0x9_0000n}\nmov al, [rbx]\nhlt`);
    expect(exit).toBe(-EFAULT);
    expect(other.vcpu.kvmRun.memoryFault).toMatchObject({ flags: 0n, gpa: 0x9_0000 });
    other.close();
  });
  test('private, where there is no guest_memfd', async () => {
    const gpa = SHARED + 0x1000;
    td.vm.setMemoryAttributes({ address: gpa, size: 4096, attributes: KVM_MEMORY_ATTRIBUTE_PRIVATE, flags: 0n });
    const seen: unknown[] = [];
    await expect(
      accept(gpa, (result) => {
        seen.push(result);
        if (seen.length === 3) throw new Error('enough');
      }),
    ).rejects.toThrow('enough');
    expect(seen).toEqual([-EFAULT, -EFAULT, -EFAULT]);
  });
  test('what the host reads of a private page is zeros, and harms nothing', async () => {
    const page = td.files[0]!.page(0x10)!;
    expect(td.lab.host.machine.memory.read64(page)).toBe(0n);
    expect((await td.call({ 0: RD_VP_INFO }))[0]).toBe(0n);
  });
});

describe('a busy module', () => {
  test('AUG or SEPT.ADD that find a lock taken: the fault comes again', async () => {
    td.lab.seam.fail.set('MEM_PAGE_AUG', [TDX_OPERAND_BUSY, TDX_OPERAND_BUSY]);
    expect((await accept(PAGE))[0]! >> 32n).toBe(0n);
    expect(td.vm.kvm.vmBugged).toBe(false);
    expect(td.lab.seam.fail.get('MEM_PAGE_AUG')).toEqual([]);
  });
  test('BLOCK, TRACK and REMOVE: once more while no vCPU may enter', async () => {
    const { waits } = observeZap();
    await accept(PAGE);
    for (const name of ['MEM_RANGE_BLOCK', 'MEM_TRACK', 'MEM_PAGE_REMOVE'])
      td.lab.seam.fail.set(name, [TDX_OPERAND_BUSY]);
    attribute(PAGE, 0n);
    expect(waits).toEqual(['MEM_RANGE_BLOCK', 'MEM_TRACK', 'MEM_PAGE_REMOVE']);
    expect(td.vm.kvm.vmBugged).toBe(false);
    expect((await td.call({ 0: RD_VP_INFO }))[0]).toBe(0n);
  });
  test('a lock that is never released makes the VM unusable, and only that', async () => {
    await accept(PAGE);
    td.lab.seam.fail.set('MEM_RANGE_BLOCK', new Array(100).fill(TDX_OPERAND_BUSY));
    attribute(PAGE, 0n);
    expect(td.vm.kvm.vmBugged).toBe(true);
    expect(await td.vcpu.run()).toBe(-EIO);
    td.lab.seam.fail.clear();
    const other = new TdLab({}, td.lab);
    await other.ready();
    other.close();
  });
  test('an entry that is refused for a lock is made again', async () => {
    td.lab.seam.fail.set('VP_ENTER', [TDX_OPERAND_BUSY | 0x92n, TDX_OPERAND_BUSY | 0xa9n]);
    expect((await td.call({ 0: RD_VP_INFO }))[0]).toBe(0n);
    expect(td.lab.seam.fail.get('VP_ENTER')).toEqual([]);
  });

  /** Calls that are made while entries are held back. */
  function observeZap(): { waits: string[] } {
    const waits: string[] = [];
    const { td: kvmTdx } = td.vcpu.vcpu.vt as unknown as { td: { waitForSeptZap: boolean } };
    td.lab.seam.intercept = ({ name }) => {
      if (kvmTdx.waitForSeptZap) waits.push(name);
      return undefined;
    };
    return { waits };
  }
});
