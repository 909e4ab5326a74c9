/** Which record handler an instruction gets: a hot arm of the interpreter if there is one, else a cold function made on demand. */
import { ASSIST } from '../isa/row.ts';
import { bodyKey, commonModules } from './common-code.ts';
import { COLD_BASE, generateCold, type HandlerBody } from './interpreter.ts';
import { type Shaped, SPECIAL, SPECIAL_COUNT, shapeKey, shapeVariant } from './record.ts';

/** Handlers from COLD_BASE up are functions: cold instructions from the bottom, regions from the top. */
const MAX_COLD = 0xf000;
const MAX_INSTRUCTION_SHAPES = 0x2000;
/** Handlers from here on are regions. */
export const FIRST_REGION: number = COLD_BASE + MAX_INSTRUCTION_SHAPES;
/** Most regions there can be. */
export const MAX_REGIONS: number = MAX_COLD - COLD_BASE - MAX_INSTRUCTION_SHAPES;

/** Modules of cold handlers by their shapes: later machines meet the same instructions in the same order. */
const coldModules = new Map<string, WebAssembly.Module>();

function coldModule(bodies: readonly HandlerBody[]): WebAssembly.Module {
  const key = bodies.map(bodyKey).join();
  let module = coldModules.get(key);
  if (module === undefined) coldModules.set(key, (module = new WebAssembly.Module(generateCold(bodies))));
  return module;
}

export class Handlers {
  readonly #memory: WebAssembly.Memory;
  readonly #table: WebAssembly.Table;
  readonly #imports: Record<string, WebAssembly.ExportValue>;
  readonly #byShape: Map<string, number> = new Map();
  /** perf: by row and variant the same again, as numbers. */
  readonly #byVariant: (Map<number, number> | undefined)[] = [];
  /** By the handlers of two instructions, first * 65536 + second, the handler of the pair, or -1. */
  readonly #byParts: Map<number, number> = new Map();
  /** Fused pairs that exist: key of the pair to handler. */
  readonly #pairs: Set<string> = new Set();
  readonly #pairHandlers: Set<number> = new Set();
  #queue: HandlerBody[] = [];
  #cold = 0;
  /** run(record or 0) → exit reason. */
  readonly run: (record: number) => number;
  /** Status flags of a state block. */
  readonly statusAt: (block: number) => number;
  /** Delivers an event where that is simple (delivery.ts). */
  readonly deliver: (vector: number, error: number, flags: number, how: number) => number;

  constructor(memory: WebAssembly.Memory) {
    this.#memory = memory;
    this.#table = new WebAssembly.Table({ element: 'anyfunc', initial: MAX_COLD - COLD_BASE });
    const { hot, support: supportModule, interpreter } = commonModules();
    const support = new WebAssembly.Instance(supportModule, { env: { memory } });
    this.#imports = { memory, table: this.#table, ...support.exports };
    hot.forEach(({ key, pair }, i) => {
      this.#byShape.set(key, SPECIAL_COUNT + i);
      if (!pair) return;
      this.#pairs.add(key);
      this.#pairHandlers.add(SPECIAL_COUNT + i);
    });
    const instance = new WebAssembly.Instance(interpreter, { env: this.#imports });
    this.run = instance.exports['run'] as (record: number) => number;
    this.statusAt = instance.exports['statusAt'] as (block: number) => number;
    this.deliver = instance.exports['deliver'] as (vector: number, error: number, flags: number, how: number) => number;
  }

  /** The handler of one instruction; call compileQueue() before its record may run. */
  single(shaped: Shaped): number {
    if (shaped.insn.row.operation.semantics === ASSIST) return SPECIAL.assist;
    const variant = shapeVariant(shaped);
    const known = (this.#byVariant[shaped.insn.row.id] ??= new Map());
    let handler = known.get(variant);
    if (handler === undefined) {
      handler = this.#ofShape(shaped);
      known.set(variant, handler);
    }
    return handler;
  }

  #ofShape(shaped: Shaped): number {
    const key = shapeKey(shaped);
    let handler = this.#byShape.get(key);
    if (handler === undefined) {
      if (this.#cold >= MAX_INSTRUCTION_SHAPES) throw new Error('too many instruction shapes');
      handler = COLD_BASE + this.#cold++;
      this.#byShape.set(key, handler);
      this.#queue.push([shaped]);
    }
    return handler;
  }

  /**
   * The fused handler of a branch and the instruction before it, or -1 if there is none.
   * @param one handler of the first
   */
  pair(first: Shaped, one: number, second: Shaped): number {
    if (second.insn.row.operation.flow !== 'branch') return -1;
    const parts = one * 0x10000 + this.single(second);
    let handler = this.#byParts.get(parts);
    if (handler === undefined) {
      const key = `${shapeKey(first)}+${shapeKey(second)}`;
      handler = this.#pairs.has(key) ? this.#byShape.get(key)! : -1;
      this.#byParts.set(parts, handler);
    }
    return handler;
  }

  /** Compiles the cold handlers that single() promised. */
  compileQueue(): void {
    if (this.#queue.length === 0) return;
    const bodies = this.#queue;
    this.#queue = [];
    const { exports } = new WebAssembly.Instance(coldModule(bodies), { env: this.#imports });
    const first = this.#cold - bodies.length;
    for (let i = 0; i < bodies.length; i++) this.#table.set(first + i, exports[`f${i}`]);
  }

  /** Whether a handler executes two records. */
  isPair(handler: number): boolean {
    return this.#pairHandlers.has(handler);
  }

  // ---- regions

  readonly #freeRegions: number[] = [];
  #regions = 0;

  /** Instances of a module of regions see what all generated code sees. */
  instantiate(bytes: Uint8Array<ArrayBuffer>): WebAssembly.Exports {
    return new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: this.#imports }).exports;
  }

  /** A handler number for a region's function, or -1 where there are too many. */
  addRegion(func: WebAssembly.ExportValue): number {
    const n = this.#freeRegions.pop() ?? (this.#regions < MAX_REGIONS ? this.#regions++ : -1);
    if (n < 0) return -1;
    const index = MAX_COLD - COLD_BASE - 1 - n;
    this.#table.set(index, func);
    return COLD_BASE + index;
  }
  removeRegion(handler: number): void {
    const index = handler - COLD_BASE;
    this.#table.set(index, null);
    this.#freeRegions.push(MAX_COLD - COLD_BASE - 1 - index);
  }
  isRegion(handler: number): boolean {
    return handler >= FIRST_REGION;
  }

  /** How many cold handlers exist (for statistics). */
  get coldCount(): number {
    return this.#cold;
  }
  get memory(): WebAssembly.Memory {
    return this.#memory;
  }
}
