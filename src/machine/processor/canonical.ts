/** Canonical addresses: bits 63 down to the highest bit of a linear address are all the same. @sdm "Canonical Addressing" */

import { CR4_LA57, type Processor } from '../processor.ts';
import { PROFILES } from '../profiles.ts';

/** Whether an address is canonical where linear addresses have `bits` bits. */
export const isCanonicalIn = (bits: number, address: bigint): boolean =>
  BigInt.asUintN(64, BigInt.asIntN(bits, address)) === address;

/** Whether memory may be accessed, or code executed, at an address: 57 bits with 5-level paging, else 48. */
export const isCanonical = (p: Processor, address: bigint): boolean =>
  isCanonicalIn(p.cr4 & CR4_LA57 ? 57 : 48, address);

/**
 * Whether a register that holds a linear address may have this value: MSRs, segment bases, bases of descriptor tables, and
 * what INVPCID is given. As wide as the processor's linear addresses ever get, whatever CR4.LA57 says.
 */
export const isCanonicalBase = (p: Processor, address: bigint): boolean =>
  isCanonicalIn(PROFILES[p.machine.options.profile].linearAddressBits, address);
