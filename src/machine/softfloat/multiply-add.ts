/** Fused multiply-add: one rounding. @sdm "Fused-Multiply-ADD (FMA) Numeric Behavior" */
import { DOWN, type Environment, IE } from './environment.ts';
import {
  type Float,
  type Format,
  INFINITE,
  infinity,
  isNan,
  negated,
  quieted,
  type Sign,
  SNAN,
  ZERO,
  zero,
} from './float.ts';
import { invalid, noteDenormals } from './operands.ts';
import { round } from './round.ts';

/** Terms further apart than this do not meet: the smaller one only breaks ties. */
const FAR = 280;
/** Where a term that is far away is put, below the last bit of the other. */
const FAR_BELOW = 200;

/**
 * ±(a × b) ± c, rounded once. The first NaN in the order a, b, c is the result.
 * @param product turns the sign of the product
 * @param addend turns the sign of c
 */
export function multiplyAdd(
  env: Environment,
  format: Format,
  a: Float,
  b: Float,
  c: Float,
  product: 1 | -1,
  addend: 1 | -1,
): Float {
  const operands = [a, b, c];
  const nan = operands.find(isNan);
  if (nan !== undefined) {
    if (operands.some((f) => f.kind === SNAN)) env.raise(IE);
    return quieted(nan);
  }
  const z = addend === 1 ? c : negated(c);
  const sign = (a.sign ^ b.sign ^ (product === 1 ? 0 : 1)) as Sign;
  const infinite = a.kind === INFINITE || b.kind === INFINITE;
  if (infinite && (a.kind === ZERO || b.kind === ZERO)) return invalid(env);
  if (infinite && z.kind === INFINITE && z.sign !== sign) return invalid(env);
  noteDenormals(env, a, b);
  noteDenormals(env, c);
  if (infinite) return infinity(sign);
  if (z.kind === INFINITE) return z;
  if (a.kind === ZERO || b.kind === ZERO) {
    if (z.kind === ZERO) return zero(sign === z.sign ? sign : cancelled(env));
    return round(env, format, z.sign, z.mantissa, z.exponent - 63);
  }
  const weight = a.exponent + b.exponent - 126;
  const magnitude = a.mantissa * b.mantissa;
  if (z.kind === ZERO) return round(env, format, sign, magnitude, weight);
  return sumOf(
    env,
    format,
    { sign, magnitude, weight },
    { sign: z.sign, magnitude: z.mantissa, weight: z.exponent - 63 },
  );
}

/** The sign of an exact zero sum of values that differ in sign. */
const cancelled = (env: Environment): Sign => (env.rounding === DOWN ? 1 : 0);

/** ±magnitude × 2^weight */
interface Term {
  readonly sign: Sign;
  readonly magnitude: bigint;
  readonly weight: number;
}

function sumOf(env: Environment, format: Format, x: Term, y: Term): Float {
  const [high, low] = x.weight >= y.weight ? [x, y] : [y, x];
  const distance = high.weight - low.weight;
  const far = distance > FAR;
  const shift = far ? FAR_BELOW : distance;
  const large = high.magnitude << BigInt(shift);
  const small = far ? 1n : low.magnitude;
  const sum = high.sign === low.sign ? large + small : large - small;
  if (sum === 0n) return zero(cancelled(env));
  const sign = sum < 0n ? low.sign : high.sign;
  return round(env, format, sign, sum < 0n ? -sum : sum, high.weight - shift);
}
