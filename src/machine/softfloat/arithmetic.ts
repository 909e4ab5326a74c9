/** Addition, subtraction, multiplication, division and square root: exact results, rounded once. @sdm "Basic Arithmetic Instructions" */
import { DE, DOWN, type Environment, ZE } from './environment.ts';
import { DENORMAL, type Float, type Format, INFINITE, infinity, negated, type Sign, ZERO, zero } from './float.ts';
import { invalid, noteDenormals, special1, special2 } from './operands.ts';
import { round } from './round.ts';

/** Operands further apart than this cannot meet; the smaller one only breaks ties. */
const FAR = 140;

export function add(env: Environment, format: Format, a: Float, b: Float): Float {
  const special = special2(env, a, b);
  if (special !== null) return special;
  if (a.kind === INFINITE || b.kind === INFINITE) {
    if (a.kind === b.kind && a.sign !== b.sign) return invalid(env);
    noteDenormals(env, a, b);
    return a.kind === INFINITE ? a : b;
  }
  noteDenormals(env, a, b);
  return addFinite(env, format, a, b);
}

/** The sign of an exact zero sum of values that differ in sign. */
const cancelled = (env: Environment): Sign => (env.rounding === DOWN ? 1 : 0);

function addFinite(env: Environment, format: Format, a: Float, b: Float): Float {
  if (a.kind === ZERO || b.kind === ZERO) {
    if (a.kind !== b.kind) {
      const other = a.kind === ZERO ? b : a;
      return round(env, format, other.sign, other.mantissa, other.exponent - 63);
    }
    return zero(a.sign === b.sign ? a.sign : cancelled(env));
  }
  const [large, small] = a.exponent >= b.exponent ? [a, b] : [b, a];
  const distance = large.exponent - small.exponent;
  // Far away, the smaller operand may as well be the smallest number that is still felt.
  const shift = Math.min(distance, FAR);
  const x = large.mantissa << BigInt(shift);
  const y = distance > FAR ? 1n : small.mantissa;
  const sum = large.sign === small.sign ? x + y : x - y;
  if (sum === 0n) return zero(cancelled(env));
  const sign = sum < 0n ? small.sign : large.sign;
  return round(env, format, sign, sum < 0n ? -sum : sum, large.exponent - 63 - shift);
}

/** a − b. */
export function subtract(env: Environment, format: Format, a: Float, b: Float): Float {
  // A NaN keeps its sign.
  return special2(env, a, b) ?? add(env, format, a, negated(b));
}

export function multiply(env: Environment, format: Format, a: Float, b: Float): Float {
  const special = special2(env, a, b);
  if (special !== null) return special;
  const sign = (a.sign ^ b.sign) as Sign;
  if (a.kind === INFINITE || b.kind === INFINITE) {
    if (a.kind === ZERO || b.kind === ZERO) return invalid(env);
    noteDenormals(env, a, b);
    return infinity(sign);
  }
  noteDenormals(env, a, b);
  if (a.kind === ZERO || b.kind === ZERO) return zero(sign);
  return round(env, format, sign, a.mantissa * b.mantissa, a.exponent + b.exponent - 126);
}

/** a ÷ b. */
export function divide(env: Environment, format: Format, a: Float, b: Float): Float {
  const special = special2(env, a, b);
  if (special !== null) return special;
  const sign = (a.sign ^ b.sign) as Sign;
  if (a.kind === INFINITE) {
    if (b.kind === INFINITE) return invalid(env);
    noteDenormals(env, b);
    return infinity(sign);
  }
  if (b.kind === ZERO) {
    if (a.kind === ZERO) return invalid(env);
    env.raise(ZE);
    return infinity(sign);
  }
  noteDenormals(env, a, b);
  if (b.kind === INFINITE || a.kind === ZERO) return zero(sign);
  const numerator = a.mantissa << 68n;
  const quotient = numerator / b.mantissa;
  return round(env, format, sign, quotient, a.exponent - b.exponent - 68, quotient * b.mantissa !== numerator);
}

export function squareRoot(env: Environment, format: Format, a: Float): Float {
  const special = special1(env, a);
  if (special !== null) return special;
  if (a.kind === ZERO) return a;
  if (a.sign === 1) return invalid(env);
  if (a.kind === INFINITE) return a;
  if (a.kind === DENORMAL) env.raise(DE);
  // An even exponent, and a radicand long enough for a root of at least 66 bits.
  const weight = a.exponent - 63 - 70;
  const odd = weight & 1;
  const radicand = a.mantissa << BigInt(70 + odd);
  const root = integerRoot(radicand);
  return round(env, format, 0, root, (weight - odd) / 2, root * root !== radicand);
}

/** floor(√n). */
export function integerRoot(n: bigint): bigint {
  if (n < 2n) return n;
  // Newton's method from above; the start is at most a few units in the 50th bit too large.
  const bits = n.toString(16).length * 4;
  const shift = BigInt(Math.max(0, Math.ceil((bits - 100) / 2)));
  let x = (BigInt(Math.ceil(Math.sqrt(Number(n >> (2n * shift))) * (1 + 2 ** -50))) + 1n) << shift;
  for (;;) {
    const next = (x + n / x) >> 1n;
    if (next >= x) return x;
    x = next;
  }
}
