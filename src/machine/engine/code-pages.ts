/**
 * The decode cache: per physical page and code size, a table from page offset to decoded record.
 *
 * A table has 4096 slots of 4 bytes, 0 where nothing is decoded. Records of a run lie one after another. A write to the
 * page empties its tables; the records stay where they are until the whole cache is dropped, so that code under way can
 * finish its instruction.
 */
import type { Hpa } from '../../util/address.ts';
import { decode, TRUNCATED } from '../isa/decode.ts';
import type { Insn } from '../isa/insn.ts';
import type { PhysicalMemory } from '../memory.ts';
import type { Handlers } from './handlers.ts';
import { CODE_AREA, RAM_BASE } from './layout.ts';
import { RECORD_SIZE, type Shaped, SPECIAL, writeRecord } from './record.ts';

export type CodeSize = 16 | 32 | 64;

const TABLE_SIZE = 4096 * 4;
/** Tables grow up from CODE_AREA, records lie behind them. */
const TABLES_END = CODE_AREA + 6144 * TABLE_SIZE;
const RECORDS_END = RAM_BASE;
/** A run is decoded this far ahead; what follows is decoded when it is reached. */
const MAX_RUN = 48;

interface CodePage {
  readonly page: Hpa;
  readonly size: CodeSize;
  readonly table: number;
  /** Whether any slot may be filled. */
  live: boolean;
}

const sizeIndex = (size: CodeSize): number => (size === 64 ? 2 : size === 32 ? 1 : 0);

export class CodePages {
  readonly #memory: PhysicalMemory;
  readonly #handlers: Handlers;
  readonly #pages: Map<number, CodePage> = new Map();
  /** Per RAM page: how many code sizes have decoded code in it. */
  readonly #live: Uint8Array;
  #nextTable = CODE_AREA;
  #nextRecord = TABLES_END;
  /** Start of each run and the code page it belongs to, ascending. */
  #runStarts: number[] = [];
  #runPages: CodePage[] = [];
  #insns: Map<number, Insn> = new Map();
  /** Page-crossing instructions by their straddle record, with the bytes they have in the second page. */
  readonly straddling: Map<number, { readonly insn: Insn; readonly tail: Uint8Array }> = new Map();
  /** Called when a page gets its first decoded code: write TLB entries to it must go. */
  onNewCode: (page: Hpa) => void = () => {};
  /** Called when everything was dropped: execute TLB entries must go. */
  onFlush: () => void = () => {};

  constructor(memory: PhysicalMemory, handlers: Handlers) {
    this.#memory = memory;
    this.#handlers = handlers;
    this.#live = new Uint8Array(memory.ramSize / 4096);
  }

  hasCode(page: Hpa): boolean {
    return this.#live[page / 4096]! !== 0;
  }

