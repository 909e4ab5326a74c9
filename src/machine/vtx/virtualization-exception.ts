/**
 * EPT violations as exceptions of the guest: #VE, vector 20.
 *
 *   information area: 0 exit reason | 4 all ones until software is ready for the next | 8 exit qualification
 *                     16 guest-linear address | 24 guest-physical address | 32 EPTP index (16 bits)
 *
 * @sdm "EPT Violations and Virtualization Exceptions"
 */
import type { Gpa } from '../../util/address.ts';
import { VE } from '../outcome.ts';
import { SECONDARY } from './controls.ts';
import { F } from './field-slots.ts';
import { REASON } from './reasons.ts';
import type { VtxState } from './vtx-state.ts';

const BUSY = 0xffff_ffff;

/**
 * Raises #VE for an EPT violation whose entry allows it, and fills the information area. False where the violation exits
 * instead: the control is off, in real mode, while an event is delivered, and while the area is in use.
 */
export function virtualizationException(v: VtxState, gpa: Gpa, linear: bigint, qualification: bigint): boolean {
  const { p, memory } = v;
  if ((v.secondary & SECONDARY.EPT_VIOLATION_VE) === 0 || !p.protectedMode || p.delivering !== null) return false;
  const area = v.current!.address(F.VE_INFORMATION_ADDRESS);
  if (memory.read32(area + 4) !== 0) return false;
  // all checks passed
  memory.write32(area, REASON.EPT_VIOLATION);
  memory.write32(area + 4, BUSY);
  memory.write64(area + 8, qualification);
  memory.write64(area + 16, linear);
  memory.write64(area + 24, BigInt(gpa));
  memory.write16(area + 32, v.current!.low(F.EPTP_INDEX));
  p.raise(VE);
  return true;
}
