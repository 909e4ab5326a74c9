/**
 * The address space of the VMM process: anonymous memory that pages back on first touch.
 *
 * KVM maps it into guests by its addresses here ("host virtual addresses"), the VMM reads and writes it by the same.
 * Where 2 MiB are aligned and free, one huge page backs them, so that KVM can map them with one EPT entry.
 *
 * @upstream mm/memory.c, mm/mmap.c, mm/huge_memory.c
 */
import type { PhysicalMemory } from '../machine/memory.ts';
import { type Hpa, PAGE_SIZE } from '../util/address.ts';
import { EINVAL, type Errno } from './errno.ts';
import { HUGE_ORDER, PAGE_OWNER, type PageAllocator } from './pages.ts';

const HUGE_SIZE: number = PAGE_SIZE << HUGE_ORDER;
const HUGE_PAGES: number = 1 << HUGE_ORDER;
/** Where mappings start. */
const MMAP_BASE = 0x7f00_0000_0000;
const ABSENT = -1;

interface Mapping {
  readonly start: number;
  readonly length: number;
  /** Page frame by page, ABSENT where nothing was touched yet. */
  readonly frames: Int32Array;
  /** 1 for each 2 MiB that one huge page backs. */
  readonly huge: Uint8Array;
}

/** Told before a range of addresses loses its pages. @upstream struct mmu_notifier */
export type InvalidateRange = (start: number, end: number) => void;

/** Anonymous memory by address. Addresses are numbers below 2^47. */
export class UserMemory {
  readonly #memory: PhysicalMemory;
  readonly #pages: PageAllocator;
  readonly #mappings: Mapping[] = [];
  readonly #notifiers: InvalidateRange[] = [];
  #next: number = MMAP_BASE;
  #last: Mapping | null = null;

  constructor(memory: PhysicalMemory, pages: PageAllocator) {
    this.#memory = memory;
    this.#pages = pages;
  }

