/**
 * Branded address types. Mixing address spaces is a compile error.
 *
 * Physical addresses are at most 52 bits, so they travel as numbers. Linear addresses have 64 bits and are bigints
 * outside the engine.
 */

/** Host-physical address in bytes: what the machine's memory bus carries. */
export type Hpa = number & { readonly __space?: 'hpa' };
/** Guest-physical address in bytes. */
export type Gpa = number & { readonly __space?: 'gpa' };
/** Guest-linear ("virtual") address, 64 bits, zero-extended. */
export type Gva = bigint & { readonly __space?: 'gva' };
/** Guest frame number: Gpa / 4096. */
export type Gfn = number & { readonly __space?: 'gfn' };

/** Bytes of a page, and of a frame. */
export const PAGE_SIZE = 4096;

/** Whether a value is an address, or a length, in whole pages. */
export const isPageAligned = (value: number): boolean =>
  Number.isSafeInteger(value) && value >= 0 && value % PAGE_SIZE === 0;
