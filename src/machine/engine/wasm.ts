/** WebAssembly binary writer: a growable byte buffer and a module of functions. */

export const I32 = 0x7f;
export const I64 = 0x7e;
export const V128 = 0x7b;
export const VOID = 0x40;
export type ValType = typeof I32 | typeof I64 | typeof V128;

/** Byte buffer with LEB128 and the few structured instructions that carry immediates. */
export class Bytes {
  length = 0;
  #data: Uint8Array;

  constructor(capacity = 256) {
    this.#data = new Uint8Array(capacity);
  }

  u8(value: number): this {
    if (this.length === this.#data.length) this.#grow(1);
    this.#data[this.length++] = value;
    return this;
  }

  unsigned(value: number): this {
    let rest = value >>> 0;
    for (; rest >= 0x80; rest >>>= 7) this.u8((rest & 0x7f) | 0x80);
    return this.u8(rest);
  }

  signed(value: number): this {
    let rest = value | 0;
    for (;;) {
      const low = rest & 0x7f;
      rest >>= 7;
      if ((rest === 0 && !(low & 0x40)) || (rest === -1 && low & 0x40)) return this.u8(low);
      this.u8(low | 0x80);
    }
  }

  signed64(value: bigint): this {
    let rest = BigInt.asIntN(64, value);
    for (;;) {
      const low = Number(rest & 0x7fn);
      rest >>= 7n;
      if ((rest === 0n && !(low & 0x40)) || (rest === -1n && low & 0x40)) return this.u8(low);
      this.u8(low | 0x80);
    }
  }

  append(data: ArrayLike<number>): this {
    if (this.length + data.length > this.#data.length) this.#grow(data.length);
    this.#data.set(data, this.length);
    this.length += data.length;
    return this;
  }

  name(text: string): this {
    const utf8 = new TextEncoder().encode(text);
    return this.unsigned(utf8.length).append(utf8);
  }

  i32(value: number): this {
    return this.u8(0x41).signed(value);
  }

  i64(value: number | bigint): this {
    this.u8(0x42);
    return typeof value === 'number' && (value | 0) === value ? this.signed(value) : this.signed64(BigInt(value));
  }

  getLocal(index: number): this {
    return this.u8(0x20).unsigned(index);
  }

  setLocal(index: number): this {
    return this.u8(0x21).unsigned(index);
  }

  teeLocal(index: number): this {
    return this.u8(0x22).unsigned(index);
  }

  call(func: number): this {
    return this.u8(0x10).unsigned(func);
  }

  /** A load or store instruction; alignment hint 0, as guest addresses promise nothing. */
  memory(opcode: number, offset: number): this {
    if (opcode > 0xff) this.u8(0xfd).unsigned(opcode & 0xff);
    else this.u8(opcode);
    return this.u8(0).unsigned(offset);
  }

  brTable(depths: readonly number[], otherwise: number): this {
    this.u8(0x0e).unsigned(depths.length);
    for (const depth of depths) this.unsigned(depth);
    return this.unsigned(otherwise);
  }

  done(): Uint8Array {
    return this.#data.subarray(0, this.length);
  }

  #grow(extra: number): void {
    const bigger = new Uint8Array(Math.max(this.#data.length * 2, this.length + extra));
    bigger.set(this.#data.subarray(0, this.length));
    this.#data = bigger;
  }
}

interface Func {
  readonly type: number;
  readonly locals: readonly ValType[];
  readonly body: Bytes;
  readonly unlikely: readonly number[];
}

/** The declarations before a function's body. */
function localsOf(func: Func): Bytes {
  const locals = new Bytes(64);
  locals.unsigned(func.locals.length);
  for (const type of func.locals) locals.u8(1).u8(type);
  return locals;
}

/** One module over the imported memory `env.memory` and, where asked for, the imported function table `env.table`. */
export class ModuleBuilder {
  #imports: [name: string, type: number][] = [];
  #table: boolean;

  constructor(table = false) {
    this.#table = table;
  }

  /** Imports `env.name`; all imports come before the first declaration. Returns the function index. */
  importFunction(name: string, params: ValType[], results: ValType[]): number {
    if (this.#funcs.length > 0) throw new Error('imports come first');
    return this.#imports.push([name, this.type(params, results)]) - 1;
  }

  #types: string[] = [];
  #typeBytes: number[][] = [];
  #funcs: (Func | null)[] = [];
  #exports: [name: string, func: number][] = [];

  /** Reserves the next function index, so that bodies can call functions defined later. */
  declare(): number {
    return this.#imports.length + this.#funcs.push(null) - 1;
  }

  /** @param unlikely where in the body conditional branches are that are seldom taken, ascending */
  define(
    func: number,
    params: ValType[],
    results: ValType[],
    locals: readonly ValType[],
    body: Bytes,
    name?: string,
    unlikely: readonly number[] = [],
  ): void {
    this.#funcs[func - this.#imports.length] = { type: this.type(params, results), locals, body, unlikely };
    if (name !== undefined) this.#exports.push([name, func]);
  }

  build(): Uint8Array<ArrayBuffer> {
    const out = new Bytes(4096).append([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
    const funcs = this.#funcs as Func[];
    const section = (id: number, fill: (s: Bytes) => void) => {
      const s = new Bytes(1024);
      fill(s);
      out.u8(id).unsigned(s.length).append(s.done());
    };
    section(1, (s) => {
      s.unsigned(this.#typeBytes.length);
      for (const type of this.#typeBytes) s.append(type);
    });
    section(2, (s) => {
      s.unsigned(1 + (this.#table ? 1 : 0) + this.#imports.length);
      s.name('env').name('memory').append([2, 0, 1]);
      if (this.#table) s.name('env').name('table').append([1, 0x70, 0, 1]);
      for (const [name, type] of this.#imports) s.name('env').name(name).u8(0).unsigned(type);
    });
    section(3, (s) => {
      s.unsigned(funcs.length);
      for (const func of funcs) s.unsigned(func.type);
    });
    section(7, (s) => {
      s.unsigned(this.#exports.length);
      for (const [name, func] of this.#exports) s.name(name).u8(0).unsigned(func);
    });
    const hinted = [...funcs.entries()].filter(([, { unlikely }]) => unlikely.length > 0);
    if (hinted.length > 0) {
      section(0, (s) => {
        s.name('metadata.code.branch_hint').unsigned(hinted.length);
        for (const [i, func] of hinted) {
          const first = localsOf(func).length;
          s.unsigned(this.#imports.length + i).unsigned(func.unlikely.length);
          for (const at of func.unlikely)
            s.unsigned(first + at)
              .u8(1)
              .u8(0);
        }
      });
    }
    section(10, (s) => {
      s.unsigned(funcs.length);
      for (const func of funcs) {
        const locals = localsOf(func);
        s.unsigned(locals.length + func.body.length + 1)
          .append(locals.done())
          .append(func.body.done())
          .u8(0x0b);
      }
    });
    return out.done().slice() as Uint8Array<ArrayBuffer>;
  }

  /** Index of a function type. */
  type(params: ValType[], results: ValType[]): number {
    const key = `${params}>${results}`;
    const known = this.#types.indexOf(key);
    if (known >= 0) return known;
    this.#typeBytes.push([0x60, params.length, ...params, results.length, ...results]);
    return this.#types.push(key) - 1;
  }
}
