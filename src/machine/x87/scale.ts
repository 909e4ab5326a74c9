/** FSCALE, FXTRACT, FPREM and FPREM1: instructions that take numbers apart. @sdm "FSCALE", "FXTRACT", "FPREM", "FPREM1" */
import type { Insn } from '../isa/insn.ts';
import { DONE, type Outcome } from '../outcome.ts';
import type { Processor } from '../processor.ts';
import { DE, type Environment, PE, ZE } from '../softfloat/environment.ts';
import {
  DEFAULT_NAN,
  DENORMAL,
  F80,
  type Float,
  INFINITE,
  infinity,
  NORMAL,
  normal,
  pack,
  type Sign,
  ZERO,
  zero,
} from '../softfloat/float.ts';
import { invalid, noteDenormals, special1, special2 } from '../softfloat/operands.ts';
import { round } from '../softfloat/round.ts';
import { floatOf } from './operands.ts';
import { inUse, push, read, write } from './registers.ts';
import { C0, C1, C2, C3, DEFAULT_NAN_RAW, environmentOf, setCodes, settle, waiting } from './status.ts';

/** Exponents beyond this are out of every range, scaled results included. */
const FAR = 0x10000;

/** ST(0) × 2^(ST(1) truncated); precision control plays no part. */
function scale(env: Environment, a: Float, b: Float): Float {
  const special = special2(env, a, b);
  if (special !== null) return special;
  if (b.kind === INFINITE) {
    if (b.sign === 0 ? a.kind === ZERO : a.kind === INFINITE) return invalid(env);
    noteDenormals(env, a);
    return b.sign === 0 ? infinity(a.sign) : zero(a.sign);
  }
  noteDenormals(env, a, b);
  if (a.kind === ZERO || a.kind === INFINITE) return a;
  const by =
    b.kind === ZERO || b.exponent < 0 ? 0 : b.exponent > 16 ? FAR : Number(b.mantissa >> BigInt(63 - b.exponent));
  const result = round(env, F80, a.sign, a.mantissa, a.exponent - 63 + (b.sign === 1 ? -by : by), false, 64);
  if (result.kind !== NORMAL || (result.exponent >= F80.minExponent && result.exponent <= F80.maxExponent))
    return result;
  // Even the scaled result of an unmasked overflow or underflow is out of range.
  env.raise(PE);
  env.roundedUp = b.sign === 0;
  return b.sign === 0 ? infinity(a.sign) : zero(a.sign);
}

waiting('FSCALE', (p, insn) => {
  const env = environmentOf(p);
  const full = inUse(p, 0) && inUse(p, 1);
  const result = full ? scale(env, read(p, 0), read(p, 1)) : DEFAULT_NAN;
  if (settle(p, insn, env, full ? '' : 'underflow')) write(p, 0, result);
  return DONE;
});

/** Exponent and significand of ST(0). */
function extract(env: Environment, a: Float): [exponent: Float, significand: Float] {
  const special = special1(env, a);
  if (special !== null) return [special, special];
  if (a.kind === INFINITE) return [infinity(0), a];
  if (a.kind === ZERO) {
    env.raise(ZE);
    return [infinity(1), a];
  }
  if (a.kind === DENORMAL) env.raise(DE);
  return [floatOf(BigInt(a.exponent)), normal(a.sign, 0, a.mantissa)];
}
waiting('FXTRACT', (p, insn) => {
  const env = environmentOf(p);
  const empty = !inUse(p, 0);
  const overflow = !empty && inUse(p, -1);
  const [exponent, significand] = empty || overflow ? [DEFAULT_NAN, DEFAULT_NAN] : extract(env, read(p, 0));
  if (settle(p, insn, env, empty ? 'underflow' : overflow ? 'overflow' : '')) {
    write(p, 0, exponent);
    push(p, overflow || empty ? DEFAULT_NAN_RAW : pack(F80, significand));
  }
  return DONE;
});

/** Remainder so far, low bits of the quotient, and whether the reduction is complete. */
interface Reduction {
  readonly remainder: Float;
  /** -1: the operands decided the result, and there is no quotient. */
  readonly quotient: number;
  readonly complete: boolean;
}
const whole = (remainder: Float, quotient = -1): Reduction => ({ remainder, quotient, complete: true });

/** One step of the remainder of a ÷ b: complete if the exponents are less than 64 apart. */
function reduce(env: Environment, a: Float, b: Float, toNearest: boolean): Reduction {
  const special = special2(env, a, b);
  if (special !== null) return whole(special);
  if (a.kind === INFINITE || b.kind === ZERO) return whole(invalid(env));
  noteDenormals(env, a, b);
  if (a.kind === ZERO || b.kind === INFINITE) return whole(a, 0);
  const distance = a.exponent - b.exponent;
  if (distance < -1) return whole(rounded(env, a.sign, a.mantissa, a.exponent - 63), 0);
  if (distance >= 64) {
    // Reduce by 32 to 63 bits, as many as the distance is ahead of a multiple of 32.
    const bits = (distance & 31) | 32;
    const dividend = a.mantissa << BigInt(bits);
    const rest = dividend % b.mantissa;
    return {
      remainder: rounded(env, a.sign, rest, a.exponent - 63 - bits),
      quotient: 0,
      complete: false,
    };
  }
  // Both as integers of one weight.
  const shift = BigInt(Math.max(distance, 0));
  const dividend = a.mantissa << shift;
  const divisor = b.mantissa << (distance < 0 ? 1n : 0n);
  const weight = a.exponent - 63 - Number(shift);
  let quotient = dividend / divisor;
  let rest = dividend % divisor;
  let { sign } = a;
  if (toNearest && (2n * rest > divisor || (2n * rest === divisor && quotient & 1n))) {
    quotient += 1n;
    rest = divisor - rest;
    sign = (sign ^ 1) as Sign;
  }
  return whole(rounded(env, sign, rest, weight), Number(quotient & 7n));
}
/** Remainders are exact, but a tiny one may be an unmasked underflow. */
const rounded = (env: Environment, sign: Sign, magnitude: bigint, weight: number): Float =>
  magnitude === 0n ? zero(sign) : round(env, F80, sign, magnitude, weight, false, 64);

function remainder(p: Processor, insn: Insn, toNearest: boolean): Outcome {
  const env = environmentOf(p);
  const full = inUse(p, 0) && inUse(p, 1);
  const result = full ? reduce(env, read(p, 0), read(p, 1), toNearest) : whole(DEFAULT_NAN);
  setCodes(p, C2, 0);
  if (!settle(p, insn, env, full ? '' : 'underflow')) return DONE;
  write(p, 0, result.remainder);
  const { quotient, complete } = result;
  if (!complete) setCodes(p, C0 | C1 | C2 | C3, C2);
  else if (quotient >= 0)
    setCodes(p, C0 | C1 | C3, (quotient & 4 ? C0 : 0) | (quotient & 2 ? C3 : 0) | (quotient & 1 ? C1 : 0));
  return DONE;
}
waiting('FPREM', (p, insn) => remainder(p, insn, false));
waiting('FPREM1', (p, insn) => remainder(p, insn, true));
