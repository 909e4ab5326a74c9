/**
 * A Code that evaluates at once instead of emitting WebAssembly: statements happen when they are recorded.
 *
 * With it a semantics function runs as plain TypeScript, one instruction at a time, on BigInts. It is the third reading of
 * the instruction tables (after interpreter and translator), for those who emulate single instructions: KVM's emulator.
 */
import { Code, type LoadWidth } from './code.ts';
import { ALIAS, type Bits, BYTES, CALL, CONST, constant, type Expr } from './expr.ts';

/** Memory behind the handles that EvaluatingCpu.translate gives out. */
export interface HandleMemory {
  load(handle: number, width: LoadWidth): bigint;
  store(handle: number, value: bigint, width: LoadWidth): void;
}

/** Thrown inside an evaluation where generated code would leave the instruction; caught by evaluate(). */
export class Left {
  readonly reason: number;
  constructor(reason: number) {
    this.reason = reason;
  }
}

const UNSUPPORTED = -1;

export class EagerCode extends Code {
  readonly #memory: HandleMemory;
  readonly #functions: ReadonlyMap<number, (a: bigint, b: bigint) => bigint>;
  #branch: string | null = null;
  #stopped = false;

  constructor(memory: HandleMemory, functions: ReadonlyMap<number, (a: bigint, b: bigint) => bigint>) {
    super(0, 16);
    this.#memory = memory;
    this.#functions = functions;
  }

  /** Before another instruction. */
  restart(): void {
    this.#branch = null;
    this.#stopped = false;
  }

  /** The value of an expression, as an unsigned integer of its width. */
  value(e: Expr): bigint {
    return BigInt.asUintN(e.width, this.#evaluate(e));
  }

  constant<W extends Bits>(width: W, value: bigint): Expr<W> {
    return constant(width, width === 128 || width === 64 ? value : Number(value));
  }

  override let<W extends Bits>(value: Expr<W>): Expr<W> {
    return this.constant(value.width, this.value(value));
  }
  override load<W extends LoadWidth>(address: Expr<32>, width: W, offset = 0): Expr<W> {
    return this.constant(width, this.#memory.load(Number(this.value(address)) + offset, width));
  }
  override store(address: Expr<32>, value: Expr<LoadWidth>, offset = 0): void {
    this.#memory.store(Number(this.value(address)) + offset, this.value(value), value.width as LoadWidth);
  }
  override if(condition: Expr<1>, then: () => void, otherwise: (() => void) | null = null): void {
    if (this.value(condition) !== 0n) then();
    else otherwise?.();
  }
  override loop(label: string, body: () => void): void {
    do {
      this.#branch = null;
      body();
    } while (this.#branch === label);
    this.#branch = null;
  }
  override raw(emit: () => void, _value: Expr | null = null): void {
    emit();
  }
  override br(label: string): void {
    if (!this.#stopped) this.#branch = label;
  }
  /** The loop under way does not repeat. */
  stopLoop(): void {
    this.#stopped = true;
  }
  override variable<W extends Bits>(initial: Expr<W>): { get(): Expr<W>; set(value: Expr<W>): void } {
    const cell = { now: this.let(initial) };
    return {
      get: () => cell.now,
      set: (value) => {
        cell.now = this.let(value);
      },
    };
  }

  #evaluate(e: Expr): bigint {
    switch (e.op) {
      case CONST:
        return BigInt(e.imm);
      case ALIAS:
        return this.value(e.a!);
      case BYTES:
        if (isVectorConstant(e.bytes!)) return vectorConstant(e.bytes!);
        // Vector arithmetic is for generated code.
        throw new Left(UNSUPPORTED);
      case CALL: {
        const f = this.#functions.get(e.imm as number);
        if (f === undefined) throw new Left(UNSUPPORTED);
        return f(this.value(e.a!), this.value(e.b!));
      }
      case 0x1b:
        return this.value(e.c!) !== 0n ? this.value(e.a!) : this.value(e.b!);
    }
    const a = this.value(e.a!);
    const b = e.b === null ? 0n : this.value(e.b);
    const wide = opIs64(e.op);
    return integer(wide ? e.op - to64(e.op) : e.op, a, b, wide ? 64 : 32);
  }
}

/** v128.const and its 16 bytes. */
const isVectorConstant = (bytes: readonly number[]): boolean => bytes[0] === 0xfd && bytes[1] === 0x0c;
const vectorConstant = (bytes: readonly number[]): bigint =>
  bytes.slice(2).reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);

/** Opcodes of i64 operations, and what to subtract to get their i32 twin. */
const RANGES: readonly (readonly [first: number, last: number, shift: number])[] = [
  [0x50, 0x5a, 0x50 - 0x45],
  [0x79, 0x8a, 0x79 - 0x67],
];
const opIs64 = (op: number): boolean => RANGES.some(([first, last]) => op >= first && op <= last);
const to64 = (op: number): number => RANGES.find(([first, last]) => op >= first && op <= last)![2];

/** One wasm integer instruction, named by its i32 opcode, on `width` bits. */
function integer(op: number, a: bigint, b: bigint, width: 32 | 64): bigint {
  const sa = BigInt.asIntN(width, a),
    sb = BigInt.asIntN(width, b);
  const count = b & BigInt(width - 1);
  const flag = (condition: boolean): bigint => (condition ? 1n : 0n);
  switch (op) {
    case 0x45:
      return flag(a === 0n);
    case 0x46:
      return flag(a === b);
    case 0x47:
      return flag(a !== b);
    case 0x48:
      return flag(sa < sb);
    case 0x49:
      return flag(a < b);
    case 0x4a:
      return flag(sa > sb);
    case 0x4b:
      return flag(a > b);
    case 0x4c:
      return flag(sa <= sb);
    case 0x4d:
      return flag(a <= b);
    case 0x4e:
      return flag(sa >= sb);
    case 0x4f:
      return flag(a >= b);
    case 0x67:
      return BigInt(width - a.toString(2).length + (a === 0n ? 1 : 0));
    case 0x68: {
      if (a === 0n) return BigInt(width);
      let n = 0n;
      while (((a >> n) & 1n) === 0n) n++;
      return n;
    }
    case 0x69:
      return BigInt(a.toString(2).replaceAll('0', '').length);
    case 0x6a:
      return a + b;
    case 0x6b:
      return a - b;
    case 0x6c:
      return a * b;
    case 0x6d:
      return sa / sb;
    case 0x6e:
      return a / b;
    case 0x6f:
      return sa % sb;
    case 0x70:
      return a % b;
    case 0x71:
      return a & b;
    case 0x72:
      return a | b;
    case 0x73:
      return a ^ b;
    case 0x74:
      return a << count;
    case 0x75:
      return sa >> count;
    case 0x76:
      return BigInt.asUintN(width, a) >> count;
    case 0x77:
      return (a << count) | (a >> (BigInt(width) - count));
    case 0xa7:
      return a;
    case 0xac:
      return BigInt.asIntN(32, a);
    case 0xad:
      return a;
    case 0xc0:
      return BigInt.asIntN(8, a);
    case 0xc1:
      return BigInt.asIntN(16, a);
    default:
      throw new Left(UNSUPPORTED);
  }
}
