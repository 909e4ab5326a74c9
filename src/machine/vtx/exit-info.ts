/** What a VM exit will report, collected before it is taken. */
import type { Event } from '../processor/events/event.ts';
import { INFO_ERROR_CODE, INFO_VALID } from './reasons.ts';

/** How RFLAGS.RF is saved: as it is, or as the exit's kind demands. */
export const RF_KEEP = 0;
export const RF_CLEAR = 1;
export const RF_SET = 2;

/** A VM exit on its way; fields as in the VMCS. Made once per processor and reused. */
export interface ExitInfo {
  /** Basic exit reason. */
  reason: number;
  qualification: bigint;
  guestLinear: bigint;
  /** Bytes; whole address. */
  guestPhysical: number;
  /** VM-exit interruption information; 0 if not valid. */
  interruptionInfo: number;
  interruptionErrorCode: number;
  /** IDT-vectoring information; 0 if not valid. */
  idtVectoringInfo: number;
  idtVectoringErrorCode: number;
  /** 0 if not valid. */
  instructionLength: number;
  instructionInfo: number;
  /** RF_KEEP, RF_CLEAR or RF_SET. */
  resumeFlag: number;
}

/** An exit while `event` is being delivered: IDT-vectoring information, and the length of INT n, INT3, INTO, INT1. */
export function duringDelivery(exit: ExitInfo, { vector, type, errorCode, instructionLength }: Event): void {
  const code = errorCode >= 0 ? INFO_ERROR_CODE : 0;
  exit.idtVectoringInfo = (INFO_VALID | (type << 8) | vector | code) >>> 0;
  exit.idtVectoringErrorCode = errorCode >= 0 ? errorCode : 0;
  exit.instructionLength = instructionLength;
}
