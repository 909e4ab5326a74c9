/**
 * Floating-point values in one form for all formats, and the formats of x86: half of the software FPU's vocabulary.
 *
 * A finite value is mantissa × 2^(exponent − 63), the mantissa having 64 bits with the top one set, so that every
 * format's numbers, denormals too, look like a normal 80-bit number without limits on the exponent. A NaN keeps its
 * significand left-aligned in the same way.
 *
 * @sdm "Floating-Point Data Types", "Unsupported Double Extended-Precision Floating-Point Encodings and Pseudo-Denormals"
 */

export const ZERO = 0;
export const NORMAL = 1;
/** Also pseudo-denormals of the 80-bit format. */
export const DENORMAL = 2;
export const INFINITE = 3;
export const QNAN = 4;
export const SNAN = 5;
/** Unnormals, pseudo-infinities and pseudo-NaNs of the 80-bit format: invalid operands. */
export const UNSUPPORTED = 6;
export type Kind = 0 | 1 | 2 | 3 | 4 | 5 | 6;
export type Sign = 0 | 1;

export interface Float {
  readonly kind: Kind;
  readonly sign: Sign;
  /** Of the top mantissa bit; 0 unless finite and not zero. */
  readonly exponent: number;
  /** 64 bits, top bit set, if finite and not zero or a NaN; else 0. */
  readonly mantissa: bigint;
}

export interface Format {
  readonly bits: 16 | 32 | 64 | 80;
  /** Bits of the significand, with the integer bit. */
  readonly precision: 11 | 24 | 53 | 64;
  /** Exponents of the smallest normal and the largest finite numbers. */
  readonly minExponent: number;
  readonly maxExponent: number;
}

export const F16: Format = { bits: 16, precision: 11, minExponent: -14, maxExponent: 15 };
export const F32: Format = { bits: 32, precision: 24, minExponent: -126, maxExponent: 127 };
export const F64: Format = { bits: 64, precision: 53, minExponent: -1022, maxExponent: 1023 };
export const F80: Format = { bits: 80, precision: 64, minExponent: -16382, maxExponent: 16383 };

const TOP = 1n << 63n;
/** The bit of a left-aligned NaN that tells quiet from signalling. */
const QUIET = 1n << 62n;
const LOW64 = (1n << 64n) - 1n;

/** "QNaN floating-point indefinite": what masked invalid operations give. */
export const DEFAULT_NAN: Float = { kind: QNAN, sign: 1, exponent: 0, mantissa: TOP | QUIET };

export const zero = (sign: Sign): Float => ({ kind: ZERO, sign, exponent: 0, mantissa: 0n });
export const infinity = (sign: Sign): Float => ({ kind: INFINITE, sign, exponent: 0, mantissa: 0n });
export const normal = (sign: Sign, exponent: number, mantissa: bigint): Float => ({
  kind: NORMAL,
  sign,
  exponent,
  mantissa,
});

export const isNan = (f: Float): boolean => f.kind === QNAN || f.kind === SNAN;
export const isFiniteValue = (f: Float): boolean => f.kind <= DENORMAL;
export const withSign = (f: Float, sign: Sign): Float => (f.sign === sign ? f : { ...f, sign });
export const negated = (f: Float): Float => ({ ...f, sign: f.sign === 0 ? 1 : 0 });
/** A NaN with the quiet bit set. */
export const quieted = (f: Float): Float =>
  f.kind === SNAN ? { kind: QNAN, sign: f.sign, exponent: 0, mantissa: f.mantissa | QUIET } : f;

/** Number of significant bits. */
export function bitLength(value: bigint): number {
  if (value <= LOW64) {
    const high = Number(value >> 32n);
    return high !== 0 ? 64 - Math.clz32(high) : 32 - Math.clz32(Number(value & 0xffff_ffffn));
  }
  let length = 64;
  let rest = value >> 64n;
  for (; rest > LOW64; rest >>= 64n) length += 64;
  return length + bitLength(rest);
}

/** Reads an encoding of up to 64 bits or, as 80 bits, sign, exponent and explicit significand. */
export function unpack(format: Format, encoding: bigint): Float {
  const { bits } = format;
  if (bits === 80) return unpack80(encoding);
  const fractionBits = BigInt(format.precision - 1);
  const sign = Number((encoding >> BigInt(bits - 1)) & 1n) as Sign;
  const fraction = encoding & ((1n << fractionBits) - 1n);
  const biased = Number((encoding >> fractionBits) & BigInt(2 * format.maxExponent + 1));
  const align = 63n - fractionBits;
  if (biased === 2 * format.maxExponent + 1) {
    if (fraction === 0n) return infinity(sign);
    const mantissa = TOP | (fraction << align);
    return { kind: mantissa & QUIET ? QNAN : SNAN, sign, exponent: 0, mantissa };
  }
  if (biased !== 0) return normal(sign, biased - format.maxExponent, TOP | (fraction << align));
  if (fraction === 0n) return zero(sign);
  return denormal(sign, format, fraction << align);
}

function unpack80(encoding: bigint): Float {
  const sign = Number((encoding >> 79n) & 1n) as Sign;
  const biased = Number((encoding >> 64n) & 0x7fffn);
  const mantissa = encoding & LOW64;
  const integer = mantissa >= TOP;
  if (biased === 0) {
    if (mantissa === 0n) return zero(sign);
    return denormal(sign, F80, mantissa);
  }
  if (!integer) return { kind: UNSUPPORTED, sign, exponent: 0, mantissa };
  if (biased !== 0x7fff) return normal(sign, biased - 16383, mantissa);
  if (mantissa === TOP) return infinity(sign);
  return { kind: mantissa & QUIET ? QNAN : SNAN, sign, exponent: 0, mantissa };
}

function denormal(sign: Sign, format: Format, mantissa: bigint): Float {
  const shift = 64 - bitLength(mantissa);
  return { kind: DENORMAL, sign, exponent: format.minExponent - shift, mantissa: mantissa << BigInt(shift) };
}

/** The encoding of a value that the format can hold. */
export function pack(format: Format, f: Float): bigint {
  const { bits, precision, minExponent, maxExponent } = format;
  const sign = f.sign === 1 ? 1n << BigInt(bits - 1) : 0n;
  const fractionBits = BigInt(precision - 1);
  const explicit = bits === 80;
  const assemble = (biased: number, significand: bigint): bigint =>
    sign |
    (BigInt(biased) << (explicit ? 64n : fractionBits)) |
    (explicit ? significand : significand & ((1n << fractionBits) - 1n));
  switch (f.kind) {
    case ZERO:
      return sign;
    case INFINITE:
      return assemble(2 * maxExponent + 1, explicit ? TOP : 0n);
    case QNAN:
    case SNAN:
      return assemble(2 * maxExponent + 1, f.mantissa >> (63n - fractionBits));
    case UNSUPPORTED:
      throw new RangeError('an unsupported encoding has no value');
    default: {
      const below = minExponent - f.exponent;
      const significand = f.mantissa >> (63n - fractionBits + (below > 0 ? BigInt(below) : 0n));
      // A pseudo-denormal is read as a number of the smallest normal exponent.
      return assemble(below > 0 ? 0 : f.exponent + maxExponent, significand);
    }
  }
}
