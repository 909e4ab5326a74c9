/** Exits due to exceptions, by the exception bitmap. @sdm "Exceptions" under "Other Causes of VM Exits" */
import { DB, DF, PF } from '../outcome.ts';
import type { Event } from '../processor/events/event.ts';
import { RF_KEEP } from './exit-info.ts';
import { EVENT, INFO_ERROR_CODE, INFO_NMI_UNBLOCKED, INFO_VALID, REASON } from './reasons.ts';
import type { Vtx } from './vtx.ts';

/** B0 to B3, BD, BS, RTM: bits of a debug exception's qualification, where DR6 has them. */
const DEBUG_BITS = 0x1600f;

/** What the exception bitmap says; for page faults its bit is compared with the error code's mask and match. */
export function exceptionExits(v: Vtx, vector: number, errorCode: number): boolean {
  const bit = ((v.exceptionBitmap >>> vector) & 1) !== 0;
  return vector === PF ? bit === ((errorCode & v.pageFaultMask) >>> 0 === v.pageFaultMatch) : bit;
}

function qualificationOf(v: Vtx, { vector, type }: Event): bigint {
  if (type !== EVENT.HARDWARE_EXCEPTION) return 0n;
  if (vector === PF) return v.p.fault.address;
  return vector === DB ? BigInt(v.p.fault.debug & DEBUG_BITS) : 0n;
}

/** Records the exit of an exception. */
export function eventExit(v: Vtx, event: Event): 2 {
  const { vector, type, errorCode, instructionLength } = event;
  // An event that turned into a double fault is not reported beside it.
  if (vector === DF) v.p.delivering = null;
  const outcome = v.record(REASON.EXCEPTION_OR_NMI, qualificationOf(v, event), RF_KEEP);
  const { exit } = v;
  let info = INFO_VALID | (type << 8) | vector;
  if (errorCode >= 0) {
    info |= INFO_ERROR_CODE;
    exit.interruptionErrorCode = errorCode;
  }
  if (v.nmiUnblockedByIret && v.p.delivering === null && vector !== DF) info |= INFO_NMI_UNBLOCKED;
  exit.interruptionInfo = info >>> 0;
  if (instructionLength > 0) exit.instructionLength = instructionLength;
  return outcome;
}
