/**
 * The host kernel's page allocator: a buddy allocator over the machine's RAM, with an owner noted for every page.
 *
 * Pages come out zeroed. The order of allocations decides every address, so runs repeat exactly.
 */
import type { PhysicalMemory } from '../machine/memory.ts';
import { type Hpa, PAGE_SIZE } from '../util/address.ts';

/** What a page is used for. */
export const PAGE_OWNER = {
  free: 0,
  /** Firmware, the low megabyte, holes. */
  reserved: 1,
  kernel: 2,
  /** VMXON regions and VMCSs. */
  vmcs: 3,
  /** EPT paging structures. */
  ept: 4,
  /** Anonymous memory of the VMM process: guest RAM. */
  user: 5,
  /** Given to the TDX module: TDR, TDCS, TDVPR, secure EPT, PAMT. */
  tdx: 6,
  /** Memory of guests that the VMM process cannot map. */
  guestMemfd: 7,
} as const;
/** One of {@link PAGE_OWNER}. */
export type PageOwner = (typeof PAGE_OWNER)[keyof typeof PAGE_OWNER];

/** Largest block: 4 MiB. */
export const MAX_ORDER = 10;
/** Order of a 2 MiB block. */
export const HUGE_ORDER = 9;

const NONE = -1;

/** Buddy allocator; blocks are 2^order pages and naturally aligned. */
export class PageAllocator {
  readonly #memory: PhysicalMemory;
  readonly #pages: number;
  readonly #owner: Uint8Array;
  /** Pages that were handed out before and so may hold old content. */
  readonly #used: Uint8Array;
  /** Order of the free block that starts at this page, NONE elsewhere. */
  readonly #order: Int8Array;
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  readonly #heads: Int32Array = new Int32Array(MAX_ORDER + 1).fill(NONE);
  readonly #counts: number[] = [0, 0, 0, 0, 0, 0, 0, 0];
  /** Pages that {@link pin} keeps, and whether their owner has freed them meanwhile. */
  readonly #pinned: Map<Hpa, boolean> = new Map();

  /** @param reserved bytes at the bottom of memory that are never handed out */
  constructor(memory: PhysicalMemory, reserved: number = 1 << 20) {
    this.#memory = memory;
    this.#pages = Math.floor(memory.ramSize / PAGE_SIZE);
    this.#owner = new Uint8Array(this.#pages).fill(PAGE_OWNER.reserved);
    this.#used = new Uint8Array(this.#pages);
    this.#order = new Int8Array(this.#pages).fill(NONE);
    this.#next = new Int32Array(this.#pages).fill(NONE);
    this.#previous = new Int32Array(this.#pages).fill(NONE);
    this.#counts[PAGE_OWNER.reserved] = this.#pages;
    const first = Math.ceil(reserved / PAGE_SIZE);
    // Highest blocks first, so that the lowest addresses are on top of the free lists.
    let end = this.#pages;
    while (end > first) {
      let order = 0;
      while (order < MAX_ORDER && end % (2 << order) === 0 && end - (2 << order) >= first) order++;
      end -= 1 << order;
      this.#setOwner(end, order, PAGE_OWNER.free);
      this.#push(end, order);
    }
  }

  /** Free pages. */
  get freePages(): number {
    return this.#counts[PAGE_OWNER.free]!;
  }

  /** Pages that belong to `owner`. */
  count(owner: PageOwner): number {
    return this.#counts[owner]!;
  }

