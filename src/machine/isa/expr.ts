/**
 * Typed expressions: what instruction semantics are written in.
 *
 * An `Expr<W>` is a W-bit value. Widths 1 to 32 travel in a wasm i32 and 64 in an i64, always zero-extended,
 * so `add` on bytes wraps like the hardware's; 128-bit vectors travel in a v128 (vector.ts has their operations).
 * Nodes are pure descriptions; `Code` (code.ts) turns them into bytes.
 */
import { I32, I64, V128, type ValType } from '../engine/wasm.ts';

export type Width = 8 | 16 | 32 | 64;
export type Bits = 1 | Width | 128;

/** Node kinds that are no wasm instruction of their own. */
export const CONST = 0x100;
export const LOCAL = 0x101;
export const STATE = 0x102;
export const CALL = 0x103;
/** Operands, then the bytes in `bytes` (SIMD and conversion instructions). */
export const BYTES = 0x105;

let clock = 0;
/** Orders nodes and statements by when the semantics function created them. */
export const tick = (): number => ++clock;

export class Expr<W extends Bits = Bits> {
  readonly id: number = ++clock;
  /** References from other nodes and statements that have not been emitted yet. */
  uses = 0;
  /** The wasm local that holds the value once it is computed, or -1. */
  local = -1;
  readonly width: W;
  /** A wasm opcode, or one of the kinds above. */
  readonly op: number;
  /** Value of a CONST, index of a LOCAL or of a called function, key of a STATE. */
  readonly imm: number | bigint;
  readonly a: Expr | null;
  readonly b: Expr | null;
  readonly c: Expr | null;
  readonly emitRead: (() => void) | null;
  /** The instruction of a BYTES node. */
  readonly bytes: readonly number[] | null;

  constructor(
    width: W,
    op: number,
    imm: number | bigint,
    a: Expr | null = null,
    b: Expr | null = null,
    c: Expr | null = null,
    emitRead: (() => void) | null = null,
    bytes: readonly number[] | null = null,
  ) {
    this.width = width;
    this.op = op;
    this.imm = imm;
    this.a = a;
    this.b = b;
    this.c = c;
    this.emitRead = emitRead;
    this.bytes = bytes;
    if (a !== null) a.uses++;
    if (b !== null) b.uses++;
    if (c !== null) c.uses++;
  }

  get type(): ValType {
    return this.width === 64 ? I64 : this.width === 128 ? V128 : I32;
  }
}

/** Wasm opcodes as [i32, i64] pairs. */
const ADD = [0x6a, 0x7c],
  SUB = [0x6b, 0x7d],
  MUL = [0x6c, 0x7e],
  DIV_S = [0x6d, 0x7f],
  DIV_U = [0x6e, 0x80];
const REM_S = [0x6f, 0x81],
  REM_U = [0x70, 0x82],
  AND = [0x71, 0x83],
  OR = [0x72, 0x84],
  XOR = [0x73, 0x85];
const SHL = [0x74, 0x86],
  SHR_S = [0x75, 0x87],
  SHR_U = [0x76, 0x88],
  ROTL = [0x77, 0x89];
const EQZ = [0x45, 0x50],
  EQ = [0x46, 0x51],
  NE = [0x47, 0x52],
  LT_S = [0x48, 0x53],
  LT_U = [0x49, 0x54];
const LE_S = [0x4c, 0x57],
  LE_U = [0x4d, 0x58],
  CLZ = [0x67, 0x79],
  CTZ = [0x68, 0x7a],
  POPCNT = [0x69, 0x7b];
/** Whether a node is the sum or the difference of its operand and a constant. */
export const movesByConstant = (e: Expr): boolean =>
  (ADD.includes(e.op) || SUB.includes(e.op)) && e.width >= 32 && e.b!.op === CONST;
/** Node kinds. */
export const OP_ADD_64: number = ADD[1]!;
export const OP_SUB_64: number = SUB[1]!;
export const OP_SHL_64: number = SHL[1]!;
export const OP_SUB_32: number = SUB[0]!;
export const OP_AND_32: number = AND[0]!;
export const OP_AND_64: number = AND[1]!;
const WRAP = 0xa7,
  EXTEND_S = 0xac,
  EXTEND_U = 0xad,
  SELECT = 0x1b;

const maskOf = (w: Bits): number => (w === 8 ? 0xff : w === 16 ? 0xffff : w === 1 ? 1 : -1);
const is64 = (e: Expr): 0 | 1 => (e.width === 64 ? 1 : 0);

