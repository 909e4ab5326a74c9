/** Private memory of guests: guest_memfd, memory attributes, faults of the wrong kind, conversion, pre-faulting. */
import { describe, expect, test } from 'vitest';
import type { Host } from '../../src/host/index.ts';
import { PAGE_OWNER } from '../../src/host/pages.ts';
import { type Vcpu, vtInit } from '../../src/kvm/index.ts';
import type { GuestMemfd } from '../../src/kvm/virt/guest_memfd.ts';
import type { VcpuExit } from '../../src/kvm/virt/kvm_run.ts';
import { GuestLab, type GuestLabOptions, imm32 } from './guest-lab.ts';
import { newHost, ok, vmxOnCpus } from './lab.ts';

const EIO = 5;
const EBADF = 9;
const ENOMEM = 12;
const EFAULT = 14;
const EINVAL = 22;
const ENOENT = 2;
const EOPNOTSUPP = 95;

const SW_PROTECTED = 1;
const LOG_DIRTY = 1;
const READONLY = 2;
const GUEST_MEMFD = 4;
const PRIVATE = 8n;
const KEEP_SIZE = 1;
const PUNCH_HOLE = 2;
const HLT = 0xf4;
const PAGE = 0x1000;
const MIB2 = 0x20_0000;
/** Where the slot with private memory begins, unless a test says otherwise. */
const BASE = 0x20_0000;

/** mov $value, address */
const store = (address: number, value: number): number[] => [0xc7, 0x05, ...imm32(address), ...imm32(value)];
/** mov address, %eax */
const load = (address: number): number[] => [0xa1, ...imm32(address)];

function loadedHost(processors: number): Host {
  const host = newHost(processors);
  ok(vtInit(host));
  return host;
}

interface PrivateLabOptions extends GuestLabOptions {
  readonly size?: number;
}

/** A guest with a slot that may be private, at {@link BASE}. */
class PrivateLab extends GuestLab {
  readonly file: GuestMemfd;
  readonly size: number;
  /** Where the slot's shared memory lies in the process. */
  readonly shared: number;

  constructor(options: PrivateLabOptions = {}) {
    super({ type: SW_PROTECTED, ...options });
    this.size = options.size ?? 16 * PAGE;
    this.shared = this.vm.mm.mmap(this.size);
    this.file = ok(this.vm.createGuestMemfd({ size: this.size, flags: 0n }));
    expect(this.vm.setUserMemoryRegion2(this.privateSlot())).toBe(0);
  }

  privateSlot() {
    return {
      slot: 1,
      flags: GUEST_MEMFD,
      guestPhysAddr: BASE,
      memorySize: this.size,
      userspaceAddr: this.shared,
      guestMemfd: this.file as GuestMemfd | null,
      guestMemfdOffset: 0,
    };
  }

  convert(address: number, size: number, toPrivate: boolean): number {
    return this.vm.setMemoryAttributes({ address, size, attributes: toPrivate ? PRIVATE : 0n, flags: 0n });
  }

  sharedWord(gpa: number): number {
    const bytes = this.vm.mm.read(this.shared + gpa - BASE, 4)!;
    return new DataView(bytes.buffer).getUint32(0, true);
  }

  /** Runs code from the start; the exit it ends with, or an errno. */
  async execute(...code: number[]): Promise<VcpuExit | number> {
    this.load(...code);
    this.start();
    return this.vcpu.run();
  }
  /** EAX after reading a word. */
  async readWord(gpa: number): Promise<bigint> {
    expect(await this.execute(...load(gpa), HLT)).toMatchObject({ kind: 'hlt' });
    return ok(this.vcpu.getRegs()).rax;
  }

  get gmemPages(): number {
    return this.host.pages.count(PAGE_OWNER.guestMemfd);
  }
}

