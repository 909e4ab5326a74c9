/** The EPT pointer's format. @sdm "Extended-Page-Table Pointer (EPTP)" */
import type { VmxCapabilities } from './capabilities.ts';

const UNCACHEABLE = 0n;
const WRITE_BACK = 6n;
/** Bits 5:3: page-walk length minus 1. */
const FOUR_LEVELS = 3n << 3n;
/** Bits 11:7: supervisor shadow-stack control, which is not offered, and reserved bits. */
const RESERVED = 0xf80n;

/** Bit 6: accessed and dirty flags for EPT. */
export const EPTP_ACCESSED_DIRTY = 0x40;

/** Whether VM entry and INVEPT take this EPTP: memory type, walk length, reserved bits. */
export function eptPointerValid({ physicalAddressBits }: VmxCapabilities, eptp: bigint): boolean {
  const type = eptp & 7n;
  if (type !== UNCACHEABLE && type !== WRITE_BACK) return false;
  return (eptp & 0x38n) === FOUR_LEVELS && (eptp & RESERVED) === 0n && eptp >> BigInt(physicalAddressBits) === 0n;
}