/** A constant; negative values are taken modulo 2^W. */
export function constant<W extends Bits>(width: W, value: number | bigint): Expr<W> {
  if (width === 128) return new Expr(width, CONST, value);
  if (width === 64) {
    const small =
      typeof value === 'number'
        ? value
        : BigInt.asIntN(64, value) === BigInt(Number(value) | 0)
          ? Number(value)
          : value;
    return new Expr(width, CONST, small);
  }
  return new Expr(width, CONST, width === 32 ? Number(value) | 0 : Number(value) & maskOf(width));
}
export const u8 = (value: number): Expr<8> => constant(8, value);
export const u32 = (value: number): Expr<32> => constant(32, value);
export const u64 = (value: number | bigint): Expr<64> => constant(64, value);
export const bit = (value: boolean): Expr<1> => constant(1, value ? 1 : 0);

/** The value of a constant that fits a JavaScript integer, else null. */
export const constantValue = (e: Expr): number | null => (e.op === CONST && typeof e.imm === 'number' ? e.imm : null);

function sameWidth(a: Expr, b: Expr): void {
  if (a.width !== b.width) throw new TypeError(`width mismatch: ${a.width} and ${b.width}`);
}

function binary<W extends Bits>(op: number[], a: Expr<W>, b: Expr<W>): Expr<W> {
  sameWidth(a, b);
  return new Expr(a.width, op[is64(a)]!, 0, a, b);
}

/** Cuts an i32 result back to 8 or 16 bits. */
function wrapped<W extends Bits>(e: Expr<W>): Expr<W> {
  return e.width < 32 ? new Expr(e.width, AND[0]!, 0, e, u32(maskOf(e.width))) : e;
}

const small = (value: number): boolean => value >= -0x40000000 && value < 0x40000000;

export function add<W extends Bits>(a: Expr<W>, b: Expr<W>): Expr<W> {
  const x = constantValue(a),
    y = constantValue(b);
  if (x === 0) return b;
  if (y === 0) return a;
  if (x !== null && y !== null && small(x) && small(y)) return constant(a.width, x + y);
  return wrapped(binary(ADD, a, b));
}
export function sub<W extends Bits>(a: Expr<W>, b: Expr<W>): Expr<W> {
  return constantValue(b) === 0 ? a : wrapped(binary(SUB, a, b));
}
export function and<W extends Bits>(a: Expr<W>, b: Expr<W>): Expr<W> {
  const x = constantValue(a),
    y = constantValue(b);
  if (x !== null && y !== null) return constant(a.width, x & y);
  return binary(AND, a, b);
}
export function or<W extends Bits>(a: Expr<W>, b: Expr<W>): Expr<W> {
  if (constantValue(a) === 0) return b;
  if (constantValue(b) === 0) return a;
  return binary(OR, a, b);
}
export function xor<W extends Bits>(a: Expr<W>, b: Expr<W>): Expr<W> {
  if (constantValue(a) === 0) return b;
  if (constantValue(b) === 0) return a;
  return binary(XOR, a, b);
}
export const mul = <W extends Bits>(a: Expr<W>, b: Expr<W>): Expr<W> => wrapped(binary(MUL, a, b));
export const not = <W extends Bits>(a: Expr<W>): Expr<W> => xor(a, constant(a.width, -1));
export const neg = <W extends Bits>(a: Expr<W>): Expr<W> => wrapped(binary(SUB, constant(a.width, 0), a));
export const divU = <W extends Bits>(a: Expr<W>, b: Expr<W>): Expr<W> => binary(DIV_U, a, b);
export const remU = <W extends Bits>(a: Expr<W>, b: Expr<W>): Expr<W> => binary(REM_U, a, b);
export const divS = <W extends 32 | 64>(a: Expr<W>, b: Expr<W>): Expr<W> => binary(DIV_S, a, b);
export const remS = <W extends 32 | 64>(a: Expr<W>, b: Expr<W>): Expr<W> => binary(REM_S, a, b);

/** The carrier-typed shift count: shifts take a count of any width. */
const count = (e: Expr, n: Expr): Expr =>
  is64(e) ? zeroExtend(n as Expr<Width>, 64) : n.width === 64 ? truncate(n as Expr<64>, 32) : n;

function shift<W extends Bits>(op: number[], e: Expr<W>, n: Expr): Expr<W> {
  return constantValue(n) === 0 ? e : new Expr(e.width, op[is64(e)]!, 0, e, count(e, n));
}
export const shl = <W extends Bits>(e: Expr<W>, n: Expr): Expr<W> => wrapped(shift(SHL, e, n));
export const shr = <W extends Bits>(e: Expr<W>, n: Expr): Expr<W> => shift(SHR_U, e, n);
export const sar = <W extends Width>(e: Expr<W>, n: Expr): Expr<W> =>
  e.width < 32 ? (truncate(shift(SHR_S, signExtend(e as Expr<Width>, 32), n), e.width) as Expr<W>) : shift(SHR_S, e, n);
/** Rotate left; the count is already reduced modulo W. */
export const rotl = <W extends Width>(e: Expr<W>, n: Expr<8>): Expr<W> =>
  e.width < 32 ? or(shl(e, n), shr(e, sub(u8(e.width), n))) : shift(ROTL, e, n);

