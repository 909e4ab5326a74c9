/**
 * RCPPS and RSQRTPS as Intel's processors have them: one table entry for the top 11 (10) bits of the significand, which is
 * the function at the middle of its interval, rounded to 12 bits. MXCSR plays no part; denormals are zeros, on both sides.
 *
 * @sdm "RCPPS", "RSQRTPS"
 */
import { DONE } from '../outcome.ts';
import { implementBoth, lastSource, readLanes, writeLanes } from './lanes.ts';

const INFINITY = 0x7f80_0000;
const QUIET = 0x40_0000;
const DEFAULT_NAN = 0xffc0_0000;
const SIGN = 0x8000_0000;

/** The encoding of fraction / 2^13 × 2^exponent for 2^12 <= fraction <= 2^13; tiny values are zero. */
function encode(fraction: number, exponent: number): number {
  const carry = fraction === 8192;
  const biased = exponent + 126 + (carry ? 1 : 0);
  return biased <= 0 ? 0 : (biased << 23) | (carry ? 0 : (fraction - 4096) << 11);
}

/** 1/x */
export function reciprocal(x: number): number {
  const sign = (x & SIGN) >>> 0;
  const magnitude = x & ~SIGN;
  if (magnitude > INFINITY) return (x | QUIET) >>> 0;
  if (magnitude === INFINITY) return sign;
  const biased = magnitude >>> 23;
  if (biased === 0) return (sign | INFINITY) >>> 0;
  const middle = 1 + (((magnitude >>> 12) & 0x7ff) + 0.5) / 2048;
  return (sign | encode(Math.floor(8192 / middle + 0.5), 127 - biased)) >>> 0;
}

/** 1/√x */
export function reciprocalRoot(x: number): number {
  const magnitude = x & ~SIGN;
  if (magnitude > INFINITY) return (x | QUIET) >>> 0;
  const biased = magnitude >>> 23;
  if (biased === 0) return ((x & SIGN) | INFINITY) >>> 0;
  if (x & SIGN) return DEFAULT_NAN;
  if (magnitude === INFINITY) return 0;
  // An even exponent; an odd one leaves a factor of 2 with the significand.
  const odd = (biased - 127) & 1;
  const middle = (1 + (((magnitude >>> 13) & 0x3ff) + 0.5) / 1024) * (1 + odd);
  return encode(Math.floor(8192 * (1 / Math.sqrt(middle)) + 0.5), -(biased - 127 - odd) / 2);
}

for (const [mnemonic, approximate] of [
  ['RCP', reciprocal],
  ['RSQRT', reciprocalRoot],
] as const) {
  for (const suffix of ['PS', 'SS'])
    implementBoth(mnemonic + suffix, (p, insn) => {
      const source = readLanes(p, insn, lastSource(insn), 32);
      if (source === undefined) return p.outcome;
      const result = source.map((value) => BigInt(approximate(Number(value))));
      writeLanes(p, insn, 0, 32, result);
      return DONE;
    });
}
