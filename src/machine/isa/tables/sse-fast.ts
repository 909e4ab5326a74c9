/**
 * When generated code may do SSE floating-point itself: with MXCSR in its usual state (round to nearest, precision
 * exception masked), ordinary operands and results, and no flag that would change. All else is TypeScript's (machine/sse),
 * which is exact.
 *
 * An ordinary number is zero or normal. An ordinary result is normal and not the smallest one (which rounding may have
 * made of a tiny result), or a zero that is exact. Then no exception but precision is possible, whatever the other masks,
 * FTZ and DAZ say, and if its flag is set already nothing can change; a result that is known to be exact is good in any case.
 *
 * wasm's arithmetic is IEEE 754's in round-to-nearest, so that the numbers are the same.
 */
import { MXCSR } from '../../engine/layout.ts';
import type { Cpu } from '../cpu.ts';
import { and, type Expr, isZero, ne, negate, u32, u64 } from '../expr.ts';
import { splat, type V, v1, v2, vAnd, vAndNot, vAnyTrue, vNot, vOr, vShuffle } from '../vector.ts';

/** Numbers of wasm's instructions on one kind of lane. */
export interface Lanes {
  readonly bits: 32 | 64;
  readonly abs: number;
  readonly add: number;
  readonly sub: number;
  readonly mul: number;
  readonly div: number;
  readonly sqrt: number;
  readonly pmin: number;
  readonly pmax: number;
  readonly eq: number;
  readonly ne: number;
  readonly lt: number;
  readonly le: number;
  readonly gt: number;
  readonly nearest: number;
  readonly trunc: number;
  readonly floor: number;
  readonly ceil: number;
  /** Smallest normal number, twice that, infinity. */
  readonly smallest: () => V;
  readonly twice: () => V;
  readonly infinity: () => V;
}

export const SINGLE: Lanes = {
  bits: 32,
  abs: 0xe0,
  add: 0xe4,
  sub: 0xe5,
  mul: 0xe6,
  div: 0xe7,
  sqrt: 0xe3,
  pmin: 0xea,
  pmax: 0xeb,
  eq: 0x41,
  ne: 0x42,
  lt: 0x43,
  gt: 0x44,
  le: 0x45,
  nearest: 0x6a,
  trunc: 0x69,
  floor: 0x68,
  ceil: 0x67,
  smallest: () => splat(u32(0x0080_0000)),
  twice: () => splat(u32(0x0100_0000)),
  infinity: () => splat(u32(0x7f80_0000)),
};
export const DOUBLE: Lanes = {
  bits: 64,
  abs: 0xec,
  add: 0xf0,
  sub: 0xf1,
  mul: 0xf2,
  div: 0xf3,
  sqrt: 0xef,
  pmin: 0xf6,
  pmax: 0xf7,
  eq: 0x47,
  ne: 0x48,
  lt: 0x49,
  gt: 0x4a,
  le: 0x4b,
  nearest: 0x94,
  trunc: 0x7a,
  floor: 0x75,
  ceil: 0x74,
  smallest: () => splat(u64(0x0010_0000_0000_0000n)),
  twice: () => splat(u64(0x0020_0000_0000_0000n)),
  infinity: () => splat(u64(0x7ff0_0000_0000_0000n)),
};

const zero = (lanes: Lanes): V => splat(lanes.bits === 32 ? u32(0) : u64(0));
export const isZeroLane = (lanes: Lanes, v: V): V => v2(lanes.eq, v, zero(lanes));

/** Lanes that are denormal. */
export const denormal = (lanes: Lanes, v: V): V =>
  vAnd(v2(lanes.lt, v1(lanes.abs, v), lanes.smallest()), v2(lanes.ne, v, zero(lanes)));

/** Lanes that comparisons and widening may raise exceptions for: denormal or NaN. */
export const extraordinary = (lanes: Lanes, v: V): V => vOr(denormal(lanes, v), v2(lanes.ne, v, v));

/** Result lanes that may come with more than the precision exception; zeros count. */
export function suspect(lanes: Lanes, result: V): V {
  const magnitude = v1(lanes.abs, result);
  return vNot(vAnd(v2(lanes.le, lanes.twice(), magnitude), v2(lanes.lt, magnitude, lanes.infinity())));
}

/** Rounding control and the precision mask: round to nearest, masked. */
const CONTROLS = 0x7000;
const USUAL = 0x1000;
const PRECISION = 0x20;

/** Leaves to TypeScript unless MXCSR's controls have their usual values. */
export function needUsual(cpu: Cpu): void {
  cpu.assistIf(ne(and(cpu.state(MXCSR, 32), u32(CONTROLS)), u32(USUAL)));
}

