/** F2XM1, FYL2X and FYL2XP1. @sdm "F2XM1", "FYL2X", "FYL2XP1" */
import { DONE } from '../outcome.ts';
import { exponentialMinus1, ln2, log2OfRatio } from '../softfloat/elementary.ts';
import { type Environment, PE, UE, ZE } from '../softfloat/environment.ts';
import {
  bitLength,
  DEFAULT_NAN,
  DENORMAL,
  F80,
  type Float,
  INFINITE,
  infinity,
  normal,
  type Sign,
  ZERO,
  zero,
} from '../softfloat/float.ts';
import { invalid, noteDenormals, special1, special2 } from '../softfloat/operands.ts';
import { round } from '../softfloat/round.ts';
import { inUse, pop, read, write } from './registers.ts';
import { environmentOf, settle, waiting } from './status.ts';

const TOP = 1n << 63n;
const GUARD = 200;
const flip = (sign: Sign, turned: boolean): Sign => (turned ? ((sign ^ 1) as Sign) : sign);

/** Below 2^-TINY the first term of a series is enough. */
const TINY = 100;

/** 2^a − 1 for |a| <= 1; other arguments come back as they are. */
function powerMinus1(env: Environment, a: Float): Float {
  const special = special1(env, a);
  if (special !== null) return special;
  if (a.kind === ZERO) return a;
  if (a.kind === INFINITE) return a.sign === 0 ? a : normal(1, 0, TOP);
  noteDenormals(env, a);
  if (a.exponent >= 0) {
    env.raise(PE);
    return a.sign === 1 && a.exponent === 0 && a.mantissa === TOP ? normal(1, -1, TOP) : a;
  }
  // e^y − 1 is y and a little more than half of y².
  if (a.exponent < -TINY)
    return round(env, F80, a.sign, a.mantissa * ln2(GUARD) - BigInt(a.sign), a.exponent - 63 - GUARD, true, 64);
  const bits = GUARD - a.exponent;
  const x = (a.mantissa << BigInt(bits)) >> BigInt(63 - a.exponent);
  const power = exponentialMinus1(((a.sign === 1 ? -x : x) * ln2(bits)) >> BigInt(bits), bits);
  return round(env, F80, a.sign, power < 0n ? -power : power, -bits, true, 64);
}
waiting('F2XM1', (p, insn) => {
  const env = environmentOf(p);
  const full = inUse(p, 0);
  const result = full ? powerMinus1(env, read(p, 0)) : DEFAULT_NAN;
  if (settle(p, insn, env, full ? '' : 'underflow')) write(p, 0, result);
  return DONE;
});

/** y × logarithm, the latter in fixed point. */
function product(env: Environment, y: Float, logarithm: bigint, bits: number, exact: boolean): Float {
  const negative = logarithm < 0n;
  const magnitude = (negative ? -logarithm : logarithm) * y.mantissa;
  const result = round(env, F80, flip(y.sign, negative), magnitude, y.exponent - 63 - bits, !exact, 64);
  // The processor reports even exact products as inexact.
  env.raise(result.kind === DENORMAL ? UE | PE : PE);
  return result;
}

/** Bits of `log2`: of a logarithm next to 0, 64 are leading zeros. */
const BITS = GUARD + 64;

/** log2(magnitude × 2^weight), in fixed point. */
function log2(magnitude: bigint, weight: number): bigint {
  const length = bitLength(magnitude);
  // The significand between ¾ and 1½, so that a logarithm near 0 is no difference of large numbers.
  const below = 1n << BigInt(length - 1);
  const high = 2n * magnitude > 3n * below;
  const one = high ? 2n * below : below;
  const whole = BigInt(weight + length - (high ? 0 : 1)) << BigInt(BITS);
  return whole + log2OfRatio(magnitude - one, magnitude + one, BITS);
}

/** y × log2(x) */
function yLog2(env: Environment, x: Float, y: Float): Float {
  const special = special2(env, x, y);
  if (special !== null) return special;
  if (x.kind === ZERO) {
    if (y.kind === ZERO) return invalid(env);
    if (y.kind !== INFINITE) {
      env.raise(ZE);
    }
    return infinity(flip(y.sign, true));
  }
  if (x.sign === 1) return invalid(env);
  if (x.kind === INFINITE) {
    if (y.kind === ZERO) return invalid(env);
    noteDenormals(env, y);
    return x.sign === y.sign ? infinity(0) : infinity(1);
  }
  const isOne = x.exponent === 0 && x.mantissa === TOP;
  if (y.kind === INFINITE) {
    if (isOne) return invalid(env);
    noteDenormals(env, x);
    return infinity(flip(y.sign, x.exponent < 0));
  }
  noteDenormals(env, x, y);
  if (y.kind === ZERO) return zero(flip(y.sign, x.exponent < 0));
  if (isOne) return zero(y.sign);
  if (x.mantissa === TOP) return product(env, y, BigInt(x.exponent), 0, true);
  return product(env, y, log2(x.mantissa, x.exponent - 63), BITS, false);
}

/** y × log2(x + 1) for x near 0. */
function yLog2Plus1(env: Environment, x: Float, y: Float): Float {
  const special = special2(env, x, y);
  if (special !== null) return special;
  if (x.kind === ZERO) {
    if (y.kind === INFINITE) return invalid(env);
    noteDenormals(env, y);
    return zero((x.sign ^ y.sign) as Sign);
  }
  if (x.kind === INFINITE) {
    if (x.sign === 1 || y.kind === ZERO) return invalid(env);
    noteDenormals(env, y);
    return infinity(y.sign);
  }
  noteDenormals(env, x, y);
  if (y.kind === INFINITE) return infinity((x.sign ^ y.sign) as Sign);
  if (y.kind === ZERO) return zero((x.sign ^ y.sign) as Sign);
  if (x.sign === 1 && x.exponent >= 0) {
    // There is no logarithm; the processor gives its argument back.
    env.raise(PE);
    return x;
  }
  if (x.exponent < -TINY) {
    const scaled = (x.mantissa << BigInt(2 * GUARD)) / ln2(GUARD);
    const logarithm = x.sign === 1 ? -scaled - 1n : scaled - 1n;
    return product(env, y, logarithm, GUARD + 63 - x.exponent, false);
  }
  if (x.exponent >= 256) return product(env, y, log2(x.mantissa, x.exponent - 63), BITS, false);
  const signed = x.sign === 1 ? -x.mantissa : x.mantissa;
  if (x.exponent >= -2) {
    const weight = Math.min(x.exponent - 63, 0);
    const sum = (signed << BigInt(x.exponent - 63 - weight)) + (1n << BigInt(-weight));
    return product(env, y, log2(sum, weight), BITS, false);
  }
  const bits = GUARD - x.exponent;
  // x / (x + 2), both with the weight of x's last bit
  const two = 2n << BigInt(63 - x.exponent);
  return product(env, y, log2OfRatio(signed, signed + two, bits), bits, false);
}

for (const [mnemonic, compute] of [
  ['FYL2X', yLog2],
  ['FYL2XP1', yLog2Plus1],
] as const)
  waiting(mnemonic, (p, insn) => {
    const env = environmentOf(p);
    const full = inUse(p, 0) && inUse(p, 1);
    const result = full ? compute(env, read(p, 0), read(p, 1)) : DEFAULT_NAN;
    if (settle(p, insn, env, full ? '' : 'underflow')) {
      write(p, 1, result);
      pop(p);
    }
    return DONE;
  });
