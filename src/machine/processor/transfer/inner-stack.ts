/**
 * Stacks of inner privilege levels, as the TSS names them.
 *
 * @sdm "Stack Switching", "Stack Switching in IA-32e Mode", "Interrupt Stack Table"
 */
import { loadLinear } from '../../mmu/access.ts';
import { SS_FAULT, TS } from '../../outcome.ts';
import type { Processor } from '../../processor.ts';
import { isCanonical } from '../canonical.ts';
import { indexOf, isNull, nullSegment, SYSTEM, typeOf } from '../segments/descriptor.ts';
import { stackSegment } from '../segments/load.ts';
import { type Stack, stackWidth } from '../stack.ts';

/** Reads `size` bytes of the current TSS, or undefined with p.outcome set (#TS beyond its limit). */
function readTss(p: Processor, offset: number, size: 2 | 4 | 8, ext: number): bigint | undefined {
  if (offset + size - 1 > p.tr.limit) {
    p.raise(TS, indexOf(p.tr.selector) | ext);
    return undefined;
  }
  return loadLinear(p, BigInt.asUintN(p.longMode ? 64 : 32, p.tr.base + BigInt(offset)), size, true);
}

/**
 * The stack of privilege level `cpl` in a 16-bit or 32-bit TSS, its segment checked.
 *
 * @returns undefined with p.outcome set
 */
export function legacyInnerStack(p: Processor, cpl: number, ext: number): Stack | undefined {
  const wide = typeOf(p.tr.attributes) >= SYSTEM.tss32;
  const pointerSize = wide ? 4 : 2;
  const offset = wide ? 4 + cpl * 8 : 2 + cpl * 4;
  // Both words lie within the limit, or neither is read.
  const value = readTss(p, offset + pointerSize, 2, ext);
  if (value === undefined) return undefined;
  const pointer = readTss(p, offset, pointerSize, ext);
  if (pointer === undefined) return undefined;
  const selector = Number(value);
  if (isNull(selector)) {
    p.raise(TS, ext);
    return undefined;
  }
  const segment = stackSegment(p, selector, cpl, TS, ext);
  if (segment === undefined) return undefined;
  return { segment, pointer, width: stackWidth(segment, false) };
}

function longStack(p: Processor, offset: number, cpl: number, ext: number, align: bigint): Stack | undefined {
  const pointer = readTss(p, offset, 8, ext);
  if (pointer === undefined) return undefined;
  if (!isCanonical(p, pointer)) {
    p.raise(SS_FAULT, ext);
    return undefined;
  }
  return { segment: nullSegment(cpl, cpl), pointer: pointer & align, width: 64 };
}

/** RSPn of the 64-bit TSS, for a call gate. Undefined with p.outcome set. */
export const longInnerStack = (p: Processor, cpl: number): Stack | undefined => longStack(p, 4 + cpl * 8, cpl, 0, -1n);

/** ISTn, or RSPn if `ist` is 0, aligned down to 16 bytes as event delivery wants. Undefined with p.outcome set. */
export const longInterruptStack = (p: Processor, ist: number, cpl: number, ext: number): Stack | undefined =>
  longStack(p, ist > 0 ? 0x24 + (ist - 1) * 8 : 4 + cpl * 8, cpl, ext, ~15n);
