import { expect, test } from 'vitest';
import { PhysicalMemory } from '../machine/memory.ts';
import { UserMemory } from './mm.ts';
import { PAGE_OWNER, PageAllocator } from './pages.ts';

const MIB = 1 << 20;
const make = (bytes = 16 * MIB): [UserMemory, PageAllocator] => {
  const memory = new PhysicalMemory(bytes);
  const pages = new PageAllocator(memory);
  return [new UserMemory(memory, pages), pages];
};

test('nothing is allocated until it is touched', () => {
  const [mm, pages] = make();
  const address = mm.mmap(4 * MIB);
  expect(pages.count(PAGE_OWNER.user)).toBe(0);
  mm.write(address + 3 * MIB, Uint8Array.of(1));
  expect(pages.count(PAGE_OWNER.user)).toBe(512);
  expect(mm.isHuge(address + 3 * MIB)).toBe(true);
  expect(mm.isHuge(address)).toBe(false);
});

test('what is written is read, across pages, and zero elsewhere', () => {
  const [mm] = make();
  const address = mm.mmap(0x3000);
  expect(mm.write(address + 0xffe, Uint8Array.of(1, 2, 3, 4))).toBe(true);
  expect([...mm.read(address + 0xffc, 8)!]).toEqual([0, 0, 1, 2, 3, 4, 0, 0]);
});

test('accesses beyond a mapping fail', () => {
  const [mm] = make();
  const address = mm.mmap(0x1000);
  expect(mm.write(address + 0xfff, Uint8Array.of(1, 2))).toBe(false);
  expect(mm.read(address - 1, 2)).toBeUndefined();
  expect(mm.contains(address, 0x1000)).toBe(true);
  expect(mm.contains(address, 0x1001)).toBe(false);
});

test('small pages where no huge one is free', () => {
  const [mm, pages] = make(3 * MIB);
  while (pages.alloc(PAGE_OWNER.kernel, 9) !== undefined);
  const address = mm.mmap(2 * MIB);
  mm.write(address, Uint8Array.of(7));
  expect(mm.isHuge(address)).toBe(false);
  expect(pages.count(PAGE_OWNER.user)).toBe(1);
});

test('unmapping tells who maps the range, then frees every page', () => {
  const [mm, pages] = make();
  const free = pages.freePages;
  const address = mm.mmap(2 * MIB + 0x1000);
  mm.write(address, Uint8Array.of(1));
  mm.write(address + 2 * MIB, Uint8Array.of(1));
  const ranges: [number, number][] = [];
  mm.registerNotifier((start, end) => void ranges.push([start, end]));
  expect(mm.munmap(address + 0x1000)).toBe(-22);
  expect(mm.munmap(address)).toBe(0);
  expect(ranges).toEqual([[address, address + 2 * MIB + 0x1000]]);
  expect(pages.freePages).toBe(free);
  expect(mm.read(address, 1)).toBeUndefined();
});

test('discarded pages go back to the host and read as zeros again; of a huge page the part is cleared', () => {
  const [mm, pages] = make();
  const address = mm.mmap(4 * MIB);
  const told: number[][] = [];
  mm.registerNotifier((start, end) => told.push([start - address, end - address]));
  mm.write(address, Uint8Array.of(1));
  mm.write(address + 0x5000, Uint8Array.of(5));
  mm.write(address + 2 * MIB, Uint8Array.of(2));
  expect(mm.discard(address + 0x5000, 0x1000)).toBe(0);
  expect(pages.count(PAGE_OWNER.user)).toBe(1024);
  expect([...mm.read(address, 1)!, ...mm.read(address + 0x5000, 1)!]).toEqual([1, 0]);
  expect(mm.discard(address, 4 * MIB)).toBe(0);
  expect(pages.count(PAGE_OWNER.user)).toBe(0);
  expect(mm.residentPage(address)).toBeUndefined();
  expect(told).toEqual([
    [0x5000, 0x6000],
    [0, 4 * MIB],
  ]);
});

test('only whole pages of one mapping can be discarded', () => {
  const [mm] = make();
  const address = mm.mmap(0x3000);
  expect([mm.discard(address + 1, 0x1000), mm.discard(address, 0x4000), mm.discard(0, 0x1000)]).toEqual([
    -22, -22, -22,
  ]);
});
