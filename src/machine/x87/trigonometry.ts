/**
 * FSIN, FCOS, FSINCOS, FPTAN and FPATAN.
 *
 * Arguments are reduced with the 66 bits of π that Intel's processors use, so that sines of large numbers are what a real
 * processor says and not what mathematics says.
 *
 * @sdm "Trigonometric Instructions", "Approximation of Pi"
 */
import type { Insn } from '../isa/insn.ts';
import { DONE, type Outcome } from '../outcome.ts';
import type { Processor } from '../processor.ts';
import { arcTangent, cosine, pi, sine } from '../softfloat/elementary.ts';
import { type Environment, PE, UE } from '../softfloat/environment.ts';
import {
  DEFAULT_NAN,
  DENORMAL,
  F80,
  type Float,
  INFINITE,
  normal,
  pack,
  type Sign,
  ZERO,
  zero,
} from '../softfloat/float.ts';
import { invalid, noteDenormals, special1, special2 } from '../softfloat/operands.ts';
import { round } from '../softfloat/round.ts';
import { inUse, pop, push, read, write } from './registers.ts';
import { C1, C2, environmentOf, recordPointers, setCodes, settle, waiting } from './status.ts';

const ONE = normal(0, 0, 1n << 63n);
/** π/2 × 2^67, of π to 66 bits. */
const HALF_PI = 0xc90fdaa22168c234cn;
const HALF_PI_WEIGHT = 67;
/** Bits beyond the leading ones of a result. */
const GUARD = 140;

/** An angle between −π/4 and π/4 in fixed point, and the quarter turns that were taken off (modulo 4). */
interface Reduced {
  readonly angle: bigint;
  readonly bits: number;
  readonly quadrant: number;
}

function reduce(a: Float): Reduced {
  const weight = a.exponent - 63;
  // |a| and π/2 as integers of one weight
  const common = Math.min(weight, -HALF_PI_WEIGHT);
  const value = a.mantissa << BigInt(weight - common);
  const quarter = HALF_PI << BigInt(-HALF_PI_WEIGHT - common);
  let turns = value / quarter;
  let rest = value - turns * quarter;
  if (2n * rest > quarter) {
    rest -= quarter;
    turns += 1n;
  }
  const signed = a.sign === 1 ? -rest : rest;
  const quadrant = Number(BigInt.asUintN(2, a.sign === 1 ? -turns : turns));
  return { angle: signed << BigInt(GUARD), bits: GUARD - common, quadrant };
}

/** A non-zero fixed-point number, rounded; it is never exact. */
function fixed(env: Environment, value: bigint, bits: number): Float {
  return round(env, F80, value < 0n ? 1 : 0, value < 0n ? -value : value, -bits, true, 64);
}

const sineOf = ({ angle, bits, quadrant }: Reduced): bigint => {
  const magnitude = quadrant & 1 ? cosine(angle, bits) : sine(angle, bits);
  return quadrant & 2 ? -magnitude : magnitude;
};
const cosineOf = (r: Reduced): bigint => sineOf({ ...r, quadrant: (r.quadrant + 1) & 3 });

/** What the functions share: NaNs, infinities, denormals. */
function special(env: Environment, a: Float): Float | null {
  const nan = special1(env, a);
  if (nan !== null) return nan;
  if (a.kind === INFINITE) return invalid(env);
  noteDenormals(env, a);
  return null;
}
const sin = (env: Environment, a: Float): Float => {
  if (a.exponent < TINY) return tiny(env, a);
  const r = reduce(a);
  return fixed(env, sineOf(r), r.bits);
};
const cos = (env: Environment, a: Float): Float => {
  if (a.exponent < TINY) return tiny(env, ONE);
  const r = reduce(a);
  return fixed(env, cosineOf(r), r.bits);
};
const tan = (env: Environment, a: Float): Float => {
  if (a.exponent < TINY) return tiny(env, a);
  const r = reduce(a);
  return fixed(env, (sineOf(r) << BigInt(r.bits)) / cosineOf(r), r.bits);
};

/** Below this exponent a processor takes sin a and tan a for a, and cos a for 1, whatever the rounding. */
const TINY = -68;
function tiny(env: Environment, f: Float): Float {
  const result = round(env, F80, f.sign, f.mantissa, f.exponent - 63, false, 64);
  env.raise(result.kind === DENORMAL ? UE | PE : PE);
  return result;
}

