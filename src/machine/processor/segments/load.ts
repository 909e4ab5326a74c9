/**
 * Loading ES, SS, DS, FS and GS with all checks.
 *
 * @sdm "Privilege Level Checking When Accessing Data Segments", MOV and LDS of the instruction reference
 */
import { SS } from '../../engine/layout.ts';
import { segmentChanged } from '../../mmu/tlb.ts';
import { GP, NP, SS_FAULT } from '../../outcome.ts';
import { AR_DB, AR_G, AR_S, AR_UNUSABLE, type Processor, type Segment } from '../../processor.ts';
import {
  type Descriptor,
  dplOf,
  fetchDescriptor,
  indexOf,
  isCode,
  isConforming,
  isNull,
  isPresent,
  isWritableData,
  markAccessed,
  nullSegment,
  rplOf,
  segmentOf,
} from './descriptor.ts';

/** Replaces a segment register, hidden part included, and publishes it. No checks. */
export function setSegment(p: Processor, n: number, segment: Segment): void {
  Object.assign(p.segments[n]!, segment);
  p.syncSegment(n);
  segmentChanged(p);
}

/**
 * What a load does in real mode: the base follows the selector; limit and size stay what they were.
 *
 * @sdm "Switching Back to Real-Address Mode"
 */
export function realModeSegment(old: Segment, selector: number): Segment {
  const size = old.attributes & AR_UNUSABLE ? 0 : old.attributes & (AR_DB | AR_G);
  return {
    selector,
    base: BigInt(selector) << 4n,
    limit: old.attributes & AR_UNUSABLE ? 0xffff : old.limit,
    attributes: 0x93 | size,
  };
}

/** What a load does in virtual-8086 mode. */
export const v86Segment = (selector: number): Segment => ({
  selector,
  base: BigInt(selector) << 4n,
  limit: 0xffff,
  attributes: 0xf3,
});

/**
 * Checks SS's new descriptor and marks it accessed.
 *
 * @param cpl the privilege level that the stack is for
 * @param vector #GP for loads, #TS for stacks out of a TSS
 * @returns the segment, or undefined with p.outcome set
 */
export function stackSegment(
  p: Processor,
  selector: number,
  cpl: number,
  vector: number,
  ext = 0,
): Segment | undefined {
  const descriptor = fetchDescriptor(p, selector, vector, ext);
  if (descriptor === undefined) return undefined;
  const { attributes } = descriptor;
  const error = indexOf(selector) | ext;
  if (rplOf(selector) !== cpl || !isWritableData(attributes) || dplOf(attributes) !== cpl) {
    p.raise(vector, error);
    return undefined;
  }
  if (!isPresent(attributes)) {
    p.raise(SS_FAULT, error);
    return undefined;
  }
  const marked = markAccessed(p, descriptor);
  return marked && segmentOf(marked);
}

function dataSegment(p: Processor, selector: number): Segment | undefined {
  const descriptor = fetchDescriptor(p, selector, GP);
  if (descriptor === undefined) return undefined;
  const { attributes } = descriptor;
  const code = isCode(attributes);
  const readable = (attributes & AR_S) !== 0 && (!code || (attributes & 2) !== 0);
  const conforming = code && isConforming(attributes);
  const dpl = dplOf(attributes);
  if (!readable || (!conforming && (rplOf(selector) > dpl || p.cpl > dpl))) {
    p.raise(GP, indexOf(selector));
    return undefined;
  }
  if (!isPresent(attributes)) {
    p.raise(NP, indexOf(selector));
    return undefined;
  }
  const marked: Descriptor | undefined = markAccessed(p, descriptor);
  return marked && segmentOf(marked);
}

/**
 * What loading `selector` into register `n` would give, with all checks and the accessed bit set; no register changes.
 *
 * @returns undefined with p.outcome set (#GP, #SS, #NP, #PF or a VM exit)
 */
export function segmentFor(p: Processor, n: number, selector: number): Segment | undefined {
  if (!p.protectedMode) return realModeSegment(p.segments[n]!, selector);
  if (p.v86) return v86Segment(selector);
  if (!isNull(selector)) return n === SS ? stackSegment(p, selector, p.cpl, GP) : dataSegment(p, selector);
  if (n !== SS) return nullSegment(selector);
  // A null SS is legal in 64-bit mode only, and not for applications.
  if (p.mode64 && p.cpl < 3 && rplOf(selector) === p.cpl) return nullSegment(selector, p.cpl);
  p.raise(GP, 0);
  return undefined;
}

/**
 * On a return to a less privileged level: registers that hold segments the new level could not have loaded become
 * null.
 *
 * @sdm RET, IRET: "validate data segments"
 */
export function dropPrivilegedSegments(p: Processor): void {
  for (const n of [0, 3, 4, 5]) {
    const { attributes } = p.segments[n]!;
    const conforming = isCode(attributes) && isConforming(attributes);
    if (attributes & AR_UNUSABLE || conforming || dplOf(attributes) >= p.cpl) continue;
    setSegment(p, n, nullSegment(0));
  }
}
