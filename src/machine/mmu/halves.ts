/** 64-bit addresses as two unsigned 32-bit halves, without BigInt arithmetic. */
import type { Gva } from '../../util/address.ts';

const whole: BigUint64Array = new BigUint64Array(1);
/** What splitLinear() left: [0] the low half, [1] the high half. */
export const halves: Uint32Array = new Uint32Array(whole.buffer);

/** Splits a linear address into `halves`. */
export function splitLinear(linear: Gva): void {
  whole[0] = linear;
}

export function joinLinear(low: number, high: number): Gva {
  halves[0] = low;
  halves[1] = high;
  return whole[0]!;
}