/** Whether the argument is too large: then nothing happens but C2. */
const tooLarge = (a: Float): boolean => a.kind !== ZERO && a.exponent >= 63;

/** `compute` gives ST(0) and, for instructions that push, the new top. */
function function1(
  mnemonic: string,
  pushes: boolean,
  compute: (env: Environment, a: Float) => readonly [Float, Float],
): void {
  waiting(mnemonic, (p, insn) => {
    const env = environmentOf(p);
    const empty = !inUse(p, 0);
    const overflow = pushes && !empty && inUse(p, -1);
    const a = read(p, 0);
    if (!empty && !overflow && tooLarge(a)) return outOfRange(p, insn);
    setCodes(p, C2, 0);
    let results: readonly [Float, Float] = [DEFAULT_NAN, DEFAULT_NAN];
    if (!empty && !overflow) {
      const nan = special(env, a);
      results = nan === null ? compute(env, a) : [nan, nan];
    }
    if (settle(p, insn, env, empty ? 'underflow' : overflow ? 'overflow' : '')) {
      write(p, 0, results[0]);
      if (pushes) push(p, pack(F80, results[1]));
    }
    return DONE;
  });
}
function outOfRange(p: Processor, insn: Insn): Outcome {
  setCodes(p, C1 | C2, C2);
  recordPointers(p, insn, false);
  return DONE;
}
function1('FSIN', false, (env, a) => [a.kind === ZERO ? a : sin(env, a), a]);
function1('FCOS', false, (env, a) => [a.kind === ZERO ? ONE : cos(env, a), a]);
function1('FPTAN', true, (env, a) => [a.kind === ZERO ? a : tan(env, a), ONE]);
function1('FSINCOS', true, (env, a) => (a.kind === ZERO ? [a, ONE] : [sin(env, a), cos(env, a)]));

/** ± quarters × π/4 */
const quarters = (env: Environment, sign: Sign, count: bigint): Float =>
  round(env, F80, sign, pi(200) * count, -202, true, 64);

/** The angle of the point (x, y). */
function angleOf(env: Environment, y: Float, x: Float): Float {
  const nan = special2(env, y, x);
  if (nan !== null) return nan;
  noteDenormals(env, y, x);
  const { sign } = y;
  const left = x.sign === 1;
  if (y.kind === INFINITE) return quarters(env, sign, x.kind === INFINITE ? (left ? 3n : 1n) : 2n);
  if (y.kind === ZERO || x.kind === INFINITE) return left ? quarters(env, sign, 4n) : zero(sign);
  if (x.kind === ZERO) return quarters(env, sign, 2n);
  const steep = y.exponent > x.exponent || (y.exponent === x.exponent && y.mantissa > x.mantissa);
  const [small, large] = steep ? [x, y] : [y, x];
  const distance = large.exponent - small.exponent;
  // A flat angle to the right is as small as the quotient; all others are next to a multiple of π/2.
  const bits = !steep && !left ? 200 + distance : 200;
  const shift = bits - distance;
  const ratio = shift < 0 ? 0n : (small.mantissa << BigInt(shift)) / large.mantissa;
  const angle = ratio === 0n ? 1n : arcTangent(ratio, bits);
  if (!steep && !left) {
    if (small.mantissa === large.mantissa && distance > 100) return exactQuotient(env, sign, -distance);
    return round(env, F80, sign, angle, -bits, true, 64);
  }
  const straight = pi(200);
  const result = steep ? (left ? straight / 2n + angle : straight / 2n - angle) : straight - angle;
  return round(env, F80, sign, result, -200, true, 64);
}
/** Just below 2^exponent. */
const exactQuotient = (env: Environment, sign: Sign, exponent: number): Float =>
  round(env, F80, sign, (1n << 200n) - 1n, exponent - 200, true, 64);

waiting('FPATAN', (p, insn) => {
  const env = environmentOf(p);
  const full = inUse(p, 0) && inUse(p, 1);
  const result = full ? angleOf(env, read(p, 1), read(p, 0)) : DEFAULT_NAN;
  if (settle(p, insn, env, full ? '' : 'underflow')) {
    write(p, 1, result);
    pop(p);
  }
  return DONE;
});
