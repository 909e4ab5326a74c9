import { describe, expect, test } from 'vitest';
import { PhysicalMemory } from '../machine/memory.ts';
import { Random } from '../util/random.ts';
import { HUGE_ORDER, PAGE_OWNER, PageAllocator } from './pages.ts';

const MIB = 1 << 20;
const allocator = (bytes = 16 * MIB): [PageAllocator, PhysicalMemory] => {
  const memory = new PhysicalMemory(bytes);
  return [new PageAllocator(memory), memory];
};

describe('PageAllocator', () => {
  test('a page that is pinned is free only when it is unpinned', () => {
    const [pages] = allocator();
    const { freePages } = pages;
    const page = pages.alloc(PAGE_OWNER.guestMemfd)!;
    pages.pin(page);
    expect(() => pages.pin(page)).toThrow('pinned twice');
    pages.free(page);
    expect(() => pages.free(page)).toThrow('freed twice');
    expect([pages.freePages, pages.ownerOf(page)]).toEqual([freePages - 1, PAGE_OWNER.guestMemfd]);
    pages.unpin(page);
    expect(pages.freePages).toBe(freePages);
    expect(() => pages.unpin(page)).toThrow('not pinned');
  });

  test('the low megabyte is never handed out', () => {
    const [pages] = allocator(2 * MIB);
    expect(pages.freePages).toBe(256);
    expect(pages.count(PAGE_OWNER.reserved)).toBe(256);
    for (let i = 0; i < 256; i++) expect(pages.alloc(PAGE_OWNER.kernel)).toBeGreaterThanOrEqual(MIB);
    expect(pages.alloc(PAGE_OWNER.kernel)).toBeUndefined();
  });

  test('blocks are naturally aligned, disjoint, and merge again when all are free', () => {
    const [pages] = allocator();
    const free = pages.freePages;
    const random = new Random(1);
    const taken: [number, number][] = [];
    for (let round = 0; round < 2000; round++) {
      const order = random.below(5);
      if (random.below(2) === 1) {
        const page = pages.alloc(PAGE_OWNER.user, order);
        if (page === undefined) continue;
        const size = 4096 << order;
        expect(page % size).toBe(0);
        for (const [other, otherOrder] of taken)
          expect(page + size <= other || other + (4096 << otherOrder) <= page).toBe(true);
        taken.push([page, order]);
      } else if (taken.length > 0) {
        const [[page, freed]] = taken.splice(random.below(taken.length), 1) as [[number, number]];
        pages.free(page, freed);
      }
    }
    for (const [page, order] of taken) pages.free(page, order);
    expect(pages.freePages).toBe(free);
    expect(pages.count(PAGE_OWNER.user)).toBe(0);
    // Everything above 2 MiB can be had in huge pages again.
    for (let i = 0; i < 7; i++) expect(pages.alloc(PAGE_OWNER.user, HUGE_ORDER)).toBeDefined();
  });

  test('a page that was used comes back zeroed', () => {
    const [pages, memory] = allocator(2 * MIB);
    const page = pages.alloc(PAGE_OWNER.kernel)!;
    memory.write32(page + 8, 0xdeadbeef);
    pages.free(page);
    expect(pages.alloc(PAGE_OWNER.kernel)).toBe(page);
    expect(memory.read32(page + 8)).toBe(0);
  });

  test('any number of pages in one piece: blocks are cut and come back whole', () => {
    const [pages, memory] = allocator();
    const free = pages.freePages;
    const small = [pages.alloc(PAGE_OWNER.user)!, pages.alloc(PAGE_OWNER.user, 3)!];
    for (const count of [1, 3, 1027, 700]) {
      const start = pages.allocContig(PAGE_OWNER.tdx, count)!;
      expect(pages.count(PAGE_OWNER.tdx)).toBe(count);
      for (let i = 0; i < count; i++) expect(pages.ownerOf(start + i * 4096)).toBe(PAGE_OWNER.tdx);
      expect(pages.ownerOf(start + count * 4096)).not.toBe(PAGE_OWNER.tdx);
      memory.write32(start, 0xdeadbeef);
      pages.freeContig(start, count);
      expect(pages.count(PAGE_OWNER.tdx)).toBe(0);
    }
    pages.free(small[0]!);
    pages.free(small[1]!, 3);
    expect(pages.freePages).toBe(free);
    const all = pages.allocContig(PAGE_OWNER.kernel, free)!;
    expect(memory.read32(all)).toBe(0);
    expect(pages.freePages).toBe(0);
    expect(pages.allocContig(PAGE_OWNER.kernel, 1)).toBeUndefined();
    pages.freeContig(all, free);
    for (let i = 0; i < 7; i++) expect(pages.alloc(PAGE_OWNER.user, HUGE_ORDER)).toBeDefined();
  });

  test('every page knows its owner', () => {
    const [pages] = allocator();
    const page = pages.alloc(PAGE_OWNER.ept)!;
    expect(pages.ownerOf(page)).toBe(PAGE_OWNER.ept);
    pages.free(page);
    expect(pages.ownerOf(page)).toBe(PAGE_OWNER.free);
    expect(() => pages.free(page)).toThrow('twice');
  });
});
