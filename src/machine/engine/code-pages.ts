/**
 * The decode cache: per physical page and code mode, a table from page offset to decoded record.
 *
 * A table has 4096 slots of 4 bytes, 0 where nothing is decoded. Records of a run lie one after another. A write to the
 * page empties its tables; the records stay where they are until the whole cache is dropped, so that code under way can
 * finish its instruction.
 */
import type { Hpa } from '../../util/address.ts';
import { decode, TRUNCATED } from '../isa/decode.ts';
import type { Insn } from '../isa/insn.ts';
import type { PhysicalMemory } from '../memory.ts';
import { CODE_MODE, CODE_MODE_COUNT, type CodeMode, codeSizeOf, isTranslated } from './code-mode.ts';
import type { Handlers } from './handlers.ts';
import { CODE_AREA, ENTRY_COUNTERS, JUMP_SOURCES, RAM_BASE, RECORDS, RECORDS_END } from './layout.ts';
import { RECORD_SIZE, type Shaped, SPECIAL, writeRecord } from './record.ts';

const TABLE_SIZE = 4096 * 4;
/** A run is decoded this far ahead; what follows is decoded when it is reached. */
const MAX_RUN = 48;

/** Times that a page loses its code before it is looked at more closely what is written there. */
const MANY_DROPS = 16;
/** Writes beside the code after which the page is taken for data again, until the next time. */
const MANY_SPARED = 10_000;
/** How far ahead a run is decoded where it may not last. */
const SHORT_RUN = 8;
/** Longest instruction. */
const MAX_LENGTH = 15;

/** A record whose handler is a region. */
export interface RegionEntry {
  readonly record: number;
  readonly handler: number;
  /** Handler that the record had. */
  readonly original: number;
}

/** The decoded code of one page for one code mode. */
export interface CodePage {
  readonly page: Hpa;
  readonly mode: CodeMode;
  readonly table: number;
  /** Whether any slot may be filled. */
  live: boolean;
  /** Changes whenever bytes of the page may have changed. */
  version: number;
  /** Crossing records, of the page before, whose instructions end in this one. */
  readonly crossings: number[];
  /** Handlers of the regions that are entered in this page, with the records that have them. */
  readonly regions: RegionEntry[];
}

const MODES: readonly CodeMode[] = Object.values(CODE_MODE);
const keyOf = (page: Hpa, mode: CodeMode): number => (page / 4096) * CODE_MODE_COUNT + mode;

export class CodePages {
  readonly #memory: PhysicalMemory;
  readonly #handlers: Handlers;
  readonly #pages: Map<number, CodePage> = new Map();
  /** Per page of RAM and ROM: how many code modes have decoded code in it. */
  readonly #live: Uint8Array;
  /** Per page: how often it has lost its code, up to MANY_DROPS; and writes since that have spared it. */
  readonly #drops: Uint8Array;
  readonly #spared: Uint16Array;
  #nextTable = CODE_AREA;
  #nextRecord = RECORDS;
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
  /** Called when a page's regions cannot be entered any more. */
  onRegionsGone: (page: CodePage) => void = () => {};
  /** Entries after which a record is hot; 0 for never. */
  readonly #threshold: number;
  readonly #byTable: CodePage[] = [];

  /** @param threshold entries after which a record is hot, at most 65535; 0 for as late as can be */
  constructor(memory: PhysicalMemory, handlers: Handlers, threshold = 0) {
    this.#threshold = threshold;
    this.#memory = memory;
    this.#handlers = handlers;
    this.#live = new Uint8Array(memory.backedSize / 4096);
    this.#drops = new Uint8Array(memory.ramSize / 4096);
    this.#spared = new Uint16Array(memory.ramSize / 4096);
  }

  hasCode(page: Hpa): boolean {
    return this.#live[page / 4096]! !== 0;
  }

