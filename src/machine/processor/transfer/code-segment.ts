/**
 * Code segments as targets of far transfers.
 *
 * @sdm "Privilege Level Checking When Transferring Program Control Between Code Segments"
 */
import { GP, NP } from '../../outcome.ts';
import { dplOf, type Processor, type Segment } from '../../processor.ts';
import {
  type Descriptor,
  fetchDescriptor,
  indexOf,
  isCode,
  isConforming,
  isLongCode,
  isNull,
  isPresent,
  isReservedSize,
  markAccessed,
  rplOf,
  segmentOf,
} from '../segments/descriptor.ts';

/** Descriptor of a far pointer's selector; undefined with p.outcome set (#GP(0) for null). */
export function fetchTarget(p: Processor, selector: number): Descriptor | undefined {
  if (!isNull(selector)) return fetchDescriptor(p, selector, GP);
  p.raise(GP, 0);
  return undefined;
}

function refuse(p: Processor, vector: number, selector: number): undefined {
  p.raise(vector, indexOf(selector));
  return undefined;
}

/**
 * The segment that JMP or CALL to a code descriptor loads: privilege does not change.
 *
 * @returns undefined with p.outcome set
 */
export function directTarget(p: Processor, descriptor: Descriptor): Segment | undefined {
  const { selector, attributes } = descriptor;
  const dpl = dplOf(attributes);
  const forbidden = isConforming(attributes) ? dpl > p.cpl : rplOf(selector) > p.cpl || dpl !== p.cpl;
  if (forbidden || (p.longMode && isReservedSize(attributes))) return refuse(p, GP, selector);
  if (!isPresent(attributes)) return refuse(p, NP, selector);
  const marked = markAccessed(p, descriptor);
  return marked && segmentOf(marked, p.cpl);
}

/**
 * The code segment behind a call gate.
 *
 * @param call whether a CALL may raise the privilege level
 * @returns undefined with p.outcome set
 */
export function gateTarget(p: Processor, selector: number, call: boolean): Descriptor | undefined {
  const descriptor = fetchTarget(p, selector);
  if (descriptor === undefined) return undefined;
  const { attributes } = descriptor;
  const dpl = dplOf(attributes);
  const forbidden = !isCode(attributes) || (call || isConforming(attributes) ? dpl > p.cpl : dpl !== p.cpl);
  if (forbidden || (p.longMode && !isLongCode(attributes))) return refuse(p, GP, selector);
  if (!isPresent(attributes)) return refuse(p, NP, selector);
  return markAccessed(p, descriptor);
}

/**
 * The segment that RET or IRET returns to, at the privilege of the selector's RPL.
 *
 * @returns undefined with p.outcome set
 */
export function returnTarget(p: Processor, selector: number): Segment | undefined {
  const descriptor = fetchTarget(p, selector);
  if (descriptor === undefined) return undefined;
  const { attributes } = descriptor;
  const rpl = rplOf(selector);
  const dpl = dplOf(attributes);
  const forbidden = !isCode(attributes) || rpl < p.cpl || (isConforming(attributes) ? dpl > rpl : dpl !== rpl);
  if (forbidden || (p.longMode && isReservedSize(attributes))) return refuse(p, GP, selector);
  if (!isPresent(attributes)) return refuse(p, NP, selector);
  const marked = markAccessed(p, descriptor);
  return marked && segmentOf(marked, rpl);
}
