/**
 * The guest's side of the Secure EPT: what becomes of an access to a private GPA, and the acceptance of pending pages.
 *
 * @tdx "Secure EPT", Guest Access to Private Memory; "TDG.MEM.PAGE.ACCEPT"
 */
import type { Gpa, Hpa } from '../../util/address.ts';
import { PAGE } from '../platform.ts';
import { OPERAND, STATUS, status } from '../status.ts';
import type { Call } from './call.ts';
import { leafHpa, type SeptPosition, septOf } from './sept.ts';
import { accepted, acceptProgress, entryState, withAcceptProgress } from './sept-entry.ts';
import { levelPages } from './sept-gpa.ts';
import { lockEntryForGuest } from './sept-lock.ts';
import { leafAllowed, SEPT } from './sept-state.ts';
import { TD_CTLS, type Tdcs } from './tdcs.ts';

/** Type in bits 3:0 of the extended exit qualification (RDX of an asynchronous TD exit). */
export const EXTENDED_QUALIFICATION = {
  NONE: 0n,
  ACCEPT: 1n,
  GPA_DETAILS: 2n,
  MSR_LOAD: 3n,
  XSTATE_LOAD: 4n,
  ATTR_WR: 5n,
  PENDING_EPT_VIOLATION: 6n,
} as const;

/**
 * What becomes of a guest access to a private GPA.
 *
 * `rights` are those that the entries on the way give together, as bits 5:3 of an exit qualification have them: 1 read,
 * 2 write, 4 execute.
 */
export type GuestAccess =
  /** The translation allows it. */
  | { readonly kind: 'mapped'; readonly hpa: Hpa; readonly level: number; readonly rights: number }
  /** The guest gets a #VE for an EPT violation: the page waits for acceptance. */
  | { readonly kind: 've'; readonly rights: number }
  /** TD exit with an EPT violation and this extended exit qualification. */
  | { readonly kind: 'exit'; readonly extended: bigint; readonly rights: number }
  /** A table of the Secure EPT was overwritten from outside. */
  | { readonly kind: 'machine-check' };

/**
 * Decides it. Whether a pending page gives a #VE is TD_CTLS.PENDING_VE_DISABLE, which begins as
 * ATTRIBUTES.SEPT_VE_DISABLE.
 * @param need 1 read, 2 write, 4 execute
 */
export function guestAccess(tdcs: Tdcs, gpa: Gpa, need: number): GuestAccess {
  const position = septOf(tdcs).walk(gpa, 0);
  if (position.corrupt) return { kind: 'machine-check' };
  const state = entryState(position.entry);
  const rights = state.accessible ? 7 : state.readable ? 5 : 0;
  if ((rights & need) === need && state.leaf) {
    return { kind: 'mapped', hpa: leafHpa(position, gpa), level: position.level, rights };
  }
  if (!state.acceptable) return { kind: 'exit', extended: EXTENDED_QUALIFICATION.NONE, rights };
  if ((tdcs.get('TD_CTLS') & TD_CTLS.PENDING_VE_DISABLE) !== 0n)
    return { kind: 'exit', extended: EXTENDED_QUALIFICATION.PENDING_EPT_VIOLATION, rights };
  return { kind: 've', rights };
}

/** How TDG.MEM.PAGE.ACCEPT ends. */
export type AcceptResult =
  | { readonly kind: 'status'; readonly status: bigint }
  /** An interrupt waits: the guest executes TDCALL again after it, and the rest of the page is initialised. */
  | { readonly kind: 'interrupted' }
  /** TD exit with an EPT violation; the guest executes TDCALL again when it comes back. */
  | { readonly kind: 'exit'; readonly extended: bigint }
  /** A table of the Secure EPT was overwritten from outside. */
  | { readonly kind: 'machine-check' };

/** The extended exit qualification of a failed acceptance: type, and in bits 63:32 what was asked and what was found. */
function acceptQualification(requested: number, { entry, level }: SeptPosition): bigint {
  const { publicState, leaf } = entryState(entry);
  const info = requested | (level << 3) | (publicState << 6) | (Number(leaf) << 14);
  return EXTENDED_QUALIFICATION.ACCEPT | (BigInt(info) << 32n);
}

/**
 * Accepts the page or 2 MiB range at `gpa`: its memory becomes the TD's with zeros, the entry MAPPED.
 * @param level 0 or 1; operand checks are the caller's
 */
export function acceptPage(call: Call, tdcs: Tdcs, gpa: Gpa, level: number): AcceptResult {
  const sept = septOf(tdcs);
  const position = sept.walk(gpa, level);
  if (position.corrupt) return { kind: 'machine-check' };
  const state = entryState(position.entry);
  if (position.level !== level) {
    return state.readable
      ? { kind: 'status', status: status(STATUS.PAGE_ALREADY_ACCEPTED, position.level) }
      : { kind: 'exit', extended: acceptQualification(level, position) };
  }
  const locked = lockEntryForGuest(call, gpa, position);
  if (locked !== STATUS.SUCCESS) return { kind: 'status', status: status(locked, OPERAND.RCX) };
  if (!state.leaf && state !== SEPT.FREE) return { kind: 'status', status: status(STATUS.PAGE_SIZE_MISMATCH, level) };
  if (state.readable) return { kind: 'status', status: status(STATUS.PAGE_ALREADY_ACCEPTED, level) };
  if (!leafAllowed('TDG.MEM.PAGE.ACCEPT', state)) {
    return { kind: 'exit', extended: acceptQualification(level, position) };
  }

  // all checks passed
  const first = leafHpa(position, gpa);
  const pages = levelPages(level);
  for (let page = level === 0 ? 0 : acceptProgress(position.entry); page < pages; page++) {
    sept.memory.take(first + page * PAGE, sept.hkid);
    if (page + 1 < pages && call.interruptPending) {
      sept.write(gpa, position, withAcceptProgress(position.entry, page + 1));
      return { kind: 'interrupted' };
    }
  }
  const whole = level === 0 ? position.entry : withAcceptProgress(position.entry, 0);
  sept.write(gpa, position, accepted(whole));
  return { kind: 'status', status: status(STATUS.SUCCESS) };
}
