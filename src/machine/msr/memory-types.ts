/** Memory types: PAT and MTRRs. They are kept and checked; the machine has no caches, so they change nothing. */
import { profileOf } from '../cpuid/cpuid.ts';
import { type Check, constant, type MsrRow, stored } from './row.ts';

export const IA32_MTRRCAP = 0xfe;
export const IA32_MTRR_PHYSBASE0 = 0x200;
export const IA32_PAT = 0x277;
export const IA32_MTRR_DEF_TYPE = 0x2ff;

const UC = 0;
const WC = 1;
const WT = 4;
const WP = 5;
const WB = 6;
const UC_MINUS = 7;

const isMtrrType = (type: number): boolean => type === UC || type === WC || type === WT || type === WP || type === WB;
const byteAt = (value: bigint, i: number): number => Number((value >> BigInt(8 * i)) & 0xffn);
const everyByte = (value: bigint, legal: (type: number) => boolean): boolean =>
  [0, 1, 2, 3, 4, 5, 6, 7].every((i) => legal(byteAt(value, i)));

/** Eight memory types. @sdm "Page Attribute Table (PAT)" */
export const isPatValue = (value: bigint): boolean => everyByte(value, (type) => isMtrrType(type) || type === UC_MINUS);
export const PAT_RESET = 0x0007_0406_0007_0406n;

const fixedRange: Check = (value) => everyByte(value, isMtrrType);
/** Type in 7:0, fixed ranges on in 10, all on in 11. */
const defaultType: Check = (value) => (value & ~0xcffn) === 0n && isMtrrType(byteAt(value, 0));
const tooHigh: Check = (value, p) => value >> BigInt(profileOf(p).physicalAddressBits) !== 0n;
const physicalBase: Check = (value, p) => !tooHigh(value, p) && (value & 0xf00n) === 0n && isMtrrType(byteAt(value, 0));
/** Valid in bit 11. */
const physicalMask: Check = (value, p) => !tooHigh(value, p) && (value & 0x7ffn) === 0n;

const allBytes = (type: number): bigint => BigInt(type) * 0x0101_0101_0101_0101n;
const MTRR_ENABLED = 0xc00n;
const VARIABLE_RANGES = 10;
/** Count of variable ranges, fixed ranges (8), write combining (10). */
const CAPABILITY = BigInt(VARIABLE_RANGES) | 0x500n;
/** SMRR (11), its lock (14), SEAMRR (15). */
const SEAM_CAPABILITY = 0xc800n;

/** Fixed ranges as firmware sets them: RAM write-back, video memory uncacheable, the ROM area write-protected. */
const FIXED_RANGES: readonly [index: number, name: string, type: number][] = [
  [0x250, 'IA32_MTRR_FIX64K_00000', WB],
  [0x258, 'IA32_MTRR_FIX16K_80000', WB],
  [0x259, 'IA32_MTRR_FIX16K_A0000', UC],
  ...['C0000', 'C8000', 'D0000', 'D8000', 'E0000', 'E8000', 'F0000', 'F8000'].map(
    (address, i): [number, string, number] => [0x268 + i, `IA32_MTRR_FIX4K_${address}`, WP],
  ),
];

/** One variable range as firmware sets it: the uncacheable hole from 3 GiB to 4 GiB. */
const HOLE_BASE = 0xc000_0000n;
const HOLE_MASK = 0xf_ffff_c000_0800n;

function variableRanges(): MsrRow[] {
  const rows: MsrRow[] = [];
  for (let i = 0; i < VARIABLE_RANGES; i++) {
    const index = IA32_MTRR_PHYSBASE0 + 2 * i;
    rows.push(stored(index, `IA32_MTRR_PHYSBASE${i}`, physicalBase, i === 0 ? HOLE_BASE : 0n, 'mtrr'));
    rows.push(stored(index + 1, `IA32_MTRR_PHYSMASK${i}`, physicalMask, i === 0 ? HOLE_MASK : 0n, 'mtrr'));
  }
  return rows;
}

/** @sdm "Memory Type Range Registers (MTRRs)" */
export const MEMORY_TYPE_MSRS: readonly MsrRow[] = [
  constant(
    IA32_MTRRCAP,
    'IA32_MTRRCAP',
    ({ machine }) => (machine.seam.enabled ? CAPABILITY | SEAM_CAPABILITY : CAPABILITY),
    'mtrr',
  ),
  stored(IA32_MTRR_DEF_TYPE, 'IA32_MTRR_DEF_TYPE', defaultType, MTRR_ENABLED | BigInt(WB), 'mtrr'),
  stored(IA32_PAT, 'IA32_PAT', isPatValue, PAT_RESET, 'pat'),
  ...FIXED_RANGES.map(([index, name, type]) => stored(index, name, fixedRange, allBytes(type), 'mtrr')),
  ...variableRanges(),
];
