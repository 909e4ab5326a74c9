/**
 * A TD's memory as its TDCALLs name it: by guest-physical address, private or shared.
 *
 * An operand that has no translation makes the TD exit with an EPT violation; it executes TDCALL again afterwards.
 *
 * @tdx "ABI Reference: Interface Functions", Guest-Side, memory operands
 */

import { isPrivateKeyId, keyIdOf, stripKeyId } from '../../machine/seam/key-id.ts';
import { F } from '../../machine/vtx/field-slots.ts';
import { REASON } from '../../machine/vtx/reasons.ts';
import type { Hpa } from '../../util/address.ts';
import { entryIndex, isPrivateGpaOperand, levelSize } from '../objects/sept-gpa.ts';
import { EXTENDED_QUALIFICATION, guestAccess } from '../objects/sept-guest.ts';
import { eptViolationExit, notAccessibleExit } from '../td-exit/ept-exit.ts';
import type { Guest } from '../td-exit/guest.ts';
import type { TdExit } from '../td-exit/td-exit.ts';

export const READ = 1;
export const WRITE = 2;

/** Where an operand lies, or how the TD exits because it is nowhere. */
export type Place = { readonly hpa: Hpa; readonly keyId: number } | { readonly exit: TdExit };

const violation = (gpa: bigint, need: number): Place => ({
  exit: eptViolationExit(gpa, BigInt(need), EXTENDED_QUALIFICATION.GPA_DETAILS),
});

function privatePlace({ tdcs }: Guest, gpa: bigint, need: number): Place {
  const access = guestAccess(tdcs, Number(gpa), need);
  if (access.kind === 'mapped') return { hpa: access.hpa, keyId: tdcs.hkid };
  return access.kind === 'machine-check' ? { exit: notAccessibleExit(REASON.MACHINE_CHECK) } : violation(gpa, need);
}

const LARGE = 0x80n;
const RIGHTS = 7n;
const ADDRESS = 0xf_ffff_ffff_f000n;

/** Walks the tables that the host gave for shared memory. */
function sharedPlace({ module, tdcs, vmcs }: Guest, gpa: bigint, need: number): Place {
  const { keyed } = module.platform;
  const address = Number(gpa);
  let table = stripKeyId(vmcs.address(F.SHARED_EPT_POINTER));
  for (let level = tdcs.rootLevel; ; level--) {
    const entry = keyed.read64(table + entryIndex(address, level) * 8, 0);
    if ((entry & BigInt(need)) !== BigInt(need) || (entry & RIGHTS) === 0n) return violation(gpa, need);
    const target = Number(entry & ADDRESS);
    const leaf = level === 0 || (level <= 2 && (entry & LARGE) !== 0n);
    if (isPrivateKeyId(keyIdOf(target))) return violation(gpa, need);
    if (leaf) {
      const size = levelSize(level);
      return { hpa: stripKeyId(target) - (stripKeyId(target) % size) + (address % size), keyId: keyIdOf(target) };
    }
    table = stripKeyId(target);
  }
}

/** Translates a private GPA. The caller has checked that it is one and that the operand does not cross a page. */
export const placeOfPrivate: typeof privatePlace = privatePlace;

/** Translates a GPA of either kind. */
export function placeOf(guest: Guest, gpa: bigint, need: number): Place {
  return isPrivateGpaOperand(gpa, guest.tdcs.gpaw === 52)
    ? privatePlace(guest, gpa, need)
    : sharedPlace(guest, gpa, need);
}

/** Whether an operand is a GPA of the TD's width, and aligned. */
export const isGpa = ({ tdcs }: Guest, gpa: bigint, alignment: bigint): boolean =>
  gpa % alignment === 0n && gpa >> BigInt(tdcs.gpaw) === 0n;

/** Whether an operand is a private GPA, and aligned. */
export const isAlignedPrivateGpa = ({ tdcs }: Guest, gpa: bigint, alignment: bigint): boolean =>
  gpa % alignment === 0n && isPrivateGpaOperand(gpa, tdcs.gpaw === 52);
