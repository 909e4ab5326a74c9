/**
 * Rounding of an exact result to a format, with overflow and underflow.
 * @sdm "Rounding", "Numeric Overflow Exception (#O)", "Numeric Underflow Exception (#U)"
 */
import { DOWN, type Environment, NEAREST, OE, PE, type Rounding, UE, UP } from './environment.ts';
import { bitLength, DENORMAL, type Float, type Format, infinity, normal, type Sign, zero } from './float.ts';

/** Unmasked x87 overflow and underflow in a register scale the exponent by this. */
const SCALE = 24576;

/** Whether a magnitude with a discarded part goes up. `half`: -1 below, 0 at, 1 above one half. */
function goesUp(rounding: Rounding, sign: Sign, odd: boolean, half: -1 | 0 | 1): boolean {
  switch (rounding) {
    case NEAREST:
      return half > 0 || (half === 0 && odd);
    case DOWN:
      return sign === 1;
    case UP:
      return sign === 0;
    default:
      return false;
  }
}

/** An integer division by 2^shift, rounded. */
export interface Rounded {
  readonly value: bigint;
  readonly inexact: boolean;
  readonly up: boolean;
}

/** `magnitude` >> `shift`, rounded; `sticky` says that something non-zero follows the last bit. */
export function shiftRounded(
  rounding: Rounding,
  sign: Sign,
  magnitude: bigint,
  shift: number,
  sticky: boolean,
): Rounded {
  if (shift <= 0) {
    const value = magnitude << BigInt(-shift);
    if (!sticky) return { value, inexact: false, up: false };
    const up = goesUp(rounding, sign, false, -1);
    return { value: up ? value + 1n : value, inexact: true, up };
  }
  const n = BigInt(shift);
  const value = magnitude >> n;
  const rest = magnitude - (value << n);
  if (rest === 0n && !sticky) return { value, inexact: false, up: false };
  const middle = 1n << (n - 1n);
  const half = rest > middle || (rest === middle && sticky) ? 1 : rest === middle ? 0 : -1;
  const up = goesUp(rounding, sign, (value & 1n) === 1n, half);
  return { value: up ? value + 1n : value, inexact: true, up };
}

/** A finite value with its top bit at 63. */
function normalized(sign: Sign, magnitude: bigint, weight: number): Float {
  const length = bitLength(magnitude);
  return normal(sign, weight + length - 1, magnitude << BigInt(64 - length));
}

/**
 * Rounds ±magnitude × 2^weight to `format` (to fewer bits by the environment's precision control) and raises overflow,
 * underflow and precision exceptions.
 *
 * @param magnitude above 0; with `sticky` it must have at least two bits more than the format
 * @param sticky the true value is a little larger
 * @param precision significand bits, if not what the environment says
 */
export function round(
  env: Environment,
  format: Format,
  sign: Sign,
  magnitude: bigint,
  weight: number,
  sticky = false,
  precision: number = env.precision || format.precision,
): Float {
  const length = bitLength(magnitude);
  const free = shiftRounded(env.rounding, sign, magnitude, length - precision, sticky);
  // value has `precision` bits, or one more after a carry
  const freeWeight = weight + length - precision;
  const exponent = freeWeight + bitLength(free.value) - 1;
  if (exponent < format.minExponent) return underflow(env, format, sign, magnitude, weight, sticky, precision, free);
  if (exponent > format.maxExponent) {
    env.raise(OE);
    if (env.masked(OE)) {
      env.raise(PE);
      const up =
        env.rounding === NEAREST || (env.rounding === UP && sign === 0) || (env.rounding === DOWN && sign === 1);
      env.roundedUp = up;
      return up ? infinity(sign) : largest(format, sign, precision);
    }
    if (free.inexact) env.raise(PE);
    env.roundedUp = free.up;
    return normalized(sign, free.value, freeWeight - (env.x87 ? SCALE : 0));
  }
  if (free.inexact) env.raise(PE);
  env.roundedUp = free.up;
  return normalized(sign, free.value, freeWeight);
}

function underflow(
  env: Environment,
  format: Format,
  sign: Sign,
  magnitude: bigint,
  weight: number,
  sticky: boolean,
  precision: number,
  free: Rounded,
): Float {
  if (!env.masked(UE)) {
    env.raise(free.inexact ? UE | PE : UE);
    env.roundedUp = free.up;
    const freeWeight = weight + bitLength(magnitude) - precision;
    return normalized(sign, free.value, freeWeight + (env.x87 ? SCALE : 0));
  }
  if (env.flushToZero) {
    env.raise(UE | PE);
    return zero(sign);
  }
  const quantum = format.minExponent - (precision - 1);
  const { value, inexact, up } = shiftRounded(env.rounding, sign, magnitude, quantum - weight, sticky);
  if (inexact) env.raise(UE | PE);
  env.roundedUp = up;
  if (value === 0n) return zero(sign);
  const result = normalized(sign, value, quantum);
  return result.exponent < format.minExponent ? { ...result, kind: DENORMAL } : result;
}

/** The largest finite number of `precision` bits. */
export const largest = (format: Format, sign: Sign, precision: number = format.precision): Float =>
  normal(sign, format.maxExponent, ((1n << BigInt(precision)) - 1n) << BigInt(64 - precision));