  /** The table of a RAM page, for execute TLB entries. */
  tableOf(page: Hpa, mode: CodeMode): number {
    const key = keyOf(page, mode);
    let found = this.#pages.get(key);
    if (found === undefined) {
      if (this.#nextTable + TABLE_SIZE > RECORDS) this.flush();
      found = { page, mode, table: this.#nextTable, live: false, version: 0, crossings: [], regions: [] };
      this.#byTable.push(found);
      this.#nextTable += TABLE_SIZE;
      this.#memory.bytes.fill(0, found.table, found.table + TABLE_SIZE);
      this.#pages.set(key, found);
    }
    if (!found.live) {
      // From now on writes must be seen, even before the first record: the page is about to be executed.
      found.live = true;
      found.version++;
      if (this.#live[page / 4096]!++ === 0) this.onNewCode(page);
    }
    return found.table;
  }

  /**
   * Bytes of a page have changed: forgets its decoded code. Where that happens often, as in programs of 16-bit code with
   * their data beside it, only a write into an instruction counts, and only the runs around it are forgotten.
   */
  pageWritten(page: Hpa, offset = 0, length = 4096): void {
    const frame = page / 4096;
    if (this.#live[frame] === 0 || page >= this.#memory.ramSize) return;
    if (this.#drops[frame]! < MANY_DROPS) this.#drops[frame]!++;
    else if (length < 4096 && !this.#endsCrossing(page, offset)) {
      for (const mode of MODES) {
        const found = this.#pages.get(keyOf(page, mode));
        if (found !== undefined) found.version++;
      }
      if (this.#dropRuns(page, offset, length) || ++this.#spared[frame]! < MANY_SPARED) return;
      this.#drops[frame] = 0;
      this.#spared[frame] = 0;
    }
    for (const mode of MODES) {
      const found = this.#pages.get(keyOf(page, mode));
      if (found === undefined || !found.live) continue;
      found.live = false;
      this.#dropRegions(found);
      this.#dropCrossings(found);
      this.#memory.bytes.fill(0, found.table, found.table + TABLE_SIZE);
    }
    this.#live[page / 4096] = 0;
  }

  /** Whether the bytes may end an instruction that begins in the page before. */
  #endsCrossing(page: Hpa, offset: number): boolean {
    if (offset >= MAX_LENGTH) return false;
    for (const mode of MODES) if ((this.#pages.get(keyOf(page, mode))?.crossings.length ?? 0) > 0) return true;
    return false;
  }

  /** Forgets the runs of which an instruction has one of the bytes. False if there is none. */
  #dropRuns(page: Hpa, offset: number, length: number): boolean {
    const { view } = this.#memory;
    let any = false;
    for (const mode of MODES) {
      const found = this.#pages.get(keyOf(page, mode));
      if (found === undefined || !found.live) continue;
      for (let at = Math.max(0, offset - MAX_LENGTH + 1); at < offset + length; at++) {
        const record = view.getUint32(found.table + at * 4, true);
        if (record === 0) continue;
        // What is no instruction, or goes on in the next page, has no length.
        const size = view.getUint16(record + 6, true) >>> 12 || MAX_LENGTH;
        if (at + size <= offset) continue;
        if (found.regions.length > 0) this.#leaveRegions(found);
        this.#dropRun(found, record);
        any = true;
      }
    }
    return any;
  }

  /** Empties the slots that lead into the run of a record; control comes to it by slots only. */
  #dropRun(page: CodePage, record: number): void {
    const { view } = this.#memory;
    const run = this.#runOf(record);
    const end = this.#runStarts[run + 1] ?? this.#nextRecord;
    for (let at = this.#runStarts[run]!; at < end; at += RECORD_SIZE) {
      const slot = page.table + (view.getUint16(at + 6, true) & 0xfff) * 4;
      if (view.getUint32(slot, true) === at) view.setUint32(slot, 0, true);
    }
  }

  /** Takes the regions of a page out of use; its records stay. */
  #leaveRegions(page: CodePage): void {
    for (const { record, original } of page.regions) {
      this.#memory.view.setUint16(record, original, true);
      this.resetCounter(record);
    }
    this.#dropRegions(page);
  }

  #dropRegions(page: CodePage): void {
    if (page.regions.length === 0) return;
    this.onRegionsGone(page);
    page.regions.length = 0;
  }

  #dropCrossings(page: CodePage): void {
    for (const record of page.crossings) this.#memory.view.setUint16(record, SPECIAL.straddle, true);
    page.crossings.length = 0;
  }

  /**
   * Lets generated code execute an instruction that crosses a page boundary, until one of its pages is written or the
   * second is mapped elsewhere. Only in modes that are translated: code segments without base and limit.
   * @param straddle the straddle record at the instruction
   * @param second page of RAM that holds the rest of its bytes
   */
  addCrossing(straddle: number, insn: Insn, second: Hpa): void {
    const { view } = this.#memory;
    const page = this.pageOfRecord(straddle);
    if (page === undefined || !isTranslated(page.mode) || !page.live) return;
    if (view.getUint16(straddle, true) !== SPECIAL.straddle) return;
    if (this.#nextRecord + 2 * RECORD_SIZE > RECORDS_END) return;
    const offset = view.getUint16(straddle + 6, true) & 0xfff;
    const behind = this.tableOf(second, page.mode);
    if (this.pageOfTable(page.table) !== page) return;
    const record = this.#nextRecord;
    this.#nextRecord += 2 * RECORD_SIZE;
    this.#runStarts.push(record);
    this.#runPages.push(page);
    const shaped = { insn, local: false };
    writeRecord(view, record, shaped, this.#handlers.single(shaped), offset, 0);
    this.#handlers.compileQueue();
    this.#insns.set(record, insn);
    const next = record + RECORD_SIZE;
    view.setUint32(next, SPECIAL.crossed, true);
    view.setUint16(next + 6, (offset + insn.length) & 0xfff, true);
    view.setUint32(next + 8, offset + insn.length, true);
    view.setUint16(straddle, SPECIAL.crossing, true);
    view.setUint32(straddle + 8, behind, true);
    view.setUint32(straddle + 12, record, true);
    this.pageOfTable(behind)!.crossings.push(straddle);
  }

  /** Takes all regions out of use; nothing else changes. */
  dropAllRegions(): void {
    for (const page of this.#byTable) this.#leaveRegions(page);
  }

  /** The record that a goOn record leads to, decoded now; 0 where that is impossible. */
  decodeBehind(goOn: number): number {
    const slot = this.#memory.view.getUint32(goOn + 8, true);
    const page = this.#byTable[Math.floor((slot - CODE_AREA) / TABLE_SIZE)];
    return page === undefined ? 0 : this.recordAt(page, (slot - page.table) / 4);
  }

  /** The page whose table is at this address. */
  pageOfTable(table: number): CodePage | undefined {
    return this.#byTable[(table - CODE_AREA) / TABLE_SIZE];
  }

  /** The page that a record belongs to. */
  pageOfRecord(record: number): CodePage | undefined {
    return this.#runPages[this.#runOf(record)];
  }

  /** Number of the run that a record belongs to; -1 for none. */
  #runOf(record: number): number {
    let low = 0,
      high = this.#runStarts.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#runStarts[middle]! <= record) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** The record at an offset of a page, decoded if it is not yet; 0 where that has just dropped everything. */
  recordAt(page: CodePage, offset: number): number {
    const slot = page.table + offset * 4;
    const { view } = this.#memory;
    if (view.getUint32(slot, true) === 0) this.decodeAt(page.page, page.mode, offset);
    return this.pageOfTable(page.table) === page ? view.getUint32(slot, true) : 0;
  }

  /** A copy of a record that does what the original does and goes on behind it. 0 where there is no room. */
  copyRecord(page: CodePage, record: number): number {
    const { view, bytes } = this.#memory;
    if (this.#nextRecord + 4 * RECORD_SIZE > RECORDS_END) return 0;
    const copy = this.#nextRecord;
    this.#runStarts.push(copy);
    this.#runPages.push(page);
    // Two, as the record may be the first of a fused pair.
    bytes.copyWithin(copy, record, record + 2 * RECORD_SIZE);
    let last = record;
    if (this.#handlers.isPair(view.getUint16(record, true))) last += RECORD_SIZE;
    const behind = last + RECORD_SIZE;
    const at = copy + (behind - record);
    const handler = view.getUint16(behind, true);
    const where = view.getUint16(last + 6, true);
    const endOffset = (where & 0xfff) + (where >>> 12);
    this.#nextRecord = at + RECORD_SIZE;
    if (endOffset >= 4096 || handler === SPECIAL.straddle || handler === SPECIAL.undefined) {
      bytes.copyWithin(at, behind, behind + RECORD_SIZE);
      return copy;
    }
    view.setUint32(at, SPECIAL.goOn, true);
    view.setUint16(at + 6, endOffset & 0xfff, true);
    view.setUint32(at + 8, page.table + endOffset * 4, true);
    return copy;
  }

  /** Starts counting the entries of a record. */
  resetCounter(record: number): void {
    this.#memory.view.setUint16((record >>> 3) + ENTRY_COUNTERS, 0x10000 - this.#threshold, true);
    this.#memory.view.setUint16((record >>> 3) + JUMP_SOURCES, 0, true);
  }

  /** Drops everything. */
  flush(): void {
    for (const page of this.#byTable) this.#dropRegions(page);
    this.#byTable.length = 0;
    this.#pages.clear();
    this.#live.fill(0);
    this.#nextTable = CODE_AREA;
    this.#nextRecord = RECORDS;
    this.#runStarts = [];
    this.#runPages = [];
    this.#insns.clear();
    this.straddling.clear();
    this.onFlush();
  }

  /** Makes sure that there is a record at `offset` of the page. */
  decodeAt(page: Hpa, mode: CodeMode, offset: number): void {
    const size = codeSizeOf(mode);
    let table = this.tableOf(page, mode);
    const { view, bytes } = this.#memory;
    if (view.getUint32(table + offset * 4, true) !== 0) return;
    if (this.#nextRecord + (MAX_RUN + 2) * RECORD_SIZE > RECORDS_END) {
      this.flush();
      table = this.tableOf(page, mode);
    }
    const base = RAM_BASE + page;
    const most = this.#drops[page / 4096] === MANY_DROPS ? SHORT_RUN : MAX_RUN;
    const run: Shaped[] = [];
    const offsets: number[] = [];
    let at = offset;
    let end: number = SPECIAL.goOn;
    for (;;) {
      if (at >= 4096) {
        end = SPECIAL.nextPage;
        break;
      }
      if (run.length === most || view.getUint32(table + at * 4, true) !== 0) break;
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
      const { flow, string } = insn.row.operation;
      // What is behind a repetition may be a region's beginning: no region holds the repetition.
      if (string && insn.rep !== 'none' && at < 4096) break;
      if (flow === 'jump' || flow === 'indirect' || flow === 'return' || flow === 'system') {
        end = -1;
        break;
      }
    }
    this.#writeRun(this.#pages.get(keyOf(page, mode))!, run, offsets, at, end);
  }

  #writeRun(page: CodePage, run: readonly Shaped[], offsets: readonly number[], endOffset: number, end: number): void {
    const { view } = this.#memory;
    const handlers = this.#handlers;
    this.#runStarts.push(this.#nextRecord);
    this.#runPages.push(page);
    run.forEach((shaped, i) => {
      const next = run[i + 1];
      const alone = handlers.single(shaped);
      const pair = next === undefined ? -1 : handlers.pair(shaped, alone, next);
      const handler = pair >= 0 ? pair : alone;
      const offset = offsets[i]!;
      const target = shaped.local ? page.table + (offset + shaped.insn.displacement) * 4 : 0;
      this.resetCounter(this.#nextRecord);
      writeRecord(view, this.#nextRecord, shaped, handler, offset, target);
      if (handler === SPECIAL.assist) this.#insns.set(this.#nextRecord, shaped.insn);
      view.setUint32(page.table + offset * 4, this.#nextRecord, true);
      this.#nextRecord += RECORD_SIZE;
    });
    if (end >= 0) {
      this.resetCounter(this.#nextRecord);
      view.setUint32(this.#nextRecord, end, true);
      view.setUint16(this.#nextRecord + 6, endOffset & 0xfff, true);
      view.setUint32(this.#nextRecord + 8, page.table + endOffset * 4, true);
      const isPlace = end === SPECIAL.straddle || end === SPECIAL.undefined;
      if (run.length === 0 || isPlace) view.setUint32(page.table + endOffset * 4, this.#nextRecord, true);
      this.#nextRecord += RECORD_SIZE;
    }
    handlers.compileQueue();
  }

  /** The instruction of a record, or undefined where the record is none. */
  insnOf(record: number): Insn | undefined {
    const known = this.#insns.get(record);
    if (known !== undefined) return known;
    const page = this.pageOfRecord(record);
    if (page === undefined) return undefined;
    const offset = this.#memory.view.getUint16(record + 6, true) & 0xfff;
    const base = RAM_BASE + page.page;
    const insn = decode(this.#memory.bytes, base + offset, base + 4096, codeSizeOf(page.mode));
    if (typeof insn === 'string') return undefined;
    this.#insns.set(record, insn);
    return insn;
  }
}
