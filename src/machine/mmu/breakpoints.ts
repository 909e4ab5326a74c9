/**
 * Data breakpoints: pages they lie in get no TLB entries that could hide a match, so that every access there comes here.
 * @sdm "Breakpoint Field Recognition", "Debug Control Register (DR7)"
 */
import type { Processor } from '../processor.ts';

const WRITE = 1;
const READ_WRITE = 3;
/** LEN field to bytes. */
const LENGTHS = [1, 2, 8, 4];

/** The kind (DR7.R/W field) of breakpoint n if it is an enabled data breakpoint, else 0. */
function kindOf(p: Processor, n: number): number {
  if (((p.dr7 >>> (n * 2)) & 3) === 0) return 0;
  const kind = (p.dr7 >>> (16 + n * 4)) & 3;
  return kind === WRITE || kind === READ_WRITE ? kind : 0;
}

const lengthOf = (p: Processor, n: number): number => LENGTHS[(p.dr7 >>> (18 + n * 4)) & 3]!;

/** A description of the enabled data breakpoints, '' if there are none; equal descriptions watch the same accesses. */
export function dataBreakpoints(p: Processor): string {
  let text = '';
  for (let n = 0; n < 4; n++) {
    const kind = kindOf(p, n);
    if (kind !== 0) text += `${kind} ${lengthOf(p, n)} ${p.dr[n]};`;
  }
  return text;
}

/**
 * Breakpoints that an access of `size` bytes hits, as DR6 bits 3:0.
 * @param write whether the access writes; an access that reads and writes counts as one that writes
 */
export function breakpointHits(p: Processor, linear: bigint, size: number, write: boolean): number {
  if ((p.dr7 & 0xff) === 0) return 0;
  let hits = 0;
  for (let n = 0; n < 4; n++) {
    const kind = kindOf(p, n);
    if (kind === 0 || (kind === WRITE && !write)) continue;
    const length = BigInt(lengthOf(p, n));
    const start = p.dr[n]! & ~(length - 1n);
    if (linear < start + length && start < linear + BigInt(size)) hits |= 1 << n;
  }
  return hits;
}

/** Whether a data breakpoint that `write` accesses can hit lies in the page of a linear address. */
export const pageIsWatched = (p: Processor, linear: bigint, write: boolean): boolean =>
  breakpointHits(p, linear & ~0xfffn, 4096, write) !== 0;

/** Makes #DB pending for the breakpoints that a completed access has hit. */
export function noteHits(p: Processor, hits: number): void {
  if (hits === 0) return;
  p.pendingDebug |= hits;
  p.eventsPending = true;
}
