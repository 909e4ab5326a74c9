/**
 * Decides what to translate, makes modules of regions and puts them in the place of their entries' records.
 *
 * Entries that have become hot wait for others, because a module costs much more than a region; one that becomes hot again
 * meanwhile ends the wait.
 */
import { decode } from '../../isa/decode.ts';
import { importSupport } from '../../isa/support.ts';
import type { PhysicalMemory } from '../../memory.ts';
import { codeSizeOf, isTranslated } from '../code-mode.ts';
import type { CodePage, CodePages } from '../code-pages.ts';
import { FIRST_REGION, type Handlers } from '../handlers.ts';
import { COLD_BASE } from '../interpreter.ts';
import { ENTRY_COUNTERS, JUMP_SOURCES, jumpTag, RAM_BASE } from '../layout.ts';
import { ModuleBuilder } from '../wasm.ts';
import { translatorDefaults } from './defaults.ts';
import { buildRegion, type PageView, type Region, Step } from './region.ts';
import { TranslatorCpu } from './translator-cpu.ts';

/** Regions per module. */
const BATCH = 16;
/** Pages of which decoded instructions are kept. */
const DECODED_PAGES = 32;
/** Most regions in use: about 100 MB of machine code and bookkeeping. */
const MAX_LIVE = 12_000;

/** What the translator has done, for statistics. */
export interface TranslatorStats {
  regions: number;
  modules: number;
  /** Guest instructions translated, each as often as it is in a region. */
  insns: number;
  bytes: number;
  milliseconds: number;
  /** Regions that are no longer in use. */
  dropped: number;
  /** How often all regions were dropped, as there were too many. */
  evictions: number;
}

export class Translator {
  readonly stats: TranslatorStats = {
    regions: 0,
    modules: 0,
    insns: 0,
    bytes: 0,
    milliseconds: 0,
    dropped: 0,
    evictions: 0,
  };
  /** False: even reducible regions are dispatched by br_table (for tests). */
  structured = true;
  /** Regions made from now on count entries and instructions. */
  counting: boolean = translatorDefaults.counting;
  /** Regions per module. */
  batch: number = BATCH;
  /** Most regions in use. */
  maxRegions: number = MAX_LIVE;
  readonly #memory: PhysicalMemory;
  readonly #handlers: Handlers;
  readonly #pages: CodePages;
  #live = 0;
  /** Decoded instructions of the pages that were translated last, by offset; null where there is none. */
  readonly #decoded: Map<CodePage, { readonly version: number; readonly steps: Map<number, Step | null> }> = new Map();
  /** Records that wait to be translated. */
  readonly #queue: Set<number> = new Set();

  constructor(memory: PhysicalMemory, handlers: Handlers, pages: CodePages) {
    this.#memory = memory;
    this.#handlers = handlers;
    this.#pages = pages;
    pages.onRegionsGone = (page) => {
      this.stats.dropped += page.regions.length;
      this.#live -= page.regions.length;
      for (const { handler } of page.regions) handlers.removeRegion(handler);
    };
  }

