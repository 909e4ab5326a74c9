/**
 * The execution engine of a machine: interpreter and decode cache, for the processor that is running.
 *
 * It executes instructions and says why it stopped; everything else (faults, events, VM exits) is its caller's business.
 */
import type { Hpa } from '../../util/address.ts';
import { decode } from '../isa/decode.ts';
import { flagsFromWordKind } from '../isa/flags.ts';
import type { Insn } from '../isa/insn.ts';
import '../isa/index.ts';
import type { Machine } from '../machine.ts';
import { followBank } from '../mmu/select.ts';
import { NO_ERROR } from '../outcome.ts';
import { type Event, isGateChecked, isSoftware } from '../processor/events/event.ts';
import { BLOCKED_BY_STI, FLAG_RF, type Processor } from '../processor.ts';
import type { CodeMode, CodeSize } from './code-mode.ts';
import { CodePages } from './code-pages.ts';
import { EngineCounters, type EngineStatistics, engineStatistics } from './counters.ts';
import { HAS_ERROR, IS_CHECKED, LENGTH_SHIFT } from './delivery.ts';
import { Handlers } from './handlers.ts';
import {
  BUDGET,
  CC_A,
  CC_B,
  CC_KIND,
  CODE_MASK,
  CS,
  EXIT,
  type Exit,
  executeOffset,
  LOADED,
  PAGE_RIP,
  REGION_ENTRIES,
  REGION_INSNS,
  RF_TIME,
  RIP,
  SCRATCH_RECORDS,
  SEG_BASE,
  SEGMENT_SIZE,
  SEGMENTS,
  STATE,
  STI_TIME,
  STOPPED_AT,
  TLB_BANK_COUNT,
  TLB_BANK_SIZE,
  TLB_BANKS,
  TLB_BASE,
  TLB_ENTRIES,
  TLB_EXECUTE,
  TLB_INVALID_TAG,
  TSC_ORIGIN,
} from './layout.ts';
import { takeLoadedSegments } from './loaded-segments.ts';
import { RECORD_SIZE, SPECIAL, writeRecord } from './record.ts';
import { Translator } from './translator/translator.ts';

export class Engine {
  readonly #machine: Machine;
  readonly handlers: Handlers;
  readonly pages: CodePages;
  readonly #view: DataView;
  /** The instruction of the step under way, where its record is no decoded one. */
  #stepInsn: Insn | null = null;

  /** Compiles hot code; null where the interpreter does everything. */
  readonly translator: Translator | null;

  /** @param threshold entries after which code is translated; 0 for never */
  constructor(machine: Machine, threshold = 0) {
    this.#machine = machine;
    this.#view = machine.memory.view;
    this.handlers = new Handlers(machine.memory.memory);
    this.pages = new CodePages(machine.memory, this.handlers, threshold);
    this.translator = threshold === 0 ? null : new Translator(machine.memory, this.handlers, this.pages);
    this.pages.onFlush = () => this.#dropExecuteEntries();
  }

  /** What has been done so far. */
  readonly counters: EngineCounters = new EngineCounters();

  statistics(): EngineStatistics {
    const { translator } = this;
    const translated = translator?.counting
      ? {
          entries: Number(this.#view.getBigUint64(REGION_ENTRIES, true)),
          instructions: Number(this.#view.getBigUint64(REGION_INSNS, true)),
        }
      : undefined;
    return engineStatistics(this.counters, translator?.stats ?? null, translated);
  }

  // ---- execution

  /**
   * Runs `p` from its RIP for about `budget` instructions (straight-line code to the next transfer may exceed it).
   * Returns the reason; `executed` says how many instructions were retired.
   */
  run(p: Processor, budget: number): Exit {
    this.#machine.activate(p);
    this.#stepInsn = null;
    const view = this.#view;
    view.setInt32(BUDGET, budget, true);
    this.#setTscOrigin(p, budget);
    this.#forgetLast(budget);
    const bank = view.getUint32(TLB_BASE, true);
    let reason = this.handlers.run(0) as Exit;
    while (reason === EXIT.ahead) {
      // Nothing the guest can tell: no look at the world here, whatever the budget.
      const next = this.pages.decodeBehind(view.getUint32(STOPPED_AT, true));
      reason = next === 0 ? EXIT.lookup : (this.handlers.run(next) as Exit);
    }
    this.executed = budget - view.getInt32(BUDGET, true);
    this.#noteLast(p);
    if (view.getUint32(LOADED, true) !== 0) takeLoadedSegments(p);
    else if (view.getUint32(TLB_BASE, true) !== bank) followBank(p);
    // A branch that ends with its page and was not taken stops before the step to the next page, whose offset of 4096
    // does not fit the record.
    const record = view.getUint32(STOPPED_AT, true);
    const handler = record === 0 || reason === EXIT.lookup ? -1 : view.getUint16(record, true);
    if (handler === SPECIAL.nextPage || handler === SPECIAL.crossed) {
      view.setBigUint64(RIP, (view.getBigUint64(RIP, true) + 0x1000n) & view.getBigUint64(CODE_MASK, true), true);
    }
    return reason;
  }
  /** Before a run: neither STI nor IRET has been executed at its time. */
  #forgetLast(budget: number): void {
    const view = this.#view;
    const never = view.getInt32(TSC_ORIGIN, true) - budget - 2;
    view.setInt32(STI_TIME, never, true);
    view.setInt32(RF_TIME, never, true);
  }

  /** After a run: the shadow of an STI that was its last instruction, or RFLAGS.RF of an IRET. */
  #noteLast(p: Processor): void {
    const view = this.#view;
    const last = (view.getInt32(TSC_ORIGIN, true) - view.getInt32(BUDGET, true) - 1) | 0;
    if (view.getInt32(STI_TIME, true) === last) p.interruptShadow |= BLOCKED_BY_STI;
    if (view.getInt32(RF_TIME, true) === last) p.flagsRest |= FLAG_RF;
  }