describe('capabilities', () => {
  const lab = new GuestLab();
  const types = lab.kvm.checkExtension(235);
  test('VM types are a bit each, and others are refused', () => {
    expect(types & 3).toBe(3);
    for (const type of [2, 3, 4, 6, 31, 32, -1, 0.5, Number.NaN]) expect(lab.kvm.createVm(type)).toBe(-EINVAL);
  });
  test('a VM without private memory has neither attributes nor guest_memfd', () => {
    const isThere = (cap: number): [system: number, vm: number] => [
      lab.kvm.checkExtension(cap),
      lab.vm.checkExtension(cap),
    ];
    expect(isThere(231)).toEqual([1, 1]);
    expect(isThere(232)).toEqual([1, 1]);
    expect(isThere(233)).toEqual([8, 0]);
    expect(isThere(234)).toEqual([1, 0]);
    expect(isThere(236)).toEqual([1, 1]);
    const own = new GuestLab({ type: SW_PROTECTED });
    expect([own.vm.checkExtension(233), own.vm.checkExtension(234)]).toEqual([8, 1]);
  });
  test('attributes of a VM without private memory: −EINVAL, but for none at all', () => {
    const none = { address: 0, size: PAGE, attributes: 0n, flags: 0n };
    expect(lab.vm.setMemoryAttributes({ ...none, attributes: PRIVATE })).toBe(-EINVAL);
    expect(lab.vm.setMemoryAttributes(none)).toBe(0);
  });
  test('a slot of an ordinary VM takes no guest_memfd', () => {
    const file = ok(lab.vm.createGuestMemfd({ size: PAGE, flags: 0n }));
    const slot = { ...lab.slot(GUEST_MEMFD), slot: 1, guestPhysAddr: BASE, memorySize: PAGE, guestMemfd: file };
    expect(lab.vm.setUserMemoryRegion2(slot)).toBe(-EINVAL);
    file.close();
  });
});

describe('KVM_CREATE_GUEST_MEMFD', () => {
  const lab = new GuestLab({ type: SW_PROTECTED });
  test.each([
    ['flags', { size: PAGE, flags: 1n }],
    ['all flags', { size: PAGE, flags: 0xffff_ffff_ffff_ffffn }],
    ['size 0', { size: 0, flags: 0n }],
    ['negative', { size: -PAGE, flags: 0n }],
    ['not aligned', { size: PAGE + 1, flags: 0n }],
    ['not a number', { size: Number.NaN, flags: 0n }],
  ])('%s: −EINVAL', (_name, args) => {
    expect(lab.vm.createGuestMemfd(args)).toBe(-EINVAL);
  });
  test('several files, of any size, cost nothing before they are used', () => {
    const before = lab.host.pages.freePages;
    const files = [PAGE, 2 ** 30, 2 ** 45].map((size) => ok(lab.vm.createGuestMemfd({ size, flags: 0n })));
    expect(files.map((file) => file.pages)).toEqual([0, 0, 0]);
    expect(lab.host.pages.freePages).toBe(before);
    for (const file of files) file.close();
  });
});

describe('fallocate of a guest_memfd', () => {
  const lab = new GuestLab({ type: SW_PROTECTED });
  const file = ok(lab.vm.createGuestMemfd({ size: 4 * PAGE, flags: 0n }));
  test.each([
    ['without KEEP_SIZE', 0, 0, PAGE, -EOPNOTSUPP],
    ['hole without KEEP_SIZE', PUNCH_HOLE, 0, PAGE, -EOPNOTSUPP],
    ['other mode', KEEP_SIZE | 8, 0, PAGE, -EOPNOTSUPP],
    ['offset not aligned', KEEP_SIZE, 1, PAGE, -EINVAL],
    ['length not aligned', KEEP_SIZE, 0, PAGE - 1, -EINVAL],
    ['length 0', KEEP_SIZE, 0, 0, -EINVAL],
    ['negative offset', KEEP_SIZE, -PAGE, PAGE, -EINVAL],
    ['beyond the end', KEEP_SIZE, 3 * PAGE, 2 * PAGE, -EINVAL],
  ])('%s', (_name, mode, offset, length, result) => {
    expect(file.fallocate(mode, offset, length)).toBe(result);
    expect(file.pages).toBe(0);
  });
  test('allocates, and a hole frees, also one that goes beyond the end', () => {
    const before = lab.host.pages.freePages;
    expect(file.fallocate(KEEP_SIZE, PAGE, 3 * PAGE)).toBe(0);
    expect(file.pages).toBe(3);
    expect(file.fallocate(KEEP_SIZE, 0, 2 * PAGE)).toBe(0);
    expect(lab.host.pages.freePages).toBe(before - 4);
    expect(file.fallocate(KEEP_SIZE | PUNCH_HOLE, PAGE, PAGE)).toBe(0);
    expect(file.pages).toBe(3);
    expect(file.fallocate(KEEP_SIZE | PUNCH_HOLE, 0, 100 * PAGE)).toBe(0);
    expect(lab.host.pages.freePages).toBe(before);
  });
  test('a closed file: −EBADF', () => {
    file.close();
    expect(file.fallocate(KEEP_SIZE, 0, PAGE)).toBe(-EBADF);
    file.close();
  });
});

