/** Comparison, minimum and maximum. @sdm "CMPPD", "COMISD", "FCOM", "MINPD", "MAXPD" */
import { type Environment, IE } from './environment.ts';
import { type Float, INFINITE, isNan, SNAN, UNSUPPORTED, ZERO } from './float.ts';
import { noteDenormals } from './operands.ts';

export const LESS = -1;
export const EQUAL = 0;
export const GREATER = 1;
export const UNORDERED = 2;
export type Relation = -1 | 0 | 1 | 2;

/** How a relates to b. `quiet`: only signalling NaNs are invalid, else every NaN is. */
export function compare(env: Environment, a: Float, b: Float, quiet: boolean): Relation {
  if (a.kind === UNSUPPORTED || b.kind === UNSUPPORTED) {
    env.raise(IE);
    return UNORDERED;
  }
  if (isNan(a) || isNan(b)) {
    if (!quiet || a.kind === SNAN || b.kind === SNAN) env.raise(IE);
    return UNORDERED;
  }
  noteDenormals(env, a, b);
  return order(a, b);
}

/** The order of two values that are no NaNs. */
function order(a: Float, b: Float): Relation {
  if (a.kind === ZERO && b.kind === ZERO) return EQUAL;
  if (a.kind === ZERO) return b.sign === 1 ? GREATER : LESS;
  if (b.kind === ZERO || a.sign !== b.sign) return a.sign === 1 ? LESS : GREATER;
  const larger = magnitudeOrder(a, b);
  return (a.sign === 1 ? -larger : larger) as Relation;
}

function magnitudeOrder(a: Float, b: Float): -1 | 0 | 1 {
  if (a.kind === INFINITE || b.kind === INFINITE) return a.kind === b.kind ? 0 : a.kind === INFINITE ? 1 : -1;
  if (a.exponent !== b.exponent) return a.exponent > b.exponent ? 1 : -1;
  return a.mantissa === b.mantissa ? 0 : a.mantissa > b.mantissa ? 1 : -1;
}

/** SSE's minimum (`sign` -1) or maximum (1): the second operand unless the first is strictly beyond it. */
export const extreme = (env: Environment, a: Float, b: Float, sign: -1 | 1): Float =>
  compare(env, a, b, false) === sign ? a : b;
