/**
 * Operations on 128-bit vectors: one function per WebAssembly SIMD instruction, by its number.
 * @see WebAssembly SIMD proposal, "Binary encoding of SIMD"
 */
import { BYTES, Expr, type Width } from './expr.ts';

const leb = (n: number): number[] => (n < 0x80 ? [n] : [(n & 0x7f) | 0x80, n >> 7]);
const node = (
  width: 8 | 16 | 32 | 64 | 128 | 1,
  op: number,
  a: Expr | null,
  b: Expr | null = null,
  c: Expr | null = null,
  extra: readonly number[] = [],
): Expr => new Expr(width, BYTES, 0, a, b, c, null, [0xfd, ...leb(op), ...extra]);

/** A vector. */
export type V = Expr<128>;

/** A binary, unary or ternary vector instruction by its SIMD opcode number. */
export const v1 = (op: number, a: V): V => node(128, op, a) as V;
export const v2 = (op: number, a: V, b: V): V => node(128, op, a, b) as V;
export const v3 = (op: number, a: V, b: V, c: V): V => node(128, op, a, b, c) as V;

export const vAnd = (a: V, b: V): V => v2(0x4e, a, b);
/** a & ~b */
export const vAndNot = (a: V, b: V): V => v2(0x4f, a, b);
export const vOr = (a: V, b: V): V => v2(0x50, a, b);
export const vXor = (a: V, b: V): V => v2(0x51, a, b);
export const vNot = (a: V): V => v1(0x4d, a);
/** Bits of a where mask is 1, of b where it is 0. */
export const vSelect = (a: V, b: V, mask: V): V => v3(0x52, a, b, mask);
/** Whether any bit is set. */
export const vAnyTrue = (a: V): Expr<1> => node(1, 0x53, a) as Expr<1>;

/** A constant from 16 bytes, lowest first. */
export const vConst = (bytes: ArrayLike<number>): V => node(128, 0x0c, null, null, null, Array.from(bytes)) as V;
export const vZero = (): V => vConst(new Uint8Array(16));
/** Bytes of a (0-15) and b (16-31) in the order given. */
export const vShuffle = (a: V, b: V, lanes: readonly number[]): V => node(128, 0x0d, a, b, null, lanes) as V;

/** Copies a scalar to all lanes. */
export const splat = (value: Expr<Width>): V =>
  node(128, { 8: 0x0f, 16: 0x10, 32: 0x11, 64: 0x12 }[value.width], value) as V;
/** Lane `lane` of width `width`, zero-extended. */
export const lane = <W extends Width>(a: V, width: W, n: number): Expr<W> =>
  node(width, { 8: 0x16, 16: 0x19, 32: 0x1b, 64: 0x1d }[width], a, null, null, [n]) as Expr<W>;
export const withLane = (a: V, n: number, value: Expr<Width>): V =>
  node(128, { 8: 0x17, 16: 0x1a, 32: 0x1c, 64: 0x1e }[value.width], a, value, null, [n]) as V;
/** Shifts each lane of the given width by a scalar count, taken modulo the lane width by wasm. */
export const vShift = (op: number, a: V, count: Expr<32>): V => node(128, op, a, count) as V;
/** The top bit of each lane, gathered: 16, 8, 4 or 2 bits. */
export const vBitmask = (a: V, width: Width): Expr<32> =>
  node(32, { 8: 0x64, 16: 0x84, 32: 0xa4, 64: 0xc4 }[width], a) as Expr<32>;

/** A scalar wasm instruction that has no Expr function of its own (conversions between integer and float lanes), by its bytes. */
export const scalar = <W extends 32 | 64 | 128>(width: W, bytes: readonly number[], a: Expr): Expr<W> =>
  new Expr(width, BYTES, 0, a, null, null, null, bytes);