describe('KVM_SET_USER_MEMORY_REGION2', () => {
  const lab = new GuestLab({ type: SW_PROTECTED });
  const other = ok(lab.kvm.createVm(SW_PROTECTED));
  const file = ok(lab.vm.createGuestMemfd({ size: 8 * PAGE, flags: 0n }));
  const region = {
    slot: 1,
    flags: GUEST_MEMFD,
    guestPhysAddr: BASE,
    memorySize: 4 * PAGE,
    userspaceAddr: lab.vm.mm.mmap(8 * PAGE),
    guestMemfd: file as GuestMemfd | null,
    guestMemfdOffset: 0,
  };
  const closed = ok(lab.vm.createGuestMemfd({ size: 8 * PAGE, flags: 0n }));
  closed.close();
  test.each([
    ['with dirty log', { flags: GUEST_MEMFD | LOG_DIRTY }, -EINVAL],
    ['read-only', { flags: GUEST_MEMFD | READONLY }, -EINVAL],
    ['unknown flag', { flags: 8 }, -EINVAL],
    ['no file', { guestMemfd: null }, -EBADF],
    ['a closed file', { guestMemfd: closed }, -EBADF],
    ['a file of something else', { guestMemfd: {} as GuestMemfd }, -EINVAL],
    ['a file of another VM', { guestMemfd: ok(other.createGuestMemfd({ size: 8 * PAGE, flags: 0n })) }, -EINVAL],
    ['offset not aligned', { guestMemfdOffset: 8 }, -EINVAL],
    ['negative offset', { guestMemfdOffset: -PAGE }, -EINVAL],
    ['beyond the file', { guestMemfdOffset: 5 * PAGE }, -EINVAL],
  ])('%s', (_name, change, result) => {
    expect(lab.vm.setUserMemoryRegion2({ ...region, ...change })).toBe(result);
    expect(lab.vm.kvm.memslots).toHaveLength(1);
  });
  test('KVM_SET_USER_MEMORY_REGION does not know the flag', () => {
    expect(lab.vm.setUserMemoryRegion(region)).toBe(-EINVAL);
  });
  test('a range of a file belongs to one slot at a time', () => {
    const { vm } = lab;
    expect(vm.setUserMemoryRegion2(region)).toBe(0);
    const second = { ...region, slot: 2, guestPhysAddr: 2 * BASE };
    expect(vm.setUserMemoryRegion2({ ...second, guestMemfdOffset: 3 * PAGE })).toBe(-EINVAL);
    expect(vm.setUserMemoryRegion2({ ...second, guestMemfdOffset: 4 * PAGE })).toBe(0);
    expect(vm.setUserMemoryRegion2({ ...region, memorySize: 0 })).toBe(0);
    expect(vm.setUserMemoryRegion2({ ...second, memorySize: 0 })).toBe(0);
    expect(vm.setUserMemoryRegion2({ ...second, guestMemfdOffset: 3 * PAGE })).toBe(0);
    expect(vm.setUserMemoryRegion2({ ...second, memorySize: 0 })).toBe(0);
  });
  test('a slot of a guest_memfd can only be deleted', () => {
    const { vm } = lab;
    expect(vm.setUserMemoryRegion2(region)).toBe(0);
    expect(vm.setUserMemoryRegion2(region)).toBe(-EINVAL);
    expect(vm.setUserMemoryRegion2({ ...region, guestPhysAddr: 2 * BASE })).toBe(-EINVAL);
    expect(vm.setUserMemoryRegion2({ ...region, flags: 0 })).toBe(-EINVAL);
    expect(vm.setUserMemoryRegion2({ ...region, flags: LOG_DIRTY })).toBe(-EINVAL);
    expect(vm.setUserMemoryRegion2({ ...region, memorySize: 0 })).toBe(0);
  });
  test('an ordinary slot cannot become one of a guest_memfd', () => {
    const { vm } = lab;
    expect(vm.setUserMemoryRegion2({ ...region, flags: 0 })).toBe(0);
    expect(vm.setUserMemoryRegion2(region)).toBe(-EINVAL);
    expect(vm.setUserMemoryRegion2({ ...region, flags: LOG_DIRTY })).toBe(0);
    expect(vm.setUserMemoryRegion2({ ...region, memorySize: 0 })).toBe(0);
  });
  test('overlap is found before the file is bound', () => {
    expect(lab.vm.setUserMemoryRegion2({ ...region, guestPhysAddr: 0 })).toBe(-17);
    expect(file.isBound(0, 8)).toBe(false);
  });
});

