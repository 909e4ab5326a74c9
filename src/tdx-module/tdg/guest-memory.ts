/**
 * A TD's memory as its TDCALLs name it: by guest-physical address, private or shared.
 *
 * An operand that has no translation is to the TD what an access of its own is: it exits with an EPT violation or
 * misconfiguration, or gets a #VE; it executes TDCALL again afterwards.
 *
 * @tdx "ABI Reference: Interface Functions", Guest-Side, memory operands
 */

import { keyIdOf, stripKeyId } from '../../machine/seam/key-id.ts';
import { F } from '../../machine/vtx/field-slots.ts';
import { REASON } from '../../machine/vtx/reasons.ts';
import type { Hpa } from '../../util/address.ts';
import { isSharedPa } from '../objects/checks.ts';
import { entryIndex, isPrivateGpaOperand, levelSize } from '../objects/sept-gpa.ts';
import { EXTENDED_QUALIFICATION, guestAccess } from '../objects/sept-guest.ts';
import { eptViolationExit, notAccessibleExit } from '../td-exit/ept-exit.ts';
import type { Guest } from '../td-exit/guest.ts';
import { injectVe } from '../td-exit/inject-ve.ts';
import { asyncExit, type TdExit } from '../td-exit/td-exit.ts';
import type { TdCall } from './td-call.ts';

export const READ = 1;
export const WRITE = 2;

/** Where an operand lies. */
export interface Place {
  readonly hpa: Hpa;
  readonly keyId: number;
}

/** The exit of a TD whose operand is not there, or the #VE that it gets. */
type Failure = { readonly exit: TdExit } | { readonly ve: bigint };

/** Qualification of an EPT violation. @param rights what the tables give, as bits 2:0 of their entries have it */
const qualify = (need: number, rights: number): bigint => BigInt((need & ~rights) | (rights << 3));

const violation = (gpa: bigint, need: number, rights: number, extended: bigint): Failure => ({
  exit: eptViolationExit(gpa, qualify(need, rights), extended),
});

function privatePlace({ tdcs }: Guest, gpa: bigint, need: number): Place | Failure {
  const access = guestAccess(tdcs, Number(gpa), need);
  switch (access.kind) {
    case 'mapped':
      return { hpa: access.hpa, keyId: tdcs.hkid };
    case 've':
      return { ve: qualify(need, access.rights) };
    case 'exit':
      return violation(gpa, need, access.rights, access.extended);
    default:
      return { exit: notAccessibleExit(REASON.MACHINE_CHECK) };
  }
}

const PRESENT = 7n;
const MAPS_PAGE = 0x80n;
const SUPPRESS_VE = 1n << 63n;
const ADDRESS = 0xf_ffff_ffff_f000n;
/** Highest level that maps pages: 1 GiB. */
const MAX_LEAF_LEVEL = 2;

/** @sdm "EPT Misconfigurations" */
function misconfigured(entry: bigint, level: number, leaf: boolean): boolean {
  if ((entry & 3n) === 2n) return true;
  if ((entry & PRESENT) === 0n) return false;
  if (!leaf) return ((entry >> 3n) & 0x1fn) !== 0n && (level > MAX_LEAF_LEVEL || ((entry >> 3n) & 0xfn) !== 0n);
  const memoryType = Number((entry >> 3n) & 7n);
  if (memoryType === 2 || memoryType === 3 || memoryType === 7) return true;
  return (entry & ADDRESS & BigInt(levelSize(level) - 1)) !== 0n;
}

const misconfiguration = (gpa: bigint): Failure => ({
  exit: asyncExit(REASON.EPT_MISCONFIGURATION, { gpa: gpa & ~0xfffn }),
});

/** Walks the tables that the host gave for shared memory. */
function sharedPlace({ module, tdcs, vmcs }: Guest, gpa: bigint, need: number): Place | Failure {
  const { keyed } = module.platform;
  const address = Number(gpa);
  let table = vmcs.address(F.SHARED_EPT_POINTER);
  let rights = 7;
  for (let level = tdcs.rootLevel; ; level--) {
    const at = stripKeyId(table) + entryIndex(address, level) * 8;
    const entry = keyed.read64(at, keyIdOf(table));
    const leaf = level === 0 || (level <= MAX_LEAF_LEVEL && (entry & MAPS_PAGE) !== 0n);
    const own = Number(entry & PRESENT);
    rights &= own;
    const target = Number(entry & ADDRESS);
    const shared = isSharedPa(BigInt(target));
    if (misconfigured(entry, level, leaf) || (own !== 0 && !leaf && !shared)) return misconfiguration(gpa);
    if (own === 0 || (own & need) !== need) {
      const convertible = (own === 0 || leaf) && (entry & SUPPRESS_VE) === 0n;
      return convertible ? { ve: qualify(need, rights) } : violation(gpa, need, rights, EXTENDED_QUALIFICATION.NONE);
    }
    if (leaf) {
      if (!shared) return misconfiguration(gpa);
      return { hpa: stripKeyId(target) + (address % levelSize(level)), keyId: keyIdOf(target) };
    }
    table = target;
  }
}

/** What a call that cannot go on comes to: an exit, or a #VE at the TDCALL. */
function fail(call: TdCall, gpa: bigint, failure: Failure): null {
  if ('exit' in failure) call.exitTd(failure.exit);
  else injectVe(call.guest, { reason: REASON.EPT_VIOLATION, qualification: failure.ve, gpa });
  return null;
}

/** Translates a private GPA, which does not cross a page. Null if it is not there: the leaf ends with null. */
export function placeOfPrivate(call: TdCall, gpa: bigint, need: number): Place | null {
  const place = privatePlace(call.guest, gpa, need);
  return 'hpa' in place ? place : fail(call, gpa, place);
}

/** The same for a GPA of either kind. */
export function placeOf(call: TdCall, gpa: bigint, need: number): Place | null {
  if (isPrivateGpaOperand(gpa, call.tdcs.gpaw === 52)) return placeOfPrivate(call, gpa, need);
  const place = sharedPlace(call.guest, gpa, need);
  return 'hpa' in place ? place : fail(call, gpa, place);
}

/** Whether an operand is a GPA of the TD's width, and aligned. */
export const isGpa = ({ tdcs }: Guest, gpa: bigint, alignment: bigint): boolean =>
  gpa % alignment === 0n && gpa >> BigInt(tdcs.gpaw) === 0n;

/** Whether an operand is a private GPA, and aligned. */
export const isAlignedPrivateGpa = ({ tdcs }: Guest, gpa: bigint, alignment: bigint): boolean =>
  gpa % alignment === 0n && isPrivateGpaOperand(gpa, tdcs.gpaw === 52);