  /**
   * Delivers an event in 64-bit mode where that is simple; false where it is not, with nothing changed.
   * @param flags the RFLAGS image to push
   */
  deliver(p: Processor, event: Event, flags: number): boolean {
    this.#machine.activate(p);
    const { vector, errorCode } = event;
    let how = 0;
    if (errorCode !== NO_ERROR) how |= HAS_ERROR;
    if (isGateChecked(event)) how |= IS_CHECKED;
    if (isSoftware(event)) how |= event.instructionLength << LENGTH_SHIFT;
    if (this.handlers.deliver(vector, errorCode, flags, how) === 0) return false;
    if (this.#view.getUint32(LOADED, true) !== 0) takeLoadedSegments(p);
    return true;
  }

  /** Instructions retired by the last run() or step(). */
  executed = 0;

  // The offset that the last guest had, as a number: offsets change rarely, and BigInt sums are slow.
  #tscOffset = 0n;
  #guestOffset = 0n;
  #offset = 0;

  #setTscOrigin(p: Processor, budget: number): void {
    if (p.tscOffset !== this.#tscOffset || p.vtx.tscOffset !== this.#guestOffset) {
      this.#tscOffset = p.tscOffset;
      this.#guestOffset = p.vtx.tscOffset;
      this.#offset = Number(BigInt.asIntN(64, p.tscOffset + p.vtx.tscOffset));
    }
    const origin = this.#machine.clock.now() + budget + this.#offset;
    if (Number.isSafeInteger(origin) && Number.isSafeInteger(this.#offset)) {
      this.#view.setInt32(TSC_ORIGIN, origin % 0x1_0000_0000, true);
      this.#view.setInt32(TSC_ORIGIN + 4, Math.floor(origin / 0x1_0000_0000), true);
      return;
    }
    const exact = BigInt(this.#machine.clock.now() + budget) + p.tscOffset + p.vtx.tscOffset;
    this.#view.setBigUint64(TSC_ORIGIN, BigInt.asUintN(64, exact), true);
  }

  /**
   * Executes one instruction (one iteration of a REP). EXIT.stop: done, RIP is at the next one. Other reasons: it has
   * not happened. `insn` is needed where RIP's page has no decoded record (page-crossing instructions).
   */
  step(p: Processor, insn: Insn | null = null): Exit {
    this.#machine.activate(p);
    const view = this.#view;
    const start = p.rip;
    const linear = this.linearRip();
    const decoded = insn ?? this.#stepInsn ?? this.currentInsn(p);
    if (decoded === undefined) return EXIT.lookup;
    // What watches single instructions wants to see events and returns, and none of them is in a hurry.
    if (decoded.row.operation.flow === 'system') {
      this.#stepInsn = decoded;
      this.executed = 0;
      return EXIT.assist;
    }
    const shaped = { insn: decoded, local: false };
    const offset = Number(linear & 0xfffn);
    if (decoded.handler < 0) {
      decoded.handler = this.handlers.single(shaped);
      this.handlers.compileQueue();
    }
    writeRecord(view, SCRATCH_RECORDS, shaped, decoded.handler, offset, 0);
    view.setUint32(SCRATCH_RECORDS + RECORD_SIZE, SPECIAL.stop, true);
    view.setUint32(SCRATCH_RECORDS + RECORD_SIZE + 4, 0, true);
    view.setBigUint64(PAGE_RIP, BigInt.asUintN(64, start - BigInt(offset)), true);
    view.setInt32(BUDGET, 0, true);
    this.#setTscOrigin(p, 0);
    this.#stepInsn = decoded;
    this.#forgetLast(0);
    const bank = view.getUint32(TLB_BASE, true);
    const reason = this.handlers.run(SCRATCH_RECORDS) as Exit;
    this.executed = -view.getInt32(BUDGET, true);
    this.#noteLast(p);
    if (view.getUint32(LOADED, true) !== 0) takeLoadedSegments(p);
    else if (view.getUint32(TLB_BASE, true) !== bank) followBank(p);
    if (reason >= EXIT.miss) {
      view.setBigUint64(RIP, start, true);
      return reason;
    }
    this.#stepInsn = null;
    // A branch that is not taken stops before the stop record, with the budget gone.
    if (reason === EXIT.stop || view.getUint32(STOPPED_AT, true) === SCRATCH_RECORDS + RECORD_SIZE)
      view.setBigUint64(RIP, (start + BigInt(decoded.length)) & view.getBigUint64(CODE_MASK, true), true);
    return EXIT.stop;
  }

  /** The instruction at RIP, where the last run stopped at it; undefined if it is not known. */
  currentInsn(p: Processor): Insn | undefined {
    if (this.#stepInsn !== null) return this.#stepInsn;
    void p;
    return this.pages.insnOf(this.#view.getUint32(STOPPED_AT, true));
  }

  /** Remembers the instruction at RIP for handlers, when it comes from no record. */
  setCurrentInsn(insn: Insn | null): void {
    this.#stepInsn = insn;
  }

  /** Linear address of the running processor's RIP. */
  linearRip(): bigint {
    const view = this.#view;
    const base = view.getBigUint64(SEGMENTS + CS * SEGMENT_SIZE + SEG_BASE, true);
    return (base + view.getBigUint64(RIP, true)) & view.getBigUint64(CODE_MASK, true);
  }

  /** Translates where the last run stopped, or soon will: it has become hot. */
  becameHot(): void {
    this.translator?.hot(this.#view.getUint32(STOPPED_AT, true));
  }

  // ---- decode cache

  /**
   * Decodes at RIP where its page is in the execute TLB: nothing but the decode cache was missing, which the guest must not
   * be able to tell. False if the page is not mapped.
   */
  decodeMapped(): boolean {
    const linear = this.linearRip();
    const view = this.#view;
    const entry = view.getUint32(TLB_BASE, true) + TLB_EXECUTE + executeOffset(Number(linear & 0xffff_ffffn));
    if (view.getBigUint64(entry, true) !== linear - (linear & 0xfffn)) return false;
    const page = this.pages.pageOfTable(view.getUint32(entry + 8, true));
    if (page === undefined) return false;
    this.pages.decodeAt(page.page, page.mode, Number(linear & 0xfffn));
    return true;
  }

  hasCode(page: Hpa): boolean {
    return this.pages.hasCode(page);
  }
  /** What an execute TLB entry of the page holds. */
  codePage(page: Hpa, mode: CodeMode): number {
    return this.pages.tableOf(page, mode);
  }
  pageWritten(page: Hpa, offset?: number, length?: number): void {
    this.pages.pageWritten(page, offset, length);
  }
  decodeBytes(bytes: Uint8Array, size: CodeSize): Insn | string {
    return decode(bytes, 0, bytes.length, size);
  }

  #dropExecuteEntries(): void {
    const view = this.#view;
    for (let bank = 0; bank < TLB_BANK_COUNT; bank++) {
      const at = TLB_BANKS + bank * TLB_BANK_SIZE + TLB_EXECUTE;
      for (let i = 0; i < TLB_ENTRIES; i++) view.setBigInt64(at + i * 16, TLB_INVALID_TAG, true);
    }
  }

  // ---- status flags of a state block

  statusFlags(block: number): number {
    return this.handlers.statusAt(block);
  }
  setStatusFlags(block: number, word: number): void {
    const view = this.#view;
    const to = block - STATE;
    view.setInt32(CC_KIND + to, flagsFromWordKind, true);
    view.setInt32(CC_A + to, word, true);
    view.setInt32(CC_A + 4 + to, 0, true);
    view.setInt32(CC_B + to, 0, true);
    view.setInt32(CC_B + 4 + to, 0, true);
  }
}
