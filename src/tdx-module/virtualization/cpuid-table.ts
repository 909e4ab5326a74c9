/**
 * A TD's CPUID: computed at TDH.MNG.INIT from the processor's own, the host's configuration and fixed rules.
 *
 * @tdx "CPU Virtualization (Non-Root Mode Operation)", CPUID Virtualization; TDH.MNG.INIT
 */
import { cpuid } from '../../machine/cpuid/cpuid.ts';
import type { Processor } from '../../machine/processor.ts';
import { CPUID_ROWS, type CpuidRow, cpuidRow, type Registers } from './cpuid-rows.ts';
import { applyRules, type CpuidBasis, type Words } from './cpuid-rules.ts';

/** Bits that the host may set in a row's configuration: bits it sets freely, and bits of the processor it may leave out. */
function configurable(row: CpuidRow, native: Registers): Registers {
  const of = (i: 0 | 1 | 2 | 3): number => (row.direct[i] | (row.allow[i] & native[i])) >>> 0;
  return [of(0), of(1), of(2), of(3)];
}

const hasBits = (registers: Registers): boolean => registers.some((word) => word !== 0);

/** The rows that TD_PARAMS.CPUID_CONFIG configures, in its order. */
export const CPUID_CONFIG_LEAVES: readonly CpuidRow[] = CPUID_ROWS.filter(
  ({ direct, allow }) => hasBits(direct) || hasBits(allow),
);

/** What the processor itself answers; zeros above its largest leaf. */
export function nativeCpuid(p: Processor, leaf: number, subleaf: number): Registers {
  const base = leaf >= 0x8000_0000 ? 0x8000_0000 : 0;
  if (leaf > cpuid(p, base, 0).eax) return [0, 0, 0, 0];
  const { eax, ebx, ecx, edx } = cpuid(p, leaf, subleaf);
  return [eax, ebx, ecx, edx];
}

/** Metadata CPUID_CONFIG_LEAVES and CPUID_CONFIG_VALUES: leaf and subleaf, and the bits that can be configured. */
export function cpuidConfigMetadata(
  p: Processor,
): { readonly leaf: bigint; readonly values: readonly [bigint, bigint] }[] {
  return CPUID_CONFIG_LEAVES.map((row) => {
    const [eax, ebx, ecx, edx] = configurable(row, nativeCpuid(p, row.leaf, row.subleaf ?? 0));
    const subleaf = BigInt(row.subleaf ?? 0xffff_ffff);
    return { leaf: (subleaf << 32n) | BigInt(row.leaf), values: [pack(eax, ebx), pack(ecx, edx)] };
  });
}

/** Two registers as an element of CPUID_VALUES. */
export const pack = (low: number, high: number): bigint => (BigInt(high) << 32n) | BigInt(low);

/** What TDH.MNG.INIT computes CPUID from. */
export interface CpuidParams extends CpuidBasis {
  /** CPUID_CONFIG of TD_PARAMS, in the order of CPUID_CONFIG_LEAVES. */
  readonly config: readonly Registers[];
}

/** The computed table, by row index; or the leaf and subleaf (0xffffffff: none) whose configuration is wrong. */
export type CpuidTable =
  | { readonly values: readonly Registers[]; readonly valid: readonly boolean[] }
  | { readonly wrongLeaf: number; readonly wrongSubleaf: number };

const LEAF_FMS = 1;
const HLE = 1 << 4;
const RTM = 1 << 11;
const MONITOR = 1 << 3;

const wrong = (row: CpuidRow): CpuidTable => ({ wrongLeaf: row.leaf, wrongSubleaf: row.subleaf ?? 0xffff_ffff });

/** Family, model and stepping: 0 stands for the processor's; a TD that cannot migrate has no other. */
const signatureValid = (configured: number, native: number): boolean =>
  configured === 0 || configured === (native & 0x0fff_3fff);

function configValid(row: CpuidRow, config: Registers, native: Registers): boolean {
  const allowed = configurable(row, native);
  if (config.some((word, i) => (word & ~allowed[i]!) !== 0)) return false;
  if (row.leaf === LEAF_FMS) return signatureValid(config[0], native[0]);
  if (row.leaf === 7 && row.subleaf === 0) return ((config[1] & HLE) !== 0) === ((config[1] & RTM) !== 0);
  return true;
}

