/**
 * Mitigation of zero-stepping: a host that lets a TD fault on private memory again and again at one instruction has to map
 * everything that it faulted on before the TD goes on.
 *
 * @tdx "Secure EPT", EPT Violations, Zero-Step Attacks; "TDH.VP.ENTER"
 */
import { F } from '../../machine/vtx/field-slots.ts';
import { INFO_VALID, REASON } from '../../machine/vtx/reasons.ts';
import { TDVPS_FIELDS } from '../metadata/tdvps-fields.ts';
import { isPrivateGpa } from '../objects/sept-gpa.ts';
import { guestAccess } from '../objects/sept-guest.ts';
import type { Tdvps } from '../objects/tdvps.ts';

/** EPT violations at one instruction that are no attack: it may touch that many pages. */
const HARMLESS = 6;
const LIST_LENGTH = TDVPS_FIELDS.LAST_EPF_GPA_LIST.count;

/** One run of a virtual processor, as the mitigation sees it. */
export class ZeroStep {
  readonly #tdvps: Tdvps;
  readonly #entryRip: bigint;
  readonly #suspected: boolean;

  constructor(tdvps: Tdvps) {
    this.#tdvps = tdvps;
    this.#entryRip = tdvps.vmcs.get64(F.GUEST_RIP);
    this.#suspected = tdvps.num('POSSIBLY_EPF_STEPPING') !== 0;
  }

  /** After a VM exit: a TD that went on is not zero-stepped. */
  exited(): void {
    if (!this.#suspected || this.#tdvps.vmcs.get64(F.GUEST_RIP) === this.#entryRip) return;
    this.#tdvps.set('POSSIBLY_EPF_STEPPING', 0);
    this.#tdvps.set('LAST_EPF_GPA_LIST_IDX', 0);
  }

  /** The TD exits for an EPT violation on private memory. */
  violation(gpa: bigint): void {
    const tdvps = this.#tdvps;
    const times = tdvps.num('POSSIBLY_EPF_STEPPING');
    if (times < HARMLESS) {
      tdvps.set('POSSIBLY_EPF_STEPPING', times + 1);
      return;
    }
    const listed = faultsOf(tdvps);
    if (listed.length === LIST_LENGTH || listed.includes(gpa)) return;
    tdvps.set('LAST_EPF_GPA_LIST', gpa, listed.length);
    tdvps.set('LAST_EPF_GPA_LIST_IDX', listed.length + 1);
  }
}

function faultsOf(tdvps: Tdvps): bigint[] {
  const length = tdvps.num('LAST_EPF_GPA_LIST_IDX');
  return Array.from({ length }, (_, i) => tdvps.get('LAST_EPF_GPA_LIST', i));
}

/** Whether there are pages that must be mapped before the next entry. */
export const mustBeMapped = (tdvps: Tdvps): boolean => tdvps.num('LAST_EPF_GPA_LIST_IDX') !== 0;

const EVERYTHING = 7;

/** The first of those pages at which the TD would exit again; null if there is none. */
export function notMapped(tdvps: Tdvps): bigint | null {
  const exits = (gpa: bigint): boolean => {
    const { kind } = guestAccess(tdvps.tdcs, Number(gpa), EVERYTHING);
    return kind !== 'mapped' && kind !== 've';
  };
  return faultsOf(tdvps).find(exits) ?? null;
}

const NOTIFY = 1;
const BLOCKED_BY_NMI = 8;
/** In the qualification of an EPT violation: IRET had ended the blocking of NMIs. */
const NMI_UNBLOCKING = 0x1000n;

/** Whether the TD wants to be told of the attack, and its last VM exit was such a fault and leaves room for a #VE. */
export function wantsNotice(tdvps: Tdvps): boolean {
  const { tdcs, vmcs } = tdvps;
  if ((tdcs.num('NOTIFY_ENABLES') & NOTIFY) === 0 || tdvps.num('VALID') !== 0) return false;
  if (vmcs.low(F.EXIT_REASON) !== REASON.EPT_VIOLATION || vmcs.get64(F.EXIT_QUALIFICATION) & NMI_UNBLOCKING)
    return false;
  if (!isPrivateGpa(vmcs.address(F.GUEST_PHYSICAL_ADDRESS), tdcs.gpaw === 52)) return false;
  return !(vmcs.low(F.GUEST_INTERRUPTIBILITY) & BLOCKED_BY_NMI || vmcs.low(F.ENTRY_INTERRUPTION_INFO) & INFO_VALID);
}
