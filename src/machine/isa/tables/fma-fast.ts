/**
 * a × b + c rounded once, in generated code, under the same conditions as sse-fast.ts: wasm has no such instruction whose
 * result is certain.
 *
 * Singles: the product of two singles is exact as a double. The sum is rounded to odd, so that rounding it to single does
 * not round twice. Doubles: the product is split into two doubles, and the sum of three is rounded right by rounding to odd
 * what is small (S. Boldo, G. Melquiond, "Emulation of a FMA and Correctly Rounded Sums: Proved Algorithms Using Rounding
 * to Odd").
 */
import type { Cpu } from '../cpu.ts';
import { u32, u64 } from '../expr.ts';
import { splat, type V, v1, v2, vAnd, vNot, vOr, vSelect, vShift, vShuffle, vXor } from '../vector.ts';
import { DOUBLE, denormal, isZeroLane, type Lanes, need, needExact, needUsual, SINGLE } from './sse-fast.ts';

const plus = (a: V, b: V): V => v2(DOUBLE.add, a, b);
const minus = (a: V, b: V): V => v2(DOUBLE.sub, a, b);
const times = (a: V, b: V): V => v2(DOUBLE.mul, a, b);

/** The rounded sum of doubles and its exact error. */
function twoSum(cpu: Cpu, a: V, b: V): [sum: V, error: V] {
  const sum = cpu.code.let(plus(a, b));
  const other = cpu.code.let(minus(sum, a));
  return [sum, cpu.code.let(plus(minus(a, minus(sum, other)), minus(b, other)))];
}

/** sum + error rounded to odd: an inexact sum that is even moves one place towards the error. */
function toOdd(cpu: Cpu, sum: V, error: V): V {
  const one = splat(u64(1));
  const even = v2(0xd6, vAnd(sum, one), splat(u64(0)));
  const inexact = vNot(isZeroLane(DOUBLE, error));
  // −1 where the signs differ, else 1
  const step = vOr(vShift(0xcc, vXor(sum, error), u32(63)), one);
  return cpu.code.let(v2(0xce, sum, vAnd(step, vAnd(even, inexact))));
}

const upper = (v: V): V => vShuffle(v, v, [8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7]);

/** Two singles from the lower halves. */
function ofSingles(cpu: Cpu, a: V, b: V, c: V): { result: V; bad: V; exact: V } {
  const [x, y, z] = [a, b, c].map((v) => cpu.code.let(v1(0x5f, v))) as [V, V, V];
  const [sum, error] = twoSum(cpu, cpu.code.let(times(x, y)), z);
  const odd = toOdd(cpu, sum, error);
  const result = cpu.code.let(v1(0x5e, odd));
  // The smallest single is rounded from a tiny double; twice it is safe. An infinity or NaN is caught by the comparison.
  const magnitude = cpu.code.let(v1(DOUBLE.abs, v1(0x5f, result)));
  const least = splat(u64(0x3820_0000_0000_0000n));
  const ordinary = vAnd(v2(DOUBLE.le, least, magnitude), v2(DOUBLE.lt, magnitude, DOUBLE.infinity()));
  const bad = vNot(vOr(isZeroLane(DOUBLE, sum), ordinary));
  const exact = vAnd(isZeroLane(DOUBLE, error), v2(DOUBLE.eq, v1(0x5f, result), sum));
  return { result, bad, exact };
}

/** Splits a double into two of half the digits. */
function split(cpu: Cpu, v: V): [high: V, low: V] {
  const scaled = cpu.code.let(times(v, splat(u64(0x41a0_0000_0200_0000n)))); // 2^27 + 1
  const high = cpu.code.let(minus(scaled, minus(scaled, v)));
  return [high, cpu.code.let(minus(v, high))];
}

/** Lanes that are no zero and not between 2^-400 and 2^400: then products and errors could leave the range of normal numbers. */
function farOut(v: V): V {
  const magnitude = v1(DOUBLE.abs, v);
  const low = splat(u64(0x26f0_0000_0000_0000n)),
    high = splat(u64(0x58f0_0000_0000_0000n));
  return vNot(vOr(isZeroLane(DOUBLE, v), vAnd(v2(DOUBLE.le, low, magnitude), v2(DOUBLE.le, magnitude, high))));
}

function ofDoubles(cpu: Cpu, a: V, b: V, c: V): { result: V; bad: V; exact: V } {
  const [ah, al] = split(cpu, a),
    [bh, bl] = split(cpu, b);
  const product = cpu.code.let(times(a, b));
  const rest = plus(plus(plus(minus(times(ah, bh), product), times(ah, bl)), times(al, bh)), times(al, bl));
  const [uh, ul] = twoSum(cpu, c, cpu.code.let(rest));
  const [th, tl] = twoSum(cpu, product, uh);
  const [sum, error] = twoSum(cpu, tl, ul);
  const small = toOdd(cpu, sum, error);
  const [near, left] = twoSum(cpu, th, small);
  // A product of zero has a sign that the parts would lose.
  const nothing = cpu.code.let(isZeroLane(DOUBLE, product));
  return {
    result: vSelect(plus(product, c), near, nothing),
    bad: vOr(vOr(farOut(a), farOut(b)), farOut(c)),
    exact: vOr(nothing, vAnd(isZeroLane(DOUBLE, error), isZeroLane(DOUBLE, left))),
  };
}

/** a × b + c in all lanes. */
export function multiplyAdd(cpu: Cpu, lanes: Lanes, a: V, b: V, c: V): V {
  needUsual(cpu);
  if (lanes.bits === 64) {
    const { result, bad, exact } = ofDoubles(cpu, a, b, c);
    need(cpu, bad);
    needExact(cpu, () => exact);
    return result;
  }
  for (const v of [a, b, c]) need(cpu, denormal(SINGLE, v));
  const low = ofSingles(cpu, a, b, c);
  const high = ofSingles(cpu, upper(a), upper(b), upper(c));
  need(cpu, vOr(low.bad, high.bad));
  needExact(cpu, () => vAnd(low.exact, high.exact));
  return vShuffle(low.result, high.result, [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23]);
}
