/**
 * The TLB banks in the machine's WebAssembly memory: who has which, formatting, single entries, and finding a page.
 *
 *   entry (16 bytes)   0 tag i64: linear address of the page   8 host i32: where its byte 0 lies   12 frame i32: page / 4096
 *
 * A lookup of linear address va uses entry (va >> 12) & 4095 of an array (of the execute array, executeOffset) and hits iff va - tag <=u 4096 - size. Every
 * address reaches the lookup, non-canonical ones too, so an unused entry holds a tag with another index than its own.
 */
import type { Hpa } from '../../util/address.ts';
import {
  executeOffset,
  RAM_BASE,
  TLB_BANK_COUNT,
  TLB_BANK_SIZE,
  TLB_BANKS,
  TLB_ENTRIES,
  TLB_EXECUTE,
  TLB_INDEX_MASK,
  TLB_READ,
  TLB_WRITE,
} from '../engine/layout.ts';
import type { PhysicalMemory } from '../memory.ts';
import type { TlbContext } from './tlb-context.ts';

/** A bank that stays empty: what processors use that have filled nothing yet. */
export const EMPTY_BANK: number = TLB_BANKS;

const ARRAYS = [TLB_READ, TLB_WRITE, TLB_EXECUTE] as const;
/** Where each array ends; arrays follow each other in a bank. */
const ARRAY_SIZE = TLB_WRITE - TLB_READ;

// A fresh bank is filled with this byte, because memset is the fastest fill there is. As a tag the pattern covers parts of
// two pages; their entries get tag 0 instead, which has index 0.
const FRESH_BYTE = 0x80;
const FRESH_PAGES = [0x8080_8000, 0x8080_9000];

/** More than one linear page leads to the page. */
const ANY_LINEAR = 0xffff_ffff;

/** More than one index may hold a write entry of the page. */
const ANY_INDEX = 0xffff;

/** Fills of a bank that are remembered, so that emptying it costs no more than it holds. */
const JOURNAL = 192;

/** The same for pages that are not global, which a change of address space drops. */
const LOCAL_JOURNAL = 768;

/** Frame number of entries that stand for no page of RAM. */
const NO_FRAME = 0xffff_ffff;

/** Byte offset of an entry within the read or the write array. */
export const entryOffset = (linearLow: number): number => (linearLow >>> 8) & TLB_INDEX_MASK;

/** Byte offset of an entry within any of the arrays. */
export const offsetIn = (array: number, linearLow: number): number =>
  array === TLB_EXECUTE ? executeOffset(linearLow) : entryOffset(linearLow);

export class TlbBanks {
  /** All memory as 32-bit words. */
  readonly words: Uint32Array;
  readonly #bytes: Uint8Array;
  readonly #ramSize: number;
  /** Owner of each bank; bank 0 is EMPTY_BANK and nobody's. */
  readonly #owners: (TlbContext | null)[] = new Array(TLB_BANK_COUNT).fill(null);
  readonly #free: number[] = [];
  /** By bank: fills since it was empty, up to JOURNAL + 1. */
  readonly #filled: Uint8Array = new Uint8Array(TLB_BANK_COUNT);
  /** Entries of the first JOURNAL fills of each bank. */
  readonly #journal: Uint32Array = new Uint32Array(TLB_BANK_COUNT * JOURNAL);
  /** By bank: fills for pages that are not global since they were dropped, up to LOCAL_JOURNAL + 1. */
  readonly #locals: Uint16Array = new Uint16Array(TLB_BANK_COUNT);
  readonly #localJournal: Uint32Array = new Uint32Array(TLB_BANK_COUNT * LOCAL_JOURNAL);
  /** By frame: 0, or 1 + the index of the write entries it may have, or ANY_INDEX. */
  readonly #writeIndex: Uint16Array;
  /** Ticks whenever all banks are emptied at once. */
  #generation = 1;
  /** By frame: the generation in which an entry of any kind was last made for it, and the linear page or ANY_LINEAR. */
  readonly #mappedIn: Uint32Array;
  readonly #mappedAt: Uint32Array;
  /** Ticks with every use of a context: the LRU order. */
  clock = 0;

  constructor(memory: PhysicalMemory) {
    this.words = new Uint32Array(memory.memory.buffer);
    this.#bytes = memory.bytes;
    this.#ramSize = memory.ramSize;
    this.#writeIndex = new Uint16Array(memory.ramSize / 4096);
    this.#mappedIn = new Uint32Array(memory.ramSize / 4096);
    this.#mappedAt = new Uint32Array(memory.ramSize / 4096);
    for (let n = TLB_BANK_COUNT - 1; n > 0; n--) this.#free.push(n);
    this.#format(EMPTY_BANK);
  }