/** Leaves to TypeScript unless the precision flag is set already or every lane of `exact` is true. */
export function needExact(cpu: Cpu, exact: () => V): void {
  cpu.if(isZero(and(cpu.state(MXCSR, 32), u32(PRECISION))), () => cpu.assistIf(vAnyTrue(vNot(exact()))));
}
export function needExactScalar(cpu: Cpu, exact: () => Expr<1>): void {
  cpu.if(isZero(and(cpu.state(MXCSR, 32), u32(PRECISION))), () => cpu.assistIf(negate(exact())));
}

export const need = (cpu: Cpu, bad: V): void => cpu.assistIf(vAnyTrue(bad));

/** a + b in rounded arithmetic is exact if the error of Knuth's TwoSum is zero. */
function sumIsExact(lanes: Lanes, a: V, b: V, sum: V): V {
  const otherB = v2(lanes.sub, sum, a);
  const otherA = v2(lanes.sub, sum, otherB);
  const error = v2(lanes.add, v2(lanes.sub, a, otherA), v2(lanes.sub, b, otherB));
  return isZeroLane(lanes, error);
}

/** Lanes whose significand has at most half the bits: their products are exact. */
function isShort(lanes: Lanes, v: V): V {
  const low = lanes.bits === 32 ? splat(u32(0xfff)) : splat(u64(0x7ff_ffff));
  const rest = vAnd(v, low);
  return lanes.bits === 32 ? v2(0x37, rest, splat(u32(0))) : v2(0xd6, rest, splat(u64(0)));
}

export type Arithmetic = (cpu: Cpu, lanes: Lanes, a: V, b: V) => V;

export const plus: Arithmetic = (cpu, lanes, a, b) => {
  const sum = cpu.code.let(v2(lanes.add, a, b));
  needUsual(cpu);
  need(cpu, vOr(vOr(denormal(lanes, a), denormal(lanes, b)), vAndNot(suspect(lanes, sum), isZeroLane(lanes, sum))));
  needExact(cpu, () => sumIsExact(lanes, a, b, sum));
  return sum;
};

export const minus: Arithmetic = (cpu, lanes, a, b) =>
  // −b has b's exceptions; a NaN never gets here.
  plus(cpu, lanes, a, v1(lanes.abs + 1, b));

export const times: Arithmetic = (cpu, lanes, a, b) => {
  const product = cpu.code.let(v2(lanes.mul, a, b));
  const fine = vAnd(isZeroLane(lanes, product), vOr(isZeroLane(lanes, a), isZeroLane(lanes, b)));
  needUsual(cpu);
  need(cpu, vOr(vOr(denormal(lanes, a), denormal(lanes, b)), vAndNot(suspect(lanes, product), fine)));
  needExact(cpu, () => vOr(vAnd(isShort(lanes, a), isShort(lanes, b)), fine));
  return product;
};

export const over: Arithmetic = (cpu, lanes, a, b) => {
  const quotient = cpu.code.let(v2(lanes.div, a, b));
  const fine = vAnd(isZeroLane(lanes, quotient), isZeroLane(lanes, a));
  needUsual(cpu);
  need(cpu, vOr(vOr(denormal(lanes, a), denormal(lanes, b)), vAndNot(suspect(lanes, quotient), fine)));
  needExact(cpu, () =>
    vOr(vAnd(vAnd(isShort(lanes, quotient), isShort(lanes, b)), v2(lanes.eq, v2(lanes.mul, quotient, b), a)), fine),
  );
  return quotient;
};

export const root: Arithmetic = (cpu, lanes, _, b) => {
  const result = cpu.code.let(v1(lanes.sqrt, b));
  const fine = isZeroLane(lanes, b);
  needUsual(cpu);
  need(cpu, vOr(denormal(lanes, b), vAndNot(suspect(lanes, result), fine)));
  needExact(cpu, () => vOr(vAnd(isShort(lanes, result), v2(lanes.eq, v2(lanes.mul, result, result), b)), fine));
  return result;
};

/** The second operand unless the first is strictly smaller (wasm's pseudo-minimum, operands swapped). */
export const least: Arithmetic = (cpu, lanes, a, b) => {
  need(cpu, vOr(extraordinary(lanes, a), extraordinary(lanes, b)));
  return v2(lanes.pmin, b, a);
};
export const greatest: Arithmetic = (cpu, lanes, a, b) => {
  need(cpu, vOr(extraordinary(lanes, a), extraordinary(lanes, b)));
  return v2(lanes.pmax, b, a);
};

/** Even and odd lanes of the pair (a, b). */
export function pairs(lanes: Lanes, a: V, b: V): [V, V] {
  const bytes = lanes.bits / 8;
  const pick = (start: number): number[] =>
    Array.from({ length: 16 }, (_, i) => (Math.floor(i / bytes) * 2 + start) * bytes + (i % bytes));
  return [vShuffle(a, b, pick(0)), vShuffle(a, b, pick(1))];
}
