/** Taking over the segment registers that generated code has loaded (isa/events.ts), and the privilege level with them. */
import { followBank } from '../mmu/select.ts';
import { attributesOf, baseOf, limitOf } from '../processor/segments/raw-descriptor.ts';
import type { Processor } from '../processor.ts';
import { AR_UNUSABLE } from '../processor.ts';
import {
  CPL,
  CS,
  CS_DESCRIPTOR,
  LOADED,
  LOADED_CS,
  LOADED_SS,
  SEG_SELECTOR,
  SEGMENT_SIZE,
  SEGMENTS,
  SS,
  SS_DESCRIPTOR,
} from './layout.ts';

/** To be called after generated code has left LOADED set, before anything looks at segments, CPL or the privilege class. */
export function takeLoadedSegments(p: Processor): void {
  const loaded = p.read32(LOADED);
  p.write32(LOADED, 0);
  p.cpl = p.read32(CPL);
  if (loaded & LOADED_CS) take(p, CS, CS_DESCRIPTOR);
  if (loaded & LOADED_SS) take(p, SS, SS_DESCRIPTOR);
  followBank(p);
}

function take(p: Processor, n: number, at: number): void {
  const segment = p.segments[n]!;
  const lower = p.read32(at);
  const upper = p.read32(at + 4);
  segment.selector = p.read16(SEGMENTS + n * SEGMENT_SIZE + SEG_SELECTOR);
  // A null SS, which only levels below 3 may have; the level is 0 here.
  const isNull = upper === 0;
  const base = baseOf(lower, upper);
  segment.base = base === 0 ? 0n : BigInt(base);
  segment.limit = isNull ? 0 : limitOf(lower, upper);
  segment.attributes = isNull ? AR_UNUSABLE : attributesOf(upper);
}