  /** An empty bank for one privilege class of a context; takes it from the least recently used context if it must. */
  allocate(owner: TlbContext): number {
    let n = this.#free.pop();
    if (n === undefined) {
      n = this.#leastRecentlyUsed();
      this.#owners[n]!.loseBank(TLB_BANKS + n * TLB_BANK_SIZE);
    }
    this.#owners[n] = owner;
    this.#filled[n] = 0;
    this.#locals[n] = 0;
    const bank = TLB_BANKS + n * TLB_BANK_SIZE;
    this.#format(bank);
    return bank;
  }

  release(bank: number): void {
    const n = (bank - TLB_BANKS) / TLB_BANK_SIZE;
    this.#owners[n] = null;
    this.#filled[n] = 0;
    this.#locals[n] = 0;
    this.#free.push(n);
  }

  /** Empties a bank. */
  flush(bank: number): void {
    const n = (bank - TLB_BANKS) / TLB_BANK_SIZE;
    const fills = this.#filled[n]!;
    if (fills === 0) return;
    this.#filled[n] = 0;
    this.#locals[n] = 0;
    if (fills > JOURNAL) return this.#format(bank);
    const start = n * JOURNAL;
    for (let i = start; i < start + fills; i++) this.drop(this.#journal[i]!);
  }

  /** Drops at least the entries of a bank that belong to pages that are not global. */
  flushLocal(bank: number): void {
    const n = (bank - TLB_BANKS) / TLB_BANK_SIZE;
    const locals = this.#locals[n]!;
    if (locals > LOCAL_JOURNAL) return this.flush(bank);
    this.#locals[n] = 0;
    const start = n * LOCAL_JOURNAL;
    for (let i = start; i < start + locals; i++) this.drop(this.#localJournal[i]!);
  }

  /** Notes that the entry just filled belongs to a page that is not global. */
  noteLocal(entry: number): void {
    const n = ((entry - TLB_BANKS) / TLB_BANK_SIZE) | 0;
    const locals = this.#locals[n]!;
    if (locals > LOCAL_JOURNAL) return;
    if (locals < LOCAL_JOURNAL) this.#localJournal[n * LOCAL_JOURNAL + locals] = entry;
    this.#locals[n] = locals + 1;
  }

  /** Empties the execute array of a bank. */
  flushExecute(bank: number): void {
    const n = (bank - TLB_BANKS) / TLB_BANK_SIZE;
    if (this.#filled[n] !== 0) this.#formatArray(bank, TLB_EXECUTE);
  }

  /**
   * Fills an entry.
   * @param entry its address
   * @param host where the tagged byte is
   * @param page host-physical page of RAM, or -1
   */
  fill(entry: number, tagLow: number, tagHigh: number, host: number, page: Hpa): void {
    const { words } = this;
    const at = entry >>> 2;
    words[at] = tagLow;
    words[at + 1] = tagHigh;
    words[at + 2] = host;
    if (page < 0) words[at + 3] = NO_FRAME;
    else {
      const frame = page / 4096;
      words[at + 3] = frame;
      const linear = tagLow >>> 12;
      if (this.#mappedIn[frame] !== this.#generation) {
        this.#mappedIn[frame] = this.#generation;
        this.#mappedAt[frame] = linear;
      } else if (this.#mappedAt[frame] !== linear) this.#mappedAt[frame] = ANY_LINEAR;
    }
    const n = ((entry - TLB_BANKS) / TLB_BANK_SIZE) | 0;
    const fills = this.#filled[n]!;
    if (fills > JOURNAL) return;
    if (fills < JOURNAL) this.#journal[n * JOURNAL + fills] = entry;
    this.#filled[n] = fills + 1;
  }

  /** Fills a write entry of a page of RAM. */
  fillWrite(bank: number, tagLow: number, tagHigh: number, page: Hpa): void {
    const offset = entryOffset(tagLow);
    const frame = page / 4096;
    const index = (offset >> 4) + 1;
    const known = this.#writeIndex[frame]!;
    if (known !== index) this.#writeIndex[frame] = known === 0 ? index : ANY_INDEX;
    this.fill(bank + TLB_WRITE + offset, tagLow, tagHigh, RAM_BASE + page, page);
  }

  /** Whether an entry holds nothing that would be lost: its tag is none of its own index. */
  isFree(entry: number): boolean {
    const index = (entry >> 4) & (TLB_ENTRIES - 1);
    return ((this.words[entry >>> 2]! >>> 12) & (TLB_ENTRIES - 1)) !== index;
  }

  /** Makes one entry match nothing. */
  drop(entry: number): void {
    const index = (entry >> 4) & (TLB_ENTRIES - 1);
    const at = entry >>> 2;
    this.words[at] = (index ^ (TLB_ENTRIES >> 1)) << 12;
    this.words[at + 1] = 0;
    this.words[at + 3] = NO_FRAME;
  }

  /** Drops what a bank holds for one linear page. */
  dropLinear(bank: number, low: number, high: number): void {
    for (const array of ARRAYS) {
      const entry = bank + array + offsetIn(array, low);
      const at = entry >>> 2;
      // Tags are page-aligned, one-shot ones excepted, which never outlive their instruction.
      if (((this.words[at]! ^ low) & ~0xfff) === 0 && this.words[at + 1] === high) this.drop(entry);
    }
  }

  /** Drops all write entries of a host-physical page, in all banks. */
  dropWriteEntries(page: Hpa): void {
    if (page >= this.#ramSize) return;
    const frame = page / 4096;
    const known = this.#writeIndex[frame]!;
    if (known === 0) return;
    this.#writeIndex[frame] = 0;
    if (known === ANY_INDEX) return this.#dropFrame(frame, TLB_WRITE);
    const offset = TLB_WRITE + ((known - 1) << 4);
    for (let n = 1; n < TLB_BANK_COUNT; n++) {
      if (this.#filled[n] === 0) continue;
      const entry = TLB_BANKS + n * TLB_BANK_SIZE + offset;
      if (this.words[(entry >>> 2) + 3] === frame) this.drop(entry);
    }
  }

  /** Drops all execute entries of a host-physical page, in all banks. */
  dropExecuteEntries(page: Hpa): void {
    this.#dropFrame(page / 4096, TLB_EXECUTE);
  }

  /** Drops every entry of a host-physical page, in all banks. */
  dropPage(page: Hpa): void {
    const frame = page / 4096;
    if (this.#mappedIn[frame] !== this.#generation) return;
    this.#mappedIn[frame] = 0;
    this.#writeIndex[frame] = 0;
    const linear = this.#mappedAt[frame]!;
    // Where it may be anywhere, all banks are emptied: pages change hands by the thousand, and then only the first pays.
    if (linear === ANY_LINEAR) return this.#flushAll();
    for (let n = 1; n < TLB_BANK_COUNT; n++) {
      if (this.#filled[n] === 0) continue;
      for (const array of ARRAYS) {
        const entry = TLB_BANKS + n * TLB_BANK_SIZE + array + offsetIn(array, (linear << 12) >>> 0);
        if (this.words[(entry >>> 2) + 3] === frame) this.drop(entry);
      }
    }
  }

  #flushAll(): void {
    this.#generation++;
    for (let n = 1; n < TLB_BANK_COUNT; n++) this.flush(TLB_BANKS + n * TLB_BANK_SIZE);
  }

  #dropFrame(frame: number, array: number): void {
    const { words } = this;
    for (let n = 1; n < TLB_BANK_COUNT; n++) {
      if (this.#filled[n] === 0) continue;
      const start = TLB_BANKS + n * TLB_BANK_SIZE + array;
      for (let entry = start; entry < start + ARRAY_SIZE; entry += 16) {
        if (words[(entry >>> 2) + 3] === frame) this.drop(entry);
      }
    }
  }

  #leastRecentlyUsed(): number {
    let best = -1;
    let oldest = Number.POSITIVE_INFINITY;
    for (let n = 1; n < TLB_BANK_COUNT; n++) {
      const owner = this.#owners[n]!;
      if (!owner.current && owner.used < oldest) {
        oldest = owner.used;
        best = n;
      }
    }
    return best;
  }

  #format(bank: number): void {
    this.#bytes.fill(FRESH_BYTE, bank, bank + TLB_BANK_SIZE);
    for (const array of ARRAYS) this.#patch(bank, array);
  }

  #formatArray(bank: number, array: number): void {
    const start = bank + array;
    this.#bytes.fill(FRESH_BYTE, start, start + ARRAY_SIZE);
    this.#patch(bank, array);
  }

  #patch(bank: number, array: number): void {
    for (const page of FRESH_PAGES) {
      const at = (bank + array + offsetIn(array, page)) >>> 2;
      this.words[at] = 0;
      this.words[at + 1] = 0;
    }
  }
}

const banksOfMemory: WeakMap<PhysicalMemory, TlbBanks> = new WeakMap();

/** The banks in a machine's memory. */
export function banksOf(memory: PhysicalMemory): TlbBanks {
  let banks = banksOfMemory.get(memory);
  if (banks === undefined) {
    banks = new TlbBanks(memory);
    banksOfMemory.set(memory, banks);
  }
  return banks;
}
