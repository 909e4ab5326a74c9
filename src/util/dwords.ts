/** A 64-bit value and its two 32-bit halves, which are unsigned numbers. */

/** Bits 31:0. */
export const low32 = (value: bigint): number => Number(value & 0xffff_ffffn);

/** Bits 63:32 of an unsigned value. */
export const high32 = (value: bigint): number => Number(value >> 32n);

/** The value with these halves; either may also be given as a signed number. */
export const fromDwords = (low: number, high: number): bigint => BigInt(low >>> 0) | (BigInt(high >>> 0) << 32n);