/** One row: the processor's bits, fixed bits, the host's bits, then the rules. */
function compute(row: CpuidRow, config: Registers, native: Registers): Words {
  const of = (i: 0 | 1 | 2 | 3): number => {
    let word = (native[i] & ~row.computed[i]) | row.one[i];
    word = (word & ~row.direct[i]) | (config[i] & row.direct[i]);
    return (word & ~(row.allow[i] & ~config[i])) >>> 0;
  };
  return [of(0), of(1), of(2), of(3)];
}

const NOTHING: Registers = [0, 0, 0, 0];
const TOPOLOGY = 0x1f;
const TOPOLOGY_ROWS: readonly CpuidRow[] = CPUID_ROWS.filter(({ leaf }) => leaf === TOPOLOGY);
const LEVEL_INVALID = 0;
const LEVEL_CORE = 2;
const levelOf = (words: Registers): number => (words[2] >>> 8) & 0xff;

/**
 * Virtual leaf 1F: as configured, or the processor's if the host left it out. Levels ascend and one is of cores.
 * Undefined where they do not.
 */
function topology(p: Processor, configured: readonly Registers[]): Registers[] | undefined {
  if (!configured.some(hasBits)) {
    return TOPOLOGY_ROWS.map(({ subleaf }) => {
      const [eax, ebx, ecx] = nativeCpuid(p, TOPOLOGY, subleaf ?? 0);
      return [eax, ebx, ecx, 0];
    });
  }
  let previous = LEVEL_INVALID;
  let ended = false;
  for (const words of configured) {
    const level = levelOf(words);
    if (level === LEVEL_INVALID) ended = true;
    else if (ended || level <= previous) return undefined;
    else previous = level;
  }
  if (!configured.some((words) => levelOf(words) === LEVEL_CORE)) return undefined;
  return configured.map(([eax, ebx, ecx], i) => [eax, ebx, (ecx | i) >>> 0, 0]);
}

const LEVEL_SMT = 1;

/** Leaf B from leaf 1F: threads in a core, then everything up to the package as one level of cores. */
function olderTopology(levels: readonly Registers[], subleaf: number): Registers {
  const smt = levels.find((words) => levelOf(words) === LEVEL_SMT);
  const last = levels.findLast((words) => levelOf(words) !== LEVEL_INVALID);
  if (subleaf === 0) return smt === undefined ? NOTHING : [smt[0], smt[1], LEVEL_SMT << 8, 0];
  return last === undefined ? [0, 0, 1, 0] : [last[0], last[1], (LEVEL_CORE << 8) | 1, 0];
}

/** Computes the whole table. */
export function buildCpuid(p: Processor, params: CpuidParams): CpuidTable {
  const configOf = (row: CpuidRow): Registers => params.config[CPUID_CONFIG_LEAVES.indexOf(row)] ?? NOTHING;
  const values: Registers[] = [];
  const featureRow = cpuidRow(LEAF_FMS, 0)!;
  const monitor = (nativeCpuid(p, LEAF_FMS, 0)[2] & configOf(featureRow)[2] & MONITOR) !== 0;
  for (const row of CPUID_ROWS) {
    const native = nativeCpuid(p, row.leaf, row.subleaf ?? 0);
    const config = configOf(row);
    if (!configValid(row, config, native)) return wrong(row);
    const words = compute(row, config, native);
    if (row.leaf === LEAF_FMS && config[0] === 0) words[0] = (native[0] & 0x0fff_3fff) >>> 0;
    applyRules(words, row.leaf, row.subleaf ?? 0, params, monitor);
    values.push(row.kind === 've' ? NOTHING : words);
  }
  const levels = topology(p, TOPOLOGY_ROWS.map(configOf));
  if (levels === undefined) return wrong(TOPOLOGY_ROWS[0]!);
  for (const [i, row] of TOPOLOGY_ROWS.entries()) values[row.index] = levels[i]!;
  for (const row of CPUID_ROWS) if (row.leaf === 0xb) values[row.index] = olderTopology(levels, row.subleaf!);
  return { values, valid: CPUID_ROWS.map(({ kind }) => kind !== 've') };
}