describe('KVM_SET_MEMORY_ATTRIBUTES', () => {
  const lab = new GuestLab({ type: SW_PROTECTED });
  const args = { address: BASE, size: PAGE, attributes: PRIVATE, flags: 0n };
  test.each([
    ['flags', { flags: 1n }],
    ['read attribute', { attributes: 1n }],
    ['private and more', { attributes: 0xcn }],
    ['size 0', { size: 0 }],
    ['size not aligned', { size: 0x800 }],
    ['address not aligned', { address: BASE + 1 }],
    ['wraps', { address: 2 ** 52 - PAGE, size: 2 * PAGE }],
    ['negative', { address: -PAGE }],
  ])('%s: −EINVAL', (_name, change) => {
    expect(lab.vm.setMemoryAttributes({ ...args, ...change })).toBe(-EINVAL);
  });
  test('frames need no slot, and ranges may be anything', () => {
    const set = (address: number, size: number, attributes: bigint): number =>
      lab.vm.setMemoryAttributes({ address, size, attributes, flags: 0n });
    expect(set(2 ** 40, PAGE, PRIVATE)).toBe(0);
    expect(set(0x1000, 0x1000_0000, PRIVATE)).toBe(0);
    expect(set(0x3000, 0x2000, 0n)).toBe(0);
    const frames = lab.vm.kvm.privateFrames!;
    const seen = [0, 1, 2, 3, 4, 5, 0xffff, 0x10000, 0x10001, 2 ** 28].map((gfn) => frames.has(gfn));
    expect(seen).toEqual([false, true, true, false, false, true, true, true, false, true]);
  });
});