function compare(op: number[], a: Expr, b: Expr): Expr<1> {
  sameWidth(a, b);
  return new Expr(1, op[is64(a)]!, 0, a, b);
}
const signed = (e: Expr): Expr => (e.width < 32 ? signExtend(e as Expr<Width>, 32) : e);
export const isZero = (e: Expr): Expr<1> => {
  const x = constantValue(e);
  return x !== null ? bit(x === 0) : new Expr(1, EQZ[is64(e)]!, 0, e);
};
export const eq = <W extends Bits>(a: Expr<W>, b: Expr<W>): Expr<1> =>
  constantValue(b) === 0 ? isZero(a) : compare(EQ, a, b);
export const ne = <W extends Bits>(a: Expr<W>, b: Expr<W>): Expr<1> => {
  const x = constantValue(a),
    y = constantValue(b);
  return x !== null && y !== null ? bit(x !== y) : compare(NE, a, b);
};
export const ltU = <W extends Bits>(a: Expr<W>, b: Expr<W>): Expr<1> => compare(LT_U, a, b);
export const leU = <W extends Bits>(a: Expr<W>, b: Expr<W>): Expr<1> => compare(LE_U, a, b);
export const ltS = <W extends Width>(a: Expr<W>, b: Expr<W>): Expr<1> => compare(LT_S, signed(a), signed(b));
export const leS = <W extends Width>(a: Expr<W>, b: Expr<W>): Expr<1> => compare(LE_S, signed(a), signed(b));
export const isNegative = (e: Expr<Width>): Expr<1> => ltS(e, constant(e.width, 0));
export const negate = (e: Expr<1>): Expr<1> => isZero(e);
export const clz = <W extends 32 | 64>(e: Expr<W>): Expr<W> => new Expr(e.width, CLZ[is64(e)]!, 0, e);
export const ctz = <W extends 32 | 64>(e: Expr<W>): Expr<W> => new Expr(e.width, CTZ[is64(e)]!, 0, e);
export const popcount = (e: Expr<Width>): Expr<32> => new Expr(32, POPCNT[0]!, 0, truncateTo32(e));

export function select<W extends Bits>(condition: Expr<1>, then: Expr<W>, otherwise: Expr<W>): Expr<W> {
  sameWidth(then, otherwise);
  const known = constantValue(condition);
  if (known !== null) return known ? then : otherwise;
  return new Expr(then.width, SELECT, 0, then, otherwise, condition);
}

export function zeroExtend<W extends Bits>(e: Expr<Bits>, width: W): Expr<W> {
  if (e.width === width) return e as unknown as Expr<W>;
  const x = constantValue(e);
  if (x !== null) return constant(width, x < 0 ? x + 0x1_0000_0000 : x);
  return width === 64 ? new Expr(width, EXTEND_U, 0, e) : (recast(e, width) as Expr<W>);
}
export function signExtend<W extends Width>(e: Expr<Width>, width: W): Expr<W> {
  if (e.width === width) return e as unknown as Expr<W>;
  const x = constantValue(e);
  if (x !== null) return constant(width, (x << (32 - e.width)) >> (32 - e.width));
  const wide = e.width === 8 ? new Expr(32, 0xc0, 0, e) : e.width === 16 ? new Expr(32, 0xc1, 0, e) : e;
  return width === 64 ? new Expr(width, EXTEND_S, 0, wide) : wrapped(recast(wide, width) as Expr<W>);
}
const truncateTo32 = (e: Expr<Width>): Expr => (e.width === 64 ? new Expr(32, WRAP, 0, e) : e);
export function truncate<W extends Width>(e: Expr<Width>, width: W): Expr<W> {
  if (e.width === width) return e as unknown as Expr<W>;
  const x = constantValue(e);
  if (x !== null) return constant(width, x);
  return wrapped(recast(truncateTo32(e), width) as Expr<W>);
}

/** The low 32 bits of a value, zero-extended. */
export const low32 = (e: Expr<64>): Expr<64> =>
  e.op === EXTEND_U && e.a!.width === 32 ? e : zeroExtend(truncate(e, 32), 64);

/** The low 32 bits. */
export const OP_WRAP: number = WRAP;
/** Whether a node has the low 32 bits of its operand. */
export const keepsLow32 = (e: Expr): boolean =>
  (e.op === EXTEND_U && e.a!.width === 32) || (e.op === WRAP && e.width === 32);

/** The same i32 under another width; costs no instruction. */
export const ALIAS = 0x104;
const recast = (e: Expr, width: Bits): Expr => (e.width === width ? e : new Expr(width, ALIAS, 0, e));

/** A call of a support function (pure). */
export const callPure = <W extends Bits>(
  width: W,
  func: number,
  a: Expr,
  b: Expr | null = null,
  c: Expr | null = null,
): Expr<W> => new Expr(width, CALL, func, a, b, c);
