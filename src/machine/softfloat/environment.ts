/** What an operation depends on beside its operands, and what it reports: control and status of the software FPU. */

/** Exception flags, at their places in MXCSR and the x87 status word; masks are 7 bits further up in MXCSR. */
export const IE = 1;
export const DE = 2;
export const ZE = 4;
export const OE = 8;
export const UE = 16;
export const PE = 32;
/** Found before the result is computed. */
export const PRE_COMPUTATION: number = IE | DE | ZE;
export const ALL_EXCEPTIONS = 63;

/** Rounding control. */
export const NEAREST = 0;
export const DOWN = 1;
export const UP = 2;
export const TRUNCATE = 3;
export type Rounding = 0 | 1 | 2 | 3;

export class Environment {
  readonly rounding: Rounding;
  /** Masked exceptions. */
  readonly masks: number;
  /** x87 rules: NaN selection, unmasked overflow and underflow give a scaled result. */
  readonly x87: boolean;
  readonly flushToZero: boolean;
  readonly denormalsAreZero: boolean;
  /** Significand bits by precision control, or 0 for the format's own. */
  readonly precision: 0 | 24 | 53 | 64;
  /** Exceptions so far. */
  flags = 0;
  /** The last rounding made the magnitude larger (C1). */
  roundedUp = false;

  constructor(
    rounding: Rounding,
    masks: number,
    x87 = false,
    precision: 0 | 24 | 53 | 64 = 0,
    flushToZero = false,
    denormalsAreZero = false,
  ) {
    this.rounding = rounding;
    this.masks = masks;
    this.x87 = x87;
    this.precision = precision;
    this.flushToZero = flushToZero;
    this.denormalsAreZero = denormalsAreZero;
  }

  raise(flags: number): void {
    this.flags |= flags;
  }
  masked(flag: number): boolean {
    return (this.masks & flag) !== 0;
  }
  /** Exceptions that must trap. */
  get unmasked(): number {
    return this.flags & ~this.masks;
  }
}