describe('faults', () => {
  test('private memory is there for the guest, and not for the host', async () => {
    const lab = new PrivateLab();
    expect(lab.convert(BASE, lab.size, true)).toBe(0);
    expect(await lab.execute(...store(BASE + 8, 0x1234), ...load(BASE + 8), HLT)).toMatchObject({ kind: 'hlt' });
    expect(ok(lab.vcpu.getRegs()).rax).toBe(0x1234n);
    expect(lab.sharedWord(BASE + 8)).toBe(0);
    expect(lab.gmemPages).toBe(1);
  });

  test('conversion shows the other memory, and each keeps what it had', async () => {
    const lab = new PrivateLab();
    lab.convert(BASE, lab.size, true);
    await lab.execute(...store(BASE, 0xaa), HLT);
    expect(lab.convert(BASE, PAGE, false)).toBe(0);
    expect(await lab.readWord(BASE)).toBe(0n);
    await lab.execute(...store(BASE, 0xbb), HLT);
    expect(lab.sharedWord(BASE)).toBe(0xbb);
    lab.convert(BASE, PAGE, true);
    expect(await lab.readWord(BASE)).toBe(0xaan);
    expect(lab.sharedWord(BASE)).toBe(0xbb);
    lab.convert(BASE, PAGE, false);
    expect(await lab.readWord(BASE)).toBe(0xbbn);
  });

  test('a hole in the file takes the page from the guest, who gets zeros next', async () => {
    const lab = new PrivateLab();
    lab.convert(BASE, lab.size, true);
    await lab.execute(...store(BASE, 0xaa), ...store(BASE + PAGE, 0xcc), HLT);
    expect(lab.gmemPages).toBe(2);
    expect(lab.file.fallocate(KEEP_SIZE | PUNCH_HOLE, 0, PAGE)).toBe(0);
    expect(lab.gmemPages).toBe(1);
    expect(await lab.readWord(BASE)).toBe(0n);
    expect(await lab.readWord(BASE + PAGE)).toBe(0xccn);
  });

  const memoryFault = { kind: 'memory-fault', exitReason: 39, flags: 8n, gpa: BASE, size: PAGE };

  test('private memory that the slot has not: −EFAULT with KVM_EXIT_MEMORY_FAULT', async () => {
    const lab = new GuestLab({ type: SW_PROTECTED, ram: 4 << 20 });
    lab.vm.setMemoryAttributes({ address: BASE, size: PAGE, attributes: PRIVATE, flags: 0n });
    lab.load(...store(BASE + 0x124, 1), HLT);
    expect(await lab.vcpu.run()).toBe(-EFAULT);
    expect(lab.vcpu.kvmRun.exit).toEqual(memoryFault);
    // User space mends it, and the guest goes on with the same instruction.
    lab.vm.setMemoryAttributes({ address: BASE, size: PAGE, attributes: 0n, flags: 0n });
    expect(await lab.vcpu.run()).toMatchObject({ kind: 'hlt' });
    expect(lab.read32(BASE + 0x124)).toBe(1);
  });

  test('private memory without any slot: the same, not MMIO', async () => {
    const lab = new PrivateLab();
    lab.convert(BASE, lab.size, true);
    await lab.execute(...store(BASE, 1), HLT);
    lab.vm.setUserMemoryRegion2({ ...lab.privateSlot(), memorySize: 0 });
    expect(await lab.execute(...store(BASE, 1), HLT)).toBe(-EFAULT);
    expect(lab.vcpu.kvmRun.exit).toEqual(memoryFault);
  });

  test('a closed file: the same', async () => {
    const lab = new PrivateLab();
    lab.convert(BASE, lab.size, true);
    await lab.execute(...store(BASE, 1), HLT);
    lab.file.close();
    expect(lab.gmemPages).toBe(0);
    expect(await lab.execute(...load(BASE), HLT)).toBe(-EFAULT);
    expect(lab.vcpu.kvmRun.exit).toEqual(memoryFault);
    // The slot may still go, or be used for shared memory.
    lab.convert(BASE, PAGE, false);
    expect(await lab.readWord(BASE)).toBe(0n);
    expect(lab.vm.setUserMemoryRegion2({ ...lab.privateSlot(), memorySize: 0 })).toBe(0);
  });

  test('an errno without details leaves no exit of before', async () => {
    const lab = new PrivateLab();
    lab.convert(BASE, PAGE, true);
    lab.vm.setUserMemoryRegion2({ ...lab.privateSlot(), memorySize: 0 });
    expect(await lab.execute(...load(BASE), HLT)).toBe(-EFAULT);
    expect(lab.vcpu.kvmRun.exitReason).toBe(39);
    lab.convert(BASE, PAGE, false);
    lab.vm.setUserMemoryRegion2({ ...lab.privateSlot(), flags: 0 });
    lab.vm.mm.munmap(lab.shared);
    expect(await lab.vcpu.run()).toBe(-EFAULT);
    expect(lab.vcpu.kvmRun.exitReason).toBe(0);
  });

  test('no memory left: the error and the exit', async () => {
    const lab = new PrivateLab();
    lab.convert(BASE, PAGE, true);
    lab.load(...load(BASE), HLT);
    const taken: number[] = [];
    for (let page = lab.host.pages.alloc(2); page !== undefined; page = lab.host.pages.alloc(2)) taken.push(page);
    // Tables and the code's page may be what is missing first.
    for (let i = 0; i < 5; i++) lab.host.pages.free(taken.pop()!);
    expect(await lab.vcpu.run()).toBe(-ENOMEM);
    for (const page of taken) lab.host.pages.free(page);
    expect(await lab.vcpu.run()).toMatchObject({ kind: 'hlt' });
  });

  test('one private page in 2 MiB of shared memory: the rest is mapped in small pages until it is shared again', async () => {
    const lab = new PrivateLab({ size: 2 * MIB2 });
    const touch = [...load(BASE), ...load(BASE + MIB2 - PAGE), HLT];
    await lab.execute(...touch);
    const level = (gpa: number): number => lab.vm.kvm.arch.tdpMmu.lookup(gpa / PAGE)!.level;
    expect(level(BASE)).toBe(2);
    lab.convert(BASE + 5 * PAGE, PAGE, true);
    await lab.execute(...load(BASE + 5 * PAGE), ...touch);
    expect([level(BASE), level(BASE + 5 * PAGE), level(BASE + MIB2 - PAGE)]).toEqual([1, 1, 1]);
    lab.convert(BASE + 5 * PAGE, PAGE, false);
    lab.vm.setMemoryAttributes({ address: BASE, size: MIB2, attributes: PRIVATE, flags: 0n });
    lab.vm.setMemoryAttributes({ address: BASE, size: MIB2, attributes: 0n, flags: 0n });
    await lab.execute(...touch);
    expect(level(BASE)).toBe(2);
  });

  test('a conversion that changes nothing takes nothing away', async () => {
    const lab = new PrivateLab();
    lab.convert(BASE, lab.size, true);
    await lab.execute(...store(BASE, 1), HLT);
    const faults = lab.vcpu.vcpu.stat.pf_taken;
    lab.convert(BASE, PAGE, true);
    await lab.execute(...store(BASE, 1), HLT);
    expect(lab.vcpu.vcpu.stat.pf_taken).toBe(faults);
  });
});

