/**
 * Elementary functions on fixed-point BigInts: the series of the textbooks with enough bits that rounding once is right
 * in all but freak cases.
 *
 * A fixed-point number is an integer v that stands for v / 2^bits.
 */
import { integerRoot } from './arithmetic.ts';

const constants = new Map<string, bigint>();
function cached(name: string, bits: number, compute: () => bigint): bigint {
  const key = `${name} ${bits}`;
  let value = constants.get(key);
  if (value === undefined) constants.set(key, (value = compute()));
  return value;
}

/** Sum of z^(2k+1) / (2k+1), signs alternating for the arc tangent, all plus for the area hyperbolic tangent. */
function oddPowers(z: bigint, bits: number, alternating: boolean): bigint {
  const n = BigInt(bits);
  const square = (z * z) >> n;
  let power = z;
  let sum = z;
  for (let k = 3n, minus = alternating; power !== 0n && power !== -1n; k += 2n, minus = alternating && !minus) {
    power = (power * square) >> n;
    sum += (minus ? -power : power) / k;
  }
  return sum;
}

/** atan(1/n) for a small integer. */
const arcTangentOfInverse = (n: bigint, bits: number): bigint => oddPowers((1n << BigInt(bits)) / n, bits, true);

/** π, by Machin's formula. */
export const pi = (bits: number): bigint =>
  cached('pi', bits, () => {
    const wide = bits + 16;
    return (16n * arcTangentOfInverse(5n, wide) - 4n * arcTangentOfInverse(239n, wide)) >> 16n;
  });

/** ln 2 = 2 artanh(1/3) */
export const ln2 = (bits: number): bigint =>
  cached('ln2', bits, () => (2n * oddPowers((1n << BigInt(bits + 16)) / 3n, bits + 16, false)) >> 16n);

/** Moves a value that series have rounded to an exact one a little towards 0, where the true one is. */
const below = (value: bigint): bigint => (value > 0n ? value - 1n : value + 1n);

/** sin x for 0 < |x| < 1. */
export function sine(x: bigint, bits: number): bigint {
  const n = BigInt(bits);
  const square = (x * x) >> n;
  let term = x;
  let sum = x;
  for (let k = 2n; term !== 0n && term !== -1n; k += 2n) {
    term = -((term * square) >> n) / (k * (k + 1n));
    sum += term;
  }
  return below(sum);
}

/** cos x for 0 < |x| < 1. */
export function cosine(x: bigint, bits: number): bigint {
  const n = BigInt(bits);
  const square = (x * x) >> n;
  let term = 1n << n;
  let sum = term;
  for (let k = 1n; term !== 0n && term !== -1n; k += 2n) {
    term = -((term * square) >> n) / (k * (k + 1n));
    sum += term;
  }
  return below(sum);
}

/** atan x for 0 < x <= 1. */
export function arcTangent(x: bigint, bits: number): bigint {
  const n = BigInt(bits);
  const one = 1n << n;
  let z = x;
  let doublings = 0n;
  // atan x = 2 atan(x / (1 + √(1 + x²))), until the series is fast.
  while (z > one >> 3n) {
    z = (z << n) / (one + integerRoot((one << n) + z * z));
    doublings++;
  }
  return below(oddPowers(z, bits, true) << doublings);
}

/** e^x − 1 for |x| < 1. */
export function exponentialMinus1(x: bigint, bits: number): bigint {
  const n = BigInt(bits);
  let term = x;
  let sum = x;
  for (let k = 2n; term !== 0n && term !== -1n; k++) {
    term = ((term * x) >> n) / k;
    sum += term;
  }
  return sum;
}

/** log2((1 + z) / (1 − z)) for |z| < 1/2, z given as a quotient of integers. */
export function log2OfRatio(numerator: bigint, denominator: bigint, bits: number): bigint {
  const n = BigInt(bits);
  const z = (numerator << n) / denominator;
  return ((2n * oddPowers(z, bits, false)) << n) / ln2(bits);
}
