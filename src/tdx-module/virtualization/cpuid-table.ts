/**
 * A TD's CPUID: computed at TDH.MNG.INIT from the processor's own, the host's configuration and fixed rules.
 *
 * @tdx "CPU Virtualization (Non-Root Mode Operation)", CPUID Virtualization; TDH.MNG.INIT
 */
import { cpuid } from '../../machine/cpuid/cpuid.ts';
import { IA32_ARCH_CAPABILITIES } from '../../machine/msr/platform.ts';
import type { Processor } from '../../machine/processor.ts';
import { operandInvalid } from '../objects/checks.ts';
import { OPERAND, STATUS, status } from '../status.ts';
import { TSX_CTRL } from './arch-capabilities.ts';
import { CPUID_ROWS, type CpuidRow, cpuidRow, type Registers } from './cpuid-rows.ts';
import { applyRules, type CpuidBasis, type Words } from './cpuid-rules.ts';
import { olderTopology, topologyLevels } from './cpuid-topology.ts';

/** Bits that the host decides about: bits it sets freely, and bits of the processor it may leave out. */
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
  /** The processor's IA32_ARCH_CAPABILITIES. */
  readonly archCapabilities: bigint;
}

/** The computed table, by row index; or the status for a wrong configuration, with RCX. */
export type CpuidTable =
  | { readonly values: readonly Registers[]; readonly valid: readonly boolean[] }
  | { readonly error: bigint; readonly details: bigint };

const LEAF_FMS = 1;
const HLE = 1 << 4;
const RTM = 1 << 11;
const MONITOR = 1 << 3;

/** A row whose configuration is wrong: leaf and subleaf (all ones: none) are told. */
const wrong = (row: CpuidRow): CpuidTable => ({
  error: operandInvalid(OPERAND.CPUID_CONFIG),
  details: pack(row.leaf, row.subleaf ?? 0xffff_ffff),
});

/** Family, model and stepping: 0 stands for the processor's; a TD that cannot migrate has no other. */
const signatureValid = (configured: number, native: number): boolean =>
  configured === 0 || configured === (native & 0x0fff_3fff);

function configValid(row: CpuidRow, config: Registers, native: Registers): boolean {
  // A bit that the processor lacks may be asked for, and stays 0.
  if (config.some((word, i) => (word & ~(row.direct[i]! | row.allow[i]!)) !== 0)) return false;
  return row.leaf !== LEAF_FMS || signatureValid(config[0], native[0]);
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
const LEAF_FEATURES = 7;
const LEAF_WIDTHS = 0x8000_0008;
const rowsOf = (wanted: number): readonly CpuidRow[] => CPUID_ROWS.filter(({ leaf }) => leaf === wanted);
const TOPOLOGY_ROWS: readonly CpuidRow[] = rowsOf(0x1f);
const OLDER_TOPOLOGY_ROWS: readonly CpuidRow[] = rowsOf(0xb);

const FEATURES_ROW: CpuidRow = cpuidRow(LEAF_FEATURES, 0)!;
const hasTsx = (features: Registers): boolean => (features[1] & HLE) !== 0;

/** Whether a TD with this table has TSX. */
export const tableHasTsx = (values: readonly Registers[]): boolean => hasTsx(values[FEATURES_ROW.index]!);

const LA57 = 1 << 16;
const LINEAR_BITS = 0xff00;

/** CPUID 80000008H EAX with the width of linear addresses that the TD's features give. */
const linearWidth = (eax: number, features: Registers): number =>
  (eax & ~LINEAR_BITS) | ((features[2] & LA57 ? 57 : 48) << 8);

/** HLE and RTM go together, and with a processor whose TSX can be turned off. */
function tsxError(features: Registers, params: CpuidParams): CpuidTable | null {
  if (hasTsx(features) !== ((features[1] & RTM) !== 0)) return wrong(FEATURES_ROW);
  if (!hasTsx(features) || params.archCapabilities & TSX_CTRL) return null;
  return { error: status(STATUS.INCORRECT_MSR_VALUE, IA32_ARCH_CAPABILITIES), details: 0n };
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
    const tsx = row === FEATURES_ROW ? tsxError(words, params) : null;
    if (tsx !== null) return tsx;
    if (row.leaf === LEAF_WIDTHS) words[0] = linearWidth(words[0], values[FEATURES_ROW.index]!);
    values.push(row.kind === 've' ? NOTHING : words);
  }
  const native = TOPOLOGY_ROWS.map(({ leaf, subleaf }) => nativeCpuid(p, leaf, subleaf!));
  const levels = topologyLevels(TOPOLOGY_ROWS.map(configOf), native);
  if (levels === undefined) return { error: status(STATUS.CPUID_LEAF_1F_FORMAT_UNRECOGNIZED), details: 0n };
  for (const [i, row] of TOPOLOGY_ROWS.entries()) values[row.index] = levels[i]!;
  for (const [i, row] of OLDER_TOPOLOGY_ROWS.entries()) values[row.index] = olderTopology(levels)[i]!;
  return { values, valid: CPUID_ROWS.map(({ kind }) => kind !== 've') };
}
