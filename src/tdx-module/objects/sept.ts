/**
 * The Secure EPT of a TD: the tree of tables that translates its private guest physical addresses, in memory under the
 * TD's key. The processor walks the same tables; what it has cached of an entry goes by the rules of TLB tracking.
 *
 * @tdx "Secure EPT"
 */
import type { Gpa, Hpa } from '../../util/address.ts';
import { trace } from '../../util/trace.ts';
import type { KeyedMemory } from '../platform.ts';
import { entryHpa, entryState, isPresent, SEPT_ENTRIES, SEPT_FREE_ENTRY } from './sept-entry.ts';
import { entryIndex, levelSize } from './sept-gpa.ts';
import { SEPT_ROOT_PAGE, type Tdcs } from './tdcs.ts';

/** Where a walk ended. */
export interface SeptPosition {
  /** Address of the entry. */
  readonly at: Hpa;
  readonly entry: bigint;
  /** Level of the entry: 0 maps 4 KiB. */
  readonly level: number;
  /** The table is not the TD's any more: somebody wrote to it with another key. The entry says nothing then. */
  readonly corrupt: boolean;
}

/** One TD's tree. */
export class Sept {
  readonly memory: KeyedMemory;
  readonly hkid: number;
  readonly root: Hpa;
  /** Level of the root's entries: 3 with tables of four levels, 4 with five. */
  readonly topLevel: number;

  constructor(memory: KeyedMemory, hkid: number, root: Hpa, topLevel: number) {
    this.memory = memory;
    this.hkid = hkid;
    this.root = root;
    this.topLevel = topLevel;
  }

  /**
   * Goes down to the entry of `level`, and stops above it at an entry that is not present or maps a page. The walk has
   * failed if the position's level is not the one asked for.
   */
  walk(gpa: Gpa, level: number): SeptPosition {
    let table = this.root;
    for (let here = this.topLevel; ; here--) {
      const at = table + entryIndex(gpa, here) * 8;
      if (!this.#owns(table)) return { at, entry: SEPT_FREE_ENTRY, level: here, corrupt: true };
      const entry = this.memory.read64(at, this.hkid);
      if (here === level || !isPresent(entry) || entryState(entry).leaf) {
        return { at, entry, level: here, corrupt: false };
      }
      table = entryHpa(entry);
    }
  }

  /** Replaces the entry at a position. */
  write(gpa: Gpa, { at, entry, level }: SeptPosition, value: bigint): void {
    this.memory.write64(at, this.hkid, value);
    if (trace.tdx_sept === undefined) return;
    const from = entryState(entry);
    const to = entryState(value);
    if (from !== to) trace.tdx_sept(gpa, level, from.name, to.name);
  }

  /** Fills a new table; `entry` gives each of its entries. */
  fillTable(table: Hpa, entry: (index: number) => bigint = () => SEPT_FREE_ENTRY): void {
    const words = BigUint64Array.from({ length: SEPT_ENTRIES }, (_, index) => entry(index));
    this.memory.take(table, this.hkid);
    this.memory.writeBytes(table, this.hkid, new Uint8Array(words.buffer));
  }

  /** All entries of a table. */
  readTable(table: Hpa): BigUint64Array {
    return new BigUint64Array(this.memory.readBytes(table, this.hkid, SEPT_ENTRIES * 8).buffer as ArrayBuffer);
  }

  #owns(table: Hpa): boolean {
    return this.memory.ownerOf(table) === this.hkid && !this.memory.poisoned(table);
  }
}

/** The tree of a TD whose TDCS is complete. */
export const septOf = (tdcs: Tdcs): Sept =>
  new Sept(tdcs.tdr.module.platform.keyed, tdcs.hkid, tdcs.pages[SEPT_ROOT_PAGE]!, tdcs.rootLevel);

/** Address that a leaf gives to `gpa`: its page and what of the GPA the page covers. */
export function leafHpa({ entry, level }: SeptPosition, gpa: Gpa): Hpa {
  const size = levelSize(level);
  const hpa = entryHpa(entry);
  return hpa - (hpa % size) + (gpa % size);
}
