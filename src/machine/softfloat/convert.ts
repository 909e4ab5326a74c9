/** Conversions between formats and integers, and rounding to integers. @sdm "Conversion Instructions", "ROUNDPD", "FRNDINT" */
import { DE, type Environment, IE, PE, type Rounding } from './environment.ts';
import { DENORMAL, type Float, type Format, INFINITE, isFiniteValue, normal, type Sign, ZERO, zero } from './float.ts';
import { special1 } from './operands.ts';
import { type Rounded, round, shiftRounded } from './round.ts';

/** The value in another format. Precision control does not apply. */
export function convert(env: Environment, format: Format, a: Float): Float {
  const special = special1(env, a);
  if (special !== null) return special;
  if (a.kind === DENORMAL) env.raise(DE);
  if (a.kind === INFINITE || a.kind === ZERO) return a;
  return round(env, format, a.sign, a.mantissa, a.exponent - 63, false, format.precision);
}

/** A signed integer as a float; the only exception is precision. */
export function fromInteger(env: Environment, format: Format, value: bigint): Float {
  if (value === 0n) return zero(0);
  return round(env, format, value < 0n ? 1 : 0, value < 0n ? -value : value, 0, false, format.precision);
}

/** The magnitude of a finite number, rounded to an integer. */
function integral(a: Float, rounding: Rounding): Rounded {
  if (a.kind === ZERO) return { value: 0n, inexact: false, up: false };
  // Far below one half, the distance does not matter.
  return shiftRounded(rounding, a.sign, a.mantissa, Math.min(63 - a.exponent, 70), false);
}

/**
 * A signed integer of `bits` bits; the integer indefinite (the most negative one) with #I if it does not fit.
 * Denormals raise only precision.
 */
export function toInteger(env: Environment, a: Float, bits: number, rounding: Rounding = env.rounding): bigint {
  const indefinite = -(1n << BigInt(bits - 1));
  if (!isFiniteValue(a) || a.exponent > 64) {
    env.raise(IE);
    return indefinite;
  }
  const { value, inexact, up } = integral(a, rounding);
  const result = a.sign === 1 ? -value : value;
  if (result < indefinite || result >= -indefinite) {
    env.raise(IE);
    return indefinite;
  }
  if (inexact) env.raise(PE);
  env.roundedUp = up;
  return result;
}

/** The nearest integer in the same format. `quiet` suppresses the precision exception. */
export function roundToIntegral(env: Environment, a: Float, rounding: Rounding, quiet = false): Float {
  const special = special1(env, a);
  if (special !== null) return special;
  if (a.kind === INFINITE || a.kind === ZERO) return a;
  if (a.exponent >= 63) return a;
  const { value, inexact, up } = integral(a, rounding);
  if (inexact && !quiet) env.raise(PE);
  env.roundedUp = up;
  return fromMagnitude(a.sign, value);
}

/** ±value, which fits 64 bits after normalisation. */
function fromMagnitude(sign: Sign, value: bigint): Float {
  if (value === 0n) return zero(sign);
  let exponent = 63;
  let mantissa = value;
  while (mantissa >> 63n === 0n) {
    mantissa <<= 1n;
    exponent--;
  }
  return mantissa >> 64n === 1n ? normal(sign, 64, 1n << 63n) : normal(sign, exponent, mantissa);
}
