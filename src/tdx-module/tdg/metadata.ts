/** Reading and writing of metadata by the TD: what TDG.VM.RD, TDG.VM.WR, TDG.VP.RD and TDG.VP.WR have in common. */
import { asksForFirst, NO_FIELD_ID } from '../metadata/metadata-table.ts';
import { elementOf, followingId, type MetadataContext, readElement, writeElement } from '../metadata/read-element.ts';
import type { GuestCall } from '../objects/call.ts';
import { operandInvalid } from '../objects/checks.ts';
import { OPERAND, STATUS, status } from '../status.ts';

/**
 * RCX 0, RDX identifier. Out: R8 the value; RDX the next identifier, where the leaf tells it.
 * @param tellsNext whether it does
 */
export function readMetadata({ rcx, rdx, out }: GuestCall, context: MetadataContext, tellsNext: boolean): bigint {
  if (tellsNext) out.rdx = NO_FIELD_ID;
  out.r8 = 0n;
  if (rcx !== 0n) return operandInvalid(OPERAND.RCX);
  if (tellsNext && asksForFirst(rdx)) {
    out.rdx = context.next(undefined, 'guest');
    return status(STATUS.METADATA_FIRST_FIELD_ID_IN_CONTEXT);
  }
  const element = elementOf(context, rdx);
  if (typeof element === 'bigint') return element;
  const read = readElement(context, element, 'guest');
  if ('error' in read) return read.error;
  // all checks passed
  out.r8 = read.value;
  if (tellsNext) out.rdx = followingId(context, element, rdx, 'guest');
  return status(STATUS.SUCCESS);
}

/** RCX 0, RDX identifier, R8 value, R9 which bits. Out: R8 the value before. */
export function writeMetadata({ rcx, rdx, r8, r9, out }: GuestCall, context: MetadataContext): bigint {
  out.r8 = 0n;
  if (rcx !== 0n) return operandInvalid(OPERAND.RCX);
  const element = elementOf(context, rdx);
  if (typeof element === 'bigint') return element;
  const written = writeElement(context, element, r8, r9, 'guest');
  if ('error' in written) return written.error;
  out.r8 = written.value;
  return status(STATUS.SUCCESS);
}