  /** A record has been entered as often as the threshold says. */
  hot(record: number): void {
    const { view } = this.#memory;
    if (this.#handlers.isRegion(view.getUint16(record, true))) return;
    const again = this.#queue.has(record);
    this.#queue.add(record);
    this.#pages.resetCounter(record);
    if (again || this.#queue.size >= this.batch) this.#translateQueue();
  }

  #translateQueue(): void {
    const queue = new Set(this.#queue);
    this.#queue.clear();
    const started = performance.now();
    const module = new ModuleBuilder(true);
    const support = importSupport(module);
    const made: { page: CodePage; record: number; region: Region }[] = [];
    for (const entered of queue) {
      const page = this.#pages.pageOfRecord(entered);
      if (page === undefined || !isTranslated(page.mode) || !page.live) continue;
      const offset = this.#memory.view.getUint16(entered + 6, true) & 0xfff;
      this.#memory.view.setUint16((entered >>> 3) + ENTRY_COUNTERS, 0, true);
      // The page may have been written, and decoded anew, while the record waited.
      if (this.#recordAt(page, offset) !== entered) continue;
      const formed = buildRegion(offset, this.#viewOf(page, queue));
      if (formed === null) continue;
      const region = this.structured ? formed : { ...formed, reducible: false };
      const records = this.#recordsOf(page, region);
      if (records === null) return;
      const record = records.get(region.entry.offset)!;
      if (made.some((other) => other.record === record)) continue;
      const declined = this.#pages.copyRecord(page, record);
      if (declined === 0) continue;
      const cpu = new TranslatorCpu(support, region, {
        mode: page.mode,
        table: page.table,
        recordAt: (at) => records.get(at)!,
        declined,
        counters: ENTRY_COUNTERS,
        counting: this.counting,
        firstFunction: COLD_BASE,
        firstRegion: FIRST_REGION,
      });
      cpu.define(module, module.declare(), `r${made.length}`);
      made.push({ page, record, region });
    }
    if (made.length === 0) return;
    const bytes = module.build();
    const exports = this.#handlers.instantiate(bytes);
    if (this.#live + made.length > this.maxRegions) {
      this.#pages.dropAllRegions();
      this.stats.evictions++;
    }
    for (const [i, { page, record, region }] of made.entries()) {
      const original = this.#memory.view.getUint16(record, true);
      const handler = this.#handlers.addRegion(exports[`r${i}`]!);
      this.#memory.view.setUint16(record, handler, true);
      page.regions.push({ record, handler, original });
      this.#live++;
      this.stats.regions++;
      this.stats.insns += region.insns;
    }
    this.stats.modules++;
    this.stats.bytes += bytes.length;
    this.stats.milliseconds += performance.now() - started;
  }

  #recordAt(page: CodePage, offset: number): number {
    return this.#memory.view.getUint32(page.table + offset * 4, true);
  }

  #viewOf(page: CodePage, awaited: ReadonlySet<number>): PageView {
    const { bytes, view } = this.#memory;
    const known = this.#stepsOf(page);
    const base = RAM_BASE + page.page;
    const translated = (offset: number): boolean => {
      const record = this.#recordAt(page, offset);
      return record !== 0 && this.#handlers.isRegion(view.getUint16(record, true));
    };
    return {
      step: (offset) => {
        let step = known.get(offset);
        if (step === undefined) {
          const insn = decode(bytes, base + offset, base + 4096, codeSizeOf(page.mode));
          step = typeof insn === 'string' ? null : new Step(insn, offset);
          known.set(offset, step);
        }
        return step;
      },
      wanted: (offset) => this.#recordAt(page, offset) !== 0,
      translated,
      targetsOf: (offset) => this.#targetsOf(page, offset),
      entered: (offset) => awaited.has(this.#recordAt(page, offset)) || translated(offset),
    };
  }

  /** What has been decoded of a page for its regions: the next region of the page wants much of it again. */
  #stepsOf(page: CodePage): Map<number, Step | null> {
    let entry = this.#decoded.get(page);
    if (entry === undefined || entry.version !== page.version) {
      entry = { version: page.version, steps: new Map() };
      if (this.#decoded.size >= DECODED_PAGES) this.#decoded.delete(this.#decoded.keys().next().value!);
    } else this.#decoded.delete(page);
    // The page that was wanted last is the last one.
    this.#decoded.set(page, entry);
    return entry.steps;
  }

  #targetsOf(page: CodePage, jump: number): number[] {
    const { view } = this.#memory;
    const tag = jumpTag(view.getUint32(page.table + jump * 4, true));
    const targets: number[] = [];
    if (tag === 0) return targets;
    for (let offset = 0; offset < 4096; offset++) {
      const record = view.getUint32(page.table + offset * 4, true);
      if (record !== 0 && view.getUint16((record >>> 3) + JUMP_SOURCES, true) === tag) targets.push(offset);
    }
    return targets;
  }

  /** The interpreter's records of a region's instructions, or null where making them has dropped everything. */
  #recordsOf(page: CodePage, region: Region): Map<number, number> | null {
    const records = new Map<number, number>();
    for (const block of region.order) {
      for (const { offset } of block.steps) {
        const record = this.#pages.recordAt(page, offset);
        if (record === 0) return null;
        records.set(offset, record);
      }
    }
    return records;
  }
}
