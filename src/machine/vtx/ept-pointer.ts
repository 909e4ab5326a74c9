/** The EPT pointer's format. @sdm "Extended-Page-Table Pointer (EPTP)" */
import type { VtxState } from './vtx-state.ts';

const UNCACHEABLE = 0n;
const WRITE_BACK = 6n;
/** Bits 5:3: page-walk length minus 1. */
const FOUR_LEVELS = 3n << 3n;
const FIVE_LEVELS = 4n << 3n;
/** Bits 11:7: supervisor shadow-stack control, which is not offered, and reserved bits. */
const RESERVED = 0xf80n;

/** Bit 6: accessed and dirty flags for EPT. */
export const EPTP_ACCESSED_DIRTY = 0x40;

/** Whether VM entry and INVEPT take this EPTP: memory type, walk length, reserved bits. */
export function eptPointerValid({ addressShift, tdGuest }: VtxState, eptp: bigint): boolean {
  const type = eptp & 7n;
  if (type !== UNCACHEABLE && type !== WRITE_BACK) return false;
  const levels = eptp & 0x38n;
  // Five levels are offered to TDs only: a GPA width of 52 bits needs them.
  if (levels !== FOUR_LEVELS && !(tdGuest && levels === FIVE_LEVELS)) return false;
  return (eptp & RESERVED) === 0n && eptp >> BigInt(32 + addressShift) === 0n;
}