describe('KVM_HC_MAP_GPA_RANGE', () => {
  /** mov $12, %eax; mov $gpa, %ebx; mov $pages, %ecx; mov $attributes, %edx; vmcall */
  const mapGpaRange = (gpa: number, pages: number, attributes: number): number[] => [
    ...[0xb8, ...imm32(12), 0xbb, ...imm32(gpa), 0xb9, ...imm32(pages), 0xba, ...imm32(attributes)],
    ...[0x0f, 0x01, 0xc1],
  ];
  const ENCRYPTED = 0x10;

  test('the guest asks, user space converts and answers', async () => {
    const lab = new PrivateLab();
    expect(lab.vm.enableCap(201, [1n << 12n])).toBe(0);
    lab.load(...mapGpaRange(BASE, 2, ENCRYPTED), ...store(BASE, 7), ...load(BASE), HLT);
    const exit = await lab.vcpu.run();
    if (typeof exit === 'number' || exit.kind !== 'hypercall') throw new Error('no hypercall');
    expect([exit.nr, ...exit.args]).toEqual([12n, BigInt(BASE), 2n, 0x10n, 0n, 0n, 0n]);
    expect(exit.flags).toBe(0n);
    expect(lab.convert(Number(exit.args[0]), Number(exit.args[1]) * PAGE, true)).toBe(0);
    exit.ret = 0n;
    expect(await lab.vcpu.run()).toMatchObject({ kind: 'hlt' });
    expect(ok(lab.vcpu.getRegs()).rax).toBe(7n);
    expect(lab.sharedWord(BASE)).toBe(0);
  });

  test('the answer is the guest’s result', async () => {
    const lab = new PrivateLab();
    lab.vm.enableCap(201, [1n << 12n]);
    lab.load(...mapGpaRange(BASE, 1, 0), HLT);
    const exit = await lab.vcpu.run();
    if (typeof exit === 'number' || exit.kind !== 'hypercall') throw new Error('no hypercall');
    exit.ret = 22n;
    await lab.vcpu.run();
    expect(ok(lab.vcpu.getRegs()).rax).toBe(22n);
  });

  test.each([
    ['not asked for', 0n, BASE, 1, 1000n],
    ['address not aligned', 1n << 12n, BASE + 8, 1, 22n],
    ['no pages', 1n << 12n, BASE, 0, 22n],
  ])('%s: refused without an exit', async (_name, mask, gpa, pages, error) => {
    const lab = new PrivateLab();
    lab.vm.enableCap(201, [mask]);
    expect(await lab.execute(...mapGpaRange(gpa, pages, 0), HLT)).toMatchObject({ kind: 'hlt' });
    expect(ok(lab.vcpu.getRegs()).rax).toBe(BigInt.asUintN(32, -error));
  });
});

