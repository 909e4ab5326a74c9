/** The value of the CPUID instruction. */
import type { Processor } from '../processor.ts';
import { featureBit } from './features.ts';
import { type CpuidResult, LEAVES, type LeafRow, MAX_BASIC_LEAF, MAX_EXTENDED_LEAF, profileOf } from './leaves.ts';

export type { CpuidResult } from './leaves.ts';
export { profileOf } from './leaves.ts';

const rows: Map<number, LeafRow> = new Map(LEAVES.map((row) => [row.leaf, row]));
const ZERO: CpuidResult = { eax: 0, ebx: 0, ecx: 0, edx: 0 };

/**
 * What CPUID gives for EAX = leaf, ECX = subleaf (unsigned).
 *
 * A leaf above the largest one of its range answers as the largest basic leaf; a reserved one below it answers zeros.
 * @sdm "CPUID—CPU Identification"
 */
export function cpuid(p: Processor, leaf: number, subleaf: number): CpuidResult {
  const inRange = leaf <= MAX_BASIC_LEAF || (leaf >= 0x80000000 && leaf <= MAX_EXTENDED_LEAF);
  const row = rows.get(inRange ? leaf : MAX_BASIC_LEAF);
  return row ? row.read(p, subleaf, profileOf(p)) : ZERO;
}

/** Whether the processor offers a feature (by the names of features.ts), whatever its present state. */
export function hasFeature(p: Processor, name: string): boolean {
  featureBit(name);
  return profileOf(p).features.has(name);
}