  ownerOf(hpa: Hpa): PageOwner {
    return (this.#owner[hpa / PAGE_SIZE] ?? PAGE_OWNER.reserved) as PageOwner;
  }

  /** A zeroed block of 2^order pages, or undefined when no block is free (−ENOMEM to callers). */
  alloc(owner: PageOwner, order = 0): Hpa | undefined {
    let from = order;
    while (from <= MAX_ORDER && this.#heads[from] === NONE) from++;
    if (from > MAX_ORDER) return undefined;
    const page = this.#heads[from]!;
    this.#remove(page, from);
    while (from > order) {
      from--;
      this.#push(page + (1 << from), from);
    }
    this.#setOwner(page, order, owner);
    this.#clear(page, order);
    return page * PAGE_SIZE;
  }

  /** Keeps a page from being free before {@link unpin}, whatever its owner does. @upstream get_page() */
  pin(hpa: Hpa): void {
    if (this.#pinned.has(hpa)) throw new Error(`page ${hpa.toString(16)} is pinned twice`);
    this.#pinned.set(hpa, false);
  }

  /** @upstream put_page() */
  unpin(hpa: Hpa): void {
    const freed = this.#pinned.get(hpa);
    if (freed === undefined) throw new Error(`page ${hpa.toString(16)} is not pinned`);
    this.#pinned.delete(hpa);
    if (freed) this.free(hpa);
  }

  /** Gives a block back. Freeing what is not allocated is a bug of the caller. */
  free(hpa: Hpa, order = 0): void {
    let page = hpa / PAGE_SIZE;
    if (hpa % PAGE_SIZE !== 0 || this.#owner[page] === PAGE_OWNER.free || this.#pinned.get(hpa) === true) {
      throw new Error(`page ${hpa.toString(16)} is freed twice`);
    }
    if (this.#pinned.has(hpa)) {
      this.#pinned.set(hpa, true);
      return;
    }
    this.#setOwner(page, order, PAGE_OWNER.free);
    let size = order;
    while (size < MAX_ORDER) {
      const buddy = page ^ (1 << size);
      if (buddy + (1 << size) > this.#pages || this.#order[buddy] !== size) break;
      this.#remove(buddy, size);
      page = Math.min(page, buddy);
      size++;
    }
    this.#push(page, size);
  }

  /** Zeroed memory of any number of pages in one piece, or undefined. @upstream alloc_contig_pages() */
  allocContig(owner: PageOwner, pages: number): Hpa | undefined {
    const start = this.#findRun(pages);
    if (start === NONE) return undefined;
    const end = start + pages;
    // The blocks under it leave the free lists; what of the last one is beyond it goes back.
    let page = start;
    while (page < end) {
      const order = this.#order[page]!;
      this.#remove(page, order);
      page += 1 << order;
    }
    this.#forEachBlock(end, page, (block, order) => this.#push(block, order));
    this.#forEachBlock(start, end, (block, order) => {
      this.#setOwner(block, order, owner);
      this.#clear(block, order);
    });
    return start * PAGE_SIZE;
  }

  /** Gives back what {@link allocContig} gave. @upstream free_contig_range() */
  freeContig(hpa: Hpa, pages: number): void {
    const first = hpa / PAGE_SIZE;
    this.#forEachBlock(first, first + pages, (block, order) => this.free(block * PAGE_SIZE, order));
  }

  /** The first page of the lowest run of free blocks with so many pages; it begins at a block. */
  #findRun(pages: number): number {
    let start = NONE;
    for (let page = 0; page < this.#pages; ) {
      if (this.#owner[page] !== PAGE_OWNER.free) {
        start = NONE;
        page++;
        continue;
      }
      if (start === NONE) start = page;
      page += 1 << this.#order[page]!;
      if (page - start >= pages) return start;
    }
    return NONE;
  }

  /** Cuts [first, end) into naturally aligned blocks. */
  #forEachBlock(first: number, end: number, each: (page: number, order: number) => void): void {
    for (let page = first; page < end; ) {
      let order = 0;
      while (order < MAX_ORDER && page % (2 << order) === 0 && page + (2 << order) <= end) order++;
      each(page, order);
      page += 1 << order;
    }
  }

  #clear(page: number, order: number): void {
    for (let i = page; i < page + (1 << order); i++) {
      if (this.#used[i] !== 0) this.#memory.fill(i * PAGE_SIZE, PAGE_SIZE);
      this.#used[i] = 1;
    }
  }

  #setOwner(page: number, order: number, owner: PageOwner): void {
    const count = 1 << order;
    for (let i = page; i < page + count; i++) {
      this.#counts[this.#owner[i]!]!--;
      this.#owner[i] = owner;
    }
    this.#counts[owner]! += count;
  }

  #push(page: number, order: number): void {
    const head = this.#heads[order]!;
    this.#order[page] = order;
    this.#next[page] = head;
    this.#previous[page] = NONE;
    if (head !== NONE) this.#previous[head] = page;
    this.#heads[order] = page;
  }

  #remove(page: number, order: number): void {
    const next = this.#next[page]!;
    const previous = this.#previous[page]!;
    if (previous === NONE) this.#heads[order] = next;
    else this.#next[previous] = next;
    if (next !== NONE) this.#previous[next] = previous;
    this.#order[page] = NONE;
  }
}
