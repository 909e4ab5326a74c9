/** MSRs that entries and exits switch, by their place in Processor.msrs. */
import type { Processor } from '../processor.ts';

export const SYSENTER_CS = 0x174;
export const SYSENTER_ESP = 0x175;
export const SYSENTER_EIP = 0x176;
export const DEBUGCTL = 0x1d9;
export const PAT = 0x277;

export const msrOf = (p: Processor, index: number): bigint => p.msrs.get(index) ?? 0n;

/** Mostly the value is there already: perf: a comparison is cheaper than Map.set. */
export function setMsr(p: Processor, index: number, value: bigint): void {
  if (p.msrs.get(index) !== value) p.msrs.set(index, value);
}