describe('several vCPUs', () => {
  const COUNTERS = 0x4000;
  /** vmcall of KVM_HC_MAP_GPA_RANGE for one page at BASE. */
  const toPrivate = [
    ...[0xb8, ...imm32(12), 0xbb, ...imm32(BASE), 0xb9, ...imm32(1), 0xba, ...imm32(0x10)],
    ...[0x0f, 0x01, 0xc1],
  ];
  /** inc (%edi), and reads the word at BASE until it is `value`. */
  const waitFor = (value: number): number[] => [0xff, 0x07, ...load(BASE), 0x3d, ...imm32(value), 0x75, 0xf2, HLT];

  test('one converts a page that the others have in their TLBs: all see the other memory', async () => {
    const lab = new PrivateLab({ host: loadedHost(2) });
    const { vm } = lab;
    vm.enableCap(201, [1n << 12n]);
    vm.mm.write(lab.shared, Uint8Array.of(1));
    const waiting = [1, 2, 3].map((id) => {
      const vcpu = ok(vm.createVcpu(id));
      vcpu.setCpuid2(lab.kvm.getSupportedCpuid());
      vcpu.setSregs({ ...ok(lab.vcpu.getSregs()), apicBase: ok(vcpu.getSregs()).apicBase });
      vcpu.setRegs({ ...ok(lab.vcpu.getRegs()), rip: 0x3000n, rdi: BigInt(COUNTERS + 4 * id) });
      return vcpu;
    });
    lab.put(0x3000, ...waitFor(2));
    // The first one waits a little, so that the others spin before it asks.
    const delay = [0xb9, ...imm32(10_000_000), 0xe2, 0xfe];
    lab.load(...delay, ...toPrivate, ...store(BASE, 2), HLT);
    lab.start();
    let spinning: boolean[] = [];
    const converter = async (): Promise<void> => {
      for (;;) {
        const exit = ok(await lab.vcpu.run());
        if (exit.kind !== 'hypercall') return expect(exit.kind).toBe('hlt');
        spinning = [1, 2, 3].map((id) => lab.read32(COUNTERS + 4 * id) > 10);
        expect(lab.convert(BASE, PAGE, true)).toBe(0);
      }
    };
    const spinner = async (vcpu: Vcpu): Promise<void> => expect(ok(await vcpu.run()).kind).toBe('hlt');
    await Promise.all([converter(), ...waiting.map(spinner)]);
    // They had really read the shared page before.
    expect(spinning).toEqual([true, true, true]);
    expect(lab.sharedWord(BASE)).toBe(1);
  });
});

