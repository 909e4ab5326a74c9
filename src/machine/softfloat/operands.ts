/**
 * What operands do before an operation: denormals, NaNs and unsupported encodings.
 * @sdm "Operating on SNaNs and QNaNs", "Rules for Handling NaNs", "Denormal Operand Exception (#D)"
 */
import { DE, type Environment, IE } from './environment.ts';
import {
  DEFAULT_NAN,
  DENORMAL,
  type Float,
  type Format,
  isNan,
  quieted,
  SNAN,
  UNSUPPORTED,
  unpack,
  zero,
} from './float.ts';

/** Reads an SSE operand: DAZ makes denormals zeros. */
export function operand(env: Environment, format: Format, encoding: bigint): Float {
  const f = unpack(format, encoding);
  return f.kind === DENORMAL && env.denormalsAreZero ? zero(f.sign) : f;
}

/** An invalid operation: raises #I and gives the default NaN. */
export function invalid(env: Environment): Float {
  env.raise(IE);
  return DEFAULT_NAN;
}

/** Raises the denormal exception if an operand is denormal. */
export function noteDenormals(env: Environment, a: Float, b: Float = a): void {
  if (a.kind === DENORMAL || b.kind === DENORMAL) env.raise(DE);
}

/** The result if one operand decides it (a NaN or an unsupported encoding), else null. */
export function special1(env: Environment, a: Float): Float | null {
  if (a.kind === UNSUPPORTED) return invalid(env);
  if (!isNan(a)) return null;
  if (a.kind === SNAN) env.raise(IE);
  return quieted(a);
}

/** The same for two operands: SSE prefers the first NaN; x87 quiet ones over signalling, then the larger significand. */
export function special2(env: Environment, a: Float, b: Float): Float | null {
  if (a.kind === UNSUPPORTED || b.kind === UNSUPPORTED) return invalid(env);
  const nanA = isNan(a),
    nanB = isNan(b);
  if (!nanA && !nanB) return null;
  if (a.kind === SNAN || b.kind === SNAN) env.raise(IE);
  if (!nanB) return quieted(a);
  if (!nanA) return quieted(b);
  if (!env.x87) return quieted(a);
  if (a.kind !== b.kind) return a.kind === SNAN ? b : a;
  if (a.mantissa !== b.mantissa) return quieted(a.mantissa > b.mantissa ? a : b);
  return quieted(a.sign === 0 ? a : b);
}