  /** The table of a RAM page, for execute TLB entries. */
  tableOf(page: Hpa, size: CodeSize): number {
    const key = page * 4 + sizeIndex(size);
    let found = this.#pages.get(key);
    if (found === undefined) {
      if (this.#nextTable + TABLE_SIZE > TABLES_END) this.flush();
      found = { page, size, table: this.#nextTable, live: false };
      this.#nextTable += TABLE_SIZE;
      this.#memory.bytes.fill(0, found.table, found.table + TABLE_SIZE);
      this.#pages.set(key, found);
    }
    if (!found.live) {
      // From now on writes must be seen, even before the first record: the page is about to be executed.
      found.live = true;
      if (this.#live[page / 4096]!++ === 0) this.onNewCode(page);
    }
    return found.table;
  }

  /** Forgets the decoded code of a page. */
  pageWritten(page: Hpa): void {
    if (this.#live[page / 4096] === 0 || page >= this.#memory.ramSize) return;
    for (let i = 0; i < 3; i++) {
      const found = this.#pages.get(page * 4 + i);
      if (found === undefined || !found.live) continue;
      found.live = false;
      this.#memory.bytes.fill(0, found.table, found.table + TABLE_SIZE);
    }
    this.#live[page / 4096] = 0;
  }

  /** Drops everything. */
  flush(): void {
    this.#pages.clear();
    this.#live.fill(0);
    this.#nextTable = CODE_AREA;
    this.#nextRecord = TABLES_END;
    this.#runStarts = [];
    this.#runPages = [];
    this.#insns.clear();
    this.straddling.clear();
    this.onFlush();
  }

  /** Makes sure that there is a record at `offset` of the page. */
  decodeAt(page: Hpa, size: CodeSize, offset: number): void {
    let table = this.tableOf(page, size);
    const { view, bytes } = this.#memory;
    if (view.getUint32(table + offset * 4, true) !== 0) return;
    if (this.#nextRecord + (MAX_RUN + 2) * RECORD_SIZE > RECORDS_END) {
      this.flush();
      table = this.tableOf(page, size);
    }
    const base = RAM_BASE + page;
    const run: Shaped[] = [];
    const offsets: number[] = [];
    let at = offset;
    let end: number = SPECIAL.goOn;
    for (;;) {
      if (at >= 4096) {
        end = SPECIAL.nextPage;
        break;
      }
      if (run.length === MAX_RUN || view.getUint32(table + at * 4, true) !== 0) break;
      const insn = decode(bytes, base + at, base + 4096, size);
      if (typeof insn === 'string') {
        end = insn === TRUNCATED ? SPECIAL.straddle : SPECIAL.undefined;
        break;
      }
      const target = at + insn.displacement;
      const relative = insn.operands.length > 0 && insn.operands[0]!.place === 'relative';
      run.push({ insn, local: relative && size !== 16 && insn.operandSize !== 16 && target >= 0 && target < 4096 });
      offsets.push(at);
      at += insn.length;
      const { flow } = insn.row.operation;
      if (flow === 'jump' || flow === 'indirect' || flow === 'return' || flow === 'system') {
        end = -1;
        break;
      }
    }
    this.#writeRun(this.#pages.get(page * 4 + sizeIndex(size))!, run, offsets, at, end);
  }

  #writeRun(page: CodePage, run: readonly Shaped[], offsets: readonly number[], endOffset: number, end: number): void {
    const { view } = this.#memory;
    const handlers = this.#handlers;
    this.#runStarts.push(this.#nextRecord);
    this.#runPages.push(page);
    run.forEach((shaped, i) => {
      const next = run[i + 1];
      const pair = next === undefined ? -1 : handlers.pair(shaped, next);
      const handler = pair >= 0 ? pair : handlers.single(shaped);
      const offset = offsets[i]!;
      const target = shaped.local ? page.table + (offset + shaped.insn.displacement) * 4 : 0;
      writeRecord(view, this.#nextRecord, shaped, handler, offset, target);
      if (handler === SPECIAL.assist) this.#insns.set(this.#nextRecord, shaped.insn);
      view.setUint32(page.table + offset * 4, this.#nextRecord, true);
      this.#nextRecord += RECORD_SIZE;
    });
    if (end >= 0) {
      view.setUint32(this.#nextRecord, end, true);
      view.setUint16(this.#nextRecord + 6, endOffset & 0xfff, true);
      view.setUint32(this.#nextRecord + 8, page.table + endOffset * 4, true);
      if (run.length === 0) view.setUint32(page.table + endOffset * 4, this.#nextRecord, true);
      this.#nextRecord += RECORD_SIZE;
    }
    handlers.compileQueue();
  }

  /** The instruction of a record, or undefined where the record is none. */
  insnOf(record: number): Insn | undefined {
    const known = this.#insns.get(record);
    if (known !== undefined) return known;
    let low = 0,
      high = this.#runStarts.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#runStarts[middle]! <= record) low = middle + 1;
      else high = middle;
    }
    const page = this.#runPages[low - 1];
    if (page === undefined) return undefined;
    const offset = this.#memory.view.getUint16(record + 6, true) & 0xfff;
    const base = RAM_BASE + page.page;
    const insn = decode(this.#memory.bytes, base + offset, base + 4096, page.size);
    if (typeof insn === 'string') return undefined;
    this.#insns.set(record, insn);
    return insn;
  }
}