describe('KVM_PRE_FAULT_MEMORY', () => {
  test('what was mapped before costs the guest no fault', async () => {
    const lab = new PrivateLab();
    lab.convert(BASE, 8 * PAGE, true);
    const range = { gpa: BASE, size: lab.size, flags: 0n };
    expect(lab.vcpu.preFaultMemory(range)).toBe(0);
    expect(range).toMatchObject({ gpa: BASE + lab.size, size: 0 });
    expect(lab.gmemPages).toBe(8);
    await lab.execute(HLT);
    const faults = lab.vcpu.vcpu.stat.pf_taken;
    await lab.execute(...store(BASE, 1), ...store(BASE + lab.size - 4, 1), HLT);
    expect(lab.vcpu.vcpu.stat.pf_taken).toBe(faults);
  });
  test('a range that is mapped already is no error', () => {
    const lab = new PrivateLab();
    lab.convert(BASE, PAGE, true);
    for (let i = 0; i < 2; i++) expect(lab.vcpu.preFaultMemory({ gpa: BASE, size: PAGE, flags: 0n })).toBe(0);
  });
  test('large pages go in one step, as far as the range goes', () => {
    const lab = new PrivateLab({ size: 2 * MIB2 });
    const range = { gpa: BASE + PAGE, size: MIB2, flags: 0n };
    expect(lab.vcpu.preFaultMemory(range)).toBe(0);
    expect(lab.vm.kvm.arch.tdpMmu.tables).toBe(3);
  });
  test('the end of the slot: what was done counts, the rest is told', () => {
    const lab = new PrivateLab();
    const range = { gpa: BASE + lab.size - PAGE, size: 3 * PAGE, flags: 0n };
    expect(lab.vcpu.preFaultMemory(range)).toBe(0);
    expect(range).toMatchObject({ gpa: BASE + lab.size, size: 2 * PAGE });
    expect(lab.vcpu.preFaultMemory(range)).toBe(-ENOENT);
    expect(range.size).toBe(2 * PAGE);
  });
  test.each([
    ['flags', { flags: 1n }, -EINVAL],
    ['gpa not aligned', { gpa: BASE + 1 }, -EINVAL],
    ['size not aligned', { size: 0x800 }, -EINVAL],
    ['size 0', { size: 0 }, -EINVAL],
    ['wraps', { gpa: Number.MAX_SAFE_INTEGER - PAGE + 1 }, -EINVAL],
  ])('%s', (_name, change, result) => {
    const lab = new PrivateLab();
    expect(lab.vcpu.preFaultMemory({ gpa: BASE, size: PAGE, flags: 0n, ...change })).toBe(result);
  });
  test('not before a protected VM is ready for it', () => {
    const lab = new PrivateLab();
    lab.vm.kvm.arch.preFaultAllowed = false;
    expect(lab.vcpu.preFaultMemory({ gpa: BASE, size: PAGE, flags: 0n })).toBe(-EOPNOTSUPP);
  });
  test('private memory without guest_memfd: −EFAULT', () => {
    const lab = new GuestLab({ type: SW_PROTECTED });
    lab.vm.setMemoryAttributes({ address: 0x2000, size: PAGE, attributes: PRIVATE, flags: 0n });
    expect(lab.vcpu.preFaultMemory({ gpa: 0x2000, size: PAGE, flags: 0n })).toBe(-EFAULT);
  });
  test('an ordinary VM has it, too', async () => {
    const lab = new GuestLab();
    expect(lab.vcpu.preFaultMemory({ gpa: 0, size: lab.ram, flags: 0n })).toBe(0);
    lab.load(...store(0x2000, 1), HLT);
    await lab.run();
    expect(lab.vcpu.vcpu.stat.pf_taken).toBe(0);
  });
});

describe('the life of a VM with private memory', () => {
  test('a file keeps its VM, and virtualization on, until it is closed', async () => {
    const lab = new PrivateLab();
    const { host } = lab;
    lab.convert(BASE, lab.size, true);
    await lab.execute(...store(BASE, 1), HLT);
    lab.vm.close();
    expect(host.pages.count(PAGE_OWNER.guestMemfd)).toBe(1);
    expect(vmxOnCpus(host)).toEqual([0]);
    expect(await lab.vcpu.run()).toBe(-EIO);
    expect(lab.vm.createGuestMemfd({ size: PAGE, flags: 0n })).toBe(-EBADF);
    lab.file.close();
    expect(vmxOnCpus(host)).toEqual([]);
    lab.vm.mm.exit();
    const used = [PAGE_OWNER.guestMemfd, PAGE_OWNER.ept, PAGE_OWNER.user].map((owner) => host.pages.count(owner));
    expect(used).toEqual([0, 0, 0]);
  });

  test('the file may go first', async () => {
    const lab = new PrivateLab();
    lab.convert(BASE, lab.size, true);
    await lab.execute(...store(BASE, 1), HLT);
    lab.file.close();
    expect(vmxOnCpus(lab.host)).toEqual([0]);
    lab.vm.close();
    expect(vmxOnCpus(lab.host)).toEqual([]);
    expect(lab.host.pages.count(PAGE_OWNER.ept)).toBe(0);
  });

  test('MMIO of such a VM is as of any other', async () => {
    const lab = new PrivateLab();
    lab.convert(BASE, lab.size, true);
    const exit = await lab.execute(...load(0x8000_0000), HLT);
    expect(exit).toMatchObject({ kind: 'mmio', physAddr: 0x8000_0000, isWrite: false });
  });
});
