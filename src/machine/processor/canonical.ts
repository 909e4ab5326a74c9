/** Canonical addresses. */
import { CR4_LA57, type Processor } from '../processor.ts';

/**
 * Whether bits 63 down to the highest translated bit are all the same.
 *
 * @sdm "Canonical Addressing"
 */
export function isCanonical(p: Processor, address: bigint): boolean {
  return BigInt.asUintN(64, BigInt.asIntN(p.cr4 & CR4_LA57 ? 57 : 48, address)) === address;
}
