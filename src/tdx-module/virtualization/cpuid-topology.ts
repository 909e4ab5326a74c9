/**
 * A TD's CPUID leaves 1F and B: the levels of its topology, each as EAX (shift), EBX (processors), ECX (level type, number).
 *
 * @tdx "CPU Virtualization (Non-Root Mode Operation)", CPU Topology; TDH.MNG.INIT
 */
import type { Registers } from './cpuid-rows.ts';

const SMT = 1;
const CORE = 2;
/** Greatest type of a level below the package: die group. */
const MAX_TYPE = 6;
const NO_LEVEL: Registers = [0, 0, 0, 0];

const typeOf = (words: Registers): number => (words[2] >>> 8) & 0xff;
const isLevel = (words: Registers): boolean => typeOf(words) !== 0;

/** Whether levels come first, ascend, are known, and one is of cores. */
function wellFormed(configured: readonly Registers[]): boolean {
  const end = configured.findIndex((words) => !isLevel(words));
  const levels = end < 0 ? configured : configured.slice(0, end);
  if (configured.slice(levels.length).some(isLevel)) return false;
  const types = levels.map(typeOf);
  return types.includes(CORE) && types.every((type, i) => type < MAX_TYPE && type > (types[i - 1] ?? 0));
}

/**
 * Leaf 1F by subleaf, from the host's configuration; undefined where it is not well formed.
 * @param native the processor's, for a host that configured none
 */
export function topologyLevels(
  configured: readonly Registers[],
  native: readonly Registers[],
): readonly Registers[] | undefined {
  if (configured.every((words) => words.every((word) => word === 0))) {
    return native.map(([eax, ebx, ecx]) => [eax, ebx, ecx, 0]);
  }
  if (!wellFormed(configured)) return undefined;
  return configured.map(([eax, ebx, ecx], i) => [eax, ebx, (ecx | i) >>> 0, 0]);
}

/** Leaf B from leaf 1F: threads in a core if there is such a level, then all up to the package as one level of cores. */
export function olderTopology(levels: readonly Registers[]): readonly [Registers, Registers] {
  const smt = levels.find((words) => typeOf(words) === SMT);
  const [shift, count] = levels.findLast(isLevel) ?? NO_LEVEL;
  const cores = (subleaf: number): Registers => [shift, count, (CORE << 8) | subleaf, 0];
  return smt === undefined ? [cores(0), [0, 0, 1, 0]] : [[smt[0], smt[1], SMT << 8, 0], cores(1)];
}