  /** Reserves `length` bytes (rounded up to a page), 2 MiB-aligned; nothing is allocated until touched. */
  mmap(length: number): number {
    const size = Math.ceil(length / PAGE_SIZE) * PAGE_SIZE;
    const start = this.#next;
    this.#next += Math.ceil(size / HUGE_SIZE) * HUGE_SIZE + HUGE_SIZE;
    this.#mappings.push({
      start,
      length: size,
      frames: new Int32Array(size / PAGE_SIZE).fill(ABSENT),
      huge: new Uint8Array(Math.ceil(size / HUGE_SIZE)),
    });
    return start;
  }

  /** Gives a mapping back, whole. −EINVAL if `start` is no mapping. */
  munmap(start: number): Errno {
    const at = this.#mappings.findIndex((mapping) => mapping.start === start);
    const mapping = this.#mappings[at];
    if (mapping === undefined) return -EINVAL;
    for (const notify of [...this.#notifiers]) notify(start, start + mapping.length);
    for (let i = 0; i < mapping.frames.length; i++) {
      const frame = mapping.frames[i]!;
      if (frame === ABSENT) continue;
      if (mapping.huge[Math.floor(i / HUGE_PAGES)] !== 0) {
        this.#pages.free(frame * PAGE_SIZE, HUGE_ORDER);
        i += HUGE_PAGES - 1;
      } else {
        this.#pages.free(frame * PAGE_SIZE);
      }
    }
    this.#mappings.splice(at, 1);
    this.#last = null;
    return 0;
  }

  /**
   * Gives the pages of [start, start + length) back; the next touch finds zeros. Of a huge page that is only partly in the
   * range the part is cleared. −EINVAL where the range is not page-aligned in one mapping. @upstream MADV_DONTNEED
   */
  discard(start: number, length: number): Errno {
    const mapping = this.#find(start);
    if (mapping === null || start % PAGE_SIZE !== 0 || length % PAGE_SIZE !== 0) return -EINVAL;
    const first = (start - mapping.start) / PAGE_SIZE;
    const end = first + length / PAGE_SIZE;
    if (end > mapping.frames.length) return -EINVAL;
    for (const notify of [...this.#notifiers]) notify(start, start + length);
    for (let i = first; i < end; i++) {
      const frame = mapping.frames[i]!;
      if (frame === ABSENT) continue;
      const block = Math.floor(i / HUGE_PAGES);
      const blockStart = block * HUGE_PAGES;
      if (mapping.huge[block] === 0) {
        this.#pages.free(frame * PAGE_SIZE);
        mapping.frames[i] = ABSENT;
      } else if (i === blockStart && blockStart + HUGE_PAGES <= end) {
        this.#pages.free(frame * PAGE_SIZE, HUGE_ORDER);
        mapping.frames.fill(ABSENT, blockStart, blockStart + HUGE_PAGES);
        mapping.huge[block] = 0;
        i += HUGE_PAGES - 1;
      } else this.#memory.fill(frame * PAGE_SIZE, PAGE_SIZE);
    }
    return 0;
  }

  registerNotifier(notify: InvalidateRange): void {
    this.#notifiers.push(notify);
  }
  unregisterNotifier(notify: InvalidateRange): void {
    const at = this.#notifiers.indexOf(notify);
    if (at >= 0) this.#notifiers.splice(at, 1);
  }

  /** The physical page behind an address, allocated now if need be; undefined: no mapping, or no memory. */
  faultIn(address: number): Hpa | undefined {
    const mapping = this.#find(address);
    if (mapping === null) return undefined;
    const index = Math.floor((address - mapping.start) / PAGE_SIZE);
    const frame = mapping.frames[index]!;
    if (frame !== ABSENT) return frame * PAGE_SIZE;
    return this.#populate(mapping, index);
  }

  /** The physical page behind an address if it was touched already; nothing is allocated. */
  residentPage(address: number): Hpa | undefined {
    const mapping = this.#find(address);
    const frame = mapping?.frames[Math.floor((address - mapping.start) / PAGE_SIZE)] ?? ABSENT;
    return frame === ABSENT ? undefined : frame * PAGE_SIZE;
  }

  /** Whether one huge page backs the 2 MiB around `address`. */
  isHuge(address: number): boolean {
    const mapping = this.#find(address);
    return mapping !== null && mapping.huge[Math.floor((address - mapping.start) / HUGE_SIZE)] !== 0;
  }

  /** Whether [address, address + length) lies in one mapping. */
  contains(address: number, length: number): boolean {
    const mapping = this.#find(address);
    return mapping !== null && address + length <= mapping.start + mapping.length;
  }

  /** Copies out of the address space; undefined where it is not mapped (−EFAULT to callers). */
  read(address: number, length: number): Uint8Array | undefined {
    const out = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const page = this.faultIn(address + done);
      if (page === undefined) return undefined;
      const offset = (address + done) % PAGE_SIZE;
      const part = Math.min(length - done, PAGE_SIZE - offset);
      out.set(this.#memory.readBytes(page + offset, part), done);
      done += part;
    }
    return out;
  }

  /** Copies into the address space; false where it is not mapped (bytes before that are written). */
  write(address: number, data: Uint8Array): boolean {
    for (let done = 0; done < data.length; ) {
      const page = this.faultIn(address + done);
      if (page === undefined) return false;
      const offset = (address + done) % PAGE_SIZE;
      const part = Math.min(data.length - done, PAGE_SIZE - offset);
      this.#memory.writeBytes(page + offset, data.subarray(done, done + part));
      done += part;
    }
    return true;
  }

  /** Releases everything: the process is gone. */
  exit(): void {
    for (const mapping of [...this.#mappings]) this.munmap(mapping.start);
  }

  #find(address: number): Mapping | null {
    const last = this.#last;
    if (last !== null && address >= last.start && address < last.start + last.length) return last;
    for (const mapping of this.#mappings) {
      if (address >= mapping.start && address < mapping.start + mapping.length) {
        this.#last = mapping;
        return mapping;
      }
    }
    return null;
  }

  #populate(mapping: Mapping, index: number): Hpa | undefined {
    const block = Math.floor(index / HUGE_PAGES);
    const first = block * HUGE_PAGES;
    const whole = first + HUGE_PAGES <= mapping.frames.length;
    if (whole && mapping.frames.subarray(first, first + HUGE_PAGES).every((f) => f === ABSENT)) {
      const hpa = this.#pages.alloc(PAGE_OWNER.user, HUGE_ORDER);
      if (hpa !== undefined) {
        for (let i = 0; i < HUGE_PAGES; i++) mapping.frames[first + i] = hpa / PAGE_SIZE + i;
        mapping.huge[block] = 1;
        return hpa + (index - first) * PAGE_SIZE;
      }
    }
    const hpa = this.#pages.alloc(PAGE_OWNER.user);
    if (hpa !== undefined) mapping.frames[index] = hpa / PAGE_SIZE;
    return hpa;
  }
}
