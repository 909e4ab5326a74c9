/** SS as RET and IRET to an outer level (and every IRET in 64-bit mode) load it. @sdm RET, IRET */
import { GP } from '../../outcome.ts';
import type { Processor, Segment } from '../../processor.ts';
import { isNull, nullSegment, rplOf } from '../segments/descriptor.ts';
import { stackSegment } from '../segments/load.ts';

/**
 * @param cpl the privilege level returned to
 * @param to64 whether the code returned to is 64-bit code
 * @returns undefined with p.outcome set
 */
export function returnStack(p: Processor, selector: number, cpl: number, to64: boolean): Segment | undefined {
  if (!isNull(selector)) return stackSegment(p, selector, cpl, GP);
  if (to64 && cpl !== 3 && rplOf(selector) === cpl) return nullSegment(selector, cpl);
  p.raise(GP, 0);
  return undefined;
}
