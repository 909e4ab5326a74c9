/**
 * EPT violations and misconfigurations of a TD.
 *
 * @tdx "Secure EPT", EPT Violations; "Memory Integrity Protection and Machine Check Handling"
 */
import { PF } from '../../machine/outcome.ts';
import { F } from '../../machine/vtx/field-slots.ts';
import { REASON } from '../../machine/vtx/reasons.ts';
import type { Gpa } from '../../util/address.ts';
import { isPrivateGpa, isSharedGpa } from '../objects/sept-gpa.ts';
import { guestAccess } from '../objects/sept-guest.ts';
import { STATUS } from '../status.ts';
import type { Guest } from './guest.ts';
import { injectVe } from './inject-ve.ts';
import { type AsyncExit, asyncExit, type Routed } from './td-exit.ts';

/** Bits of the qualification that say something about the linear address or about NMIs: the host does not see them. */
const HIDDEN = 0x1f80n;
const LINEAR_VALID = 0x80n;
const PAGE_OFFSET = 0xfffn;
/** Read, write, execute: what was tried. */
const ACCESS = 7;
/** Bits 5:3: what the translation would have allowed. */
const RIGHTS_SHIFT = 3;
/** @param rights 1 read, 2 write, 4 execute */
const withRights = (qualification: bigint, rights: number): bigint =>
  (qualification & ~0x38n) | (BigInt(rights) << BigInt(RIGHTS_SHIFT));

/** An EPT violation as the host sees it. */
export const eptViolationExit = (gpa: bigint, qualification: bigint, extended: bigint): AsyncExit =>
  asyncExit(REASON.EPT_VIOLATION, { qualification: qualification & ~HIDDEN, extended, gpa: gpa & ~PAGE_OFFSET });

/** Memory that the TD cannot trust any more: the TD is gone. */
export const notAccessibleExit = (reason: number, interruption = 0): AsyncExit =>
  asyncExit(reason, { code: STATUS.NON_RECOVERABLE_TD_NON_ACCESSIBLE, interruption });

const RESERVED = 8;
const PRESENT = 1;
const USER = 4;

/** A GPA wider than the TD's: its own page tables have a reserved bit set. */
function reservedBitFault(guest: Guest, qualification: number): void {
  const { vmcs, p } = guest;
  const write = qualification & 2;
  const fetch = qualification & 4 ? 0x10 : 0;
  p.cr2 = vmcs.get64(F.GUEST_LINEAR_ADDRESS);
  guest.injectFault(PF, PRESENT | RESERVED | write | fetch | (guest.cpl === 3 ? USER : 0));
}

/** Handles an EPT violation that did not become a #VE in the processor. */
export function eptViolation(guest: Guest): Routed {
  const { vmcs, qualification, tdcs } = guest;
  const gpa = vmcs.get64(F.GUEST_PHYSICAL_ADDRESS);
  const address: Gpa = Number(gpa);
  const wide = tdcs.gpaw === 52;
  const inWidth = isPrivateGpa(address, wide) || gpa >> BigInt(tdcs.gpaw) === 0n;
  if (!inWidth && (qualification & LINEAR_VALID) !== 0n) {
    reservedBitFault(guest, Number(qualification & 7n));
    return null;
  }
  if (!inWidth || isSharedGpa(address, wide)) return eptViolationExit(gpa, qualification, 0n);
  const access = guestAccess(tdcs, address, Number(qualification) & ACCESS);
  switch (access.kind) {
    case 'mapped':
      // Mapped by now: the TD tries again.
      return null;
    case 've':
      injectVe(guest, { linear: vmcs.get64(F.GUEST_LINEAR_ADDRESS), gpa });
      return null;
    case 'exit':
      guest.zeroStep.violation(gpa);
      return eptViolationExit(gpa, withRights(qualification, access.rights), access.extended);
    default:
      return notAccessibleExit(REASON.EPT_VIOLATION);
  }
}

/** An EPT misconfiguration: of the host's tables, it is the host's business; the module makes none. */
export function eptMisconfiguration({ vmcs, tdcs }: Guest): Routed {
  const gpa = vmcs.get64(F.GUEST_PHYSICAL_ADDRESS);
  if (isPrivateGpa(Number(gpa), tdcs.gpaw === 52)) return notAccessibleExit(REASON.EPT_MISCONFIGURATION);
  return asyncExit(REASON.EPT_MISCONFIGURATION, { gpa: gpa & ~PAGE_OFFSET });
}
