/**
 * Guest physical addresses as operands: "GPA mapping information" and what a private GPA may be.
 *
 * ```
 *   2:0 level (0 = 4 KiB, 1 = 2 MiB, 2 = 1 GiB, 3 = 512 GiB, 4 = 256 TiB)  11:3 zero  51:12 page number  63:52 zero
 * ```
 *
 * @tdx "ABI Reference", GPA Mapping Information
 */
import type { Gpa } from '../../util/address.ts';

const LEVEL_MASK = 7n;
const RESERVED_MASK = 0xfff0_0000_0000_0ff8n;
const PAGE_NUMBER_MASK = 0x000f_ffff_ffff_f000n;

/** Number of address bits below an entry of this level: 12 for 4 KiB, 21 for 2 MiB. */
export const levelShift = (level: number): number => 12 + 9 * level;
/** Bytes that an entry of this level covers. */
export const levelSize = (level: number): number => 2 ** levelShift(level);
/** 4 KiB pages that an entry of this level covers. */
export const levelPages = (level: number): number => 2 ** (9 * level);
/** Index of the entry for `gpa` in a table whose entries are of this level. */
export const entryIndex = (gpa: Gpa, level: number): number => Math.floor(gpa / levelSize(level)) % 512;

/** A page and a level. */
export interface GpaMapping {
  readonly gpa: Gpa;
  readonly level: number;
}

/**
 * Decodes the operand. Null (operand invalid) if a reserved bit is set, the level is outside the range or the address is
 * not aligned to the level.
 */
export function decodeGpaMapping(operand: bigint, minLevel: number, maxLevel: number): GpaMapping | null {
  if ((operand & RESERVED_MASK) !== 0n) return null;
  const level = Number(operand & LEVEL_MASK);
  if (level < minLevel || level > maxLevel) return null;
  const gpa = Number(operand & PAGE_NUMBER_MASK);
  return gpa % levelSize(level) === 0 ? { gpa, level } : null;
}

/** Position of the bit that makes a GPA a shared one: 51 with a GPA width of 52, 47 with one of 48. */
export const sharedBit = (gpaw52: boolean): number => (gpaw52 ? 51 : 47);

/** Whether the GPA has the shared bit. */
export const isSharedGpa = (gpa: Gpa, gpaw52: boolean): boolean => Math.floor(gpa / 2 ** sharedBit(gpaw52)) % 2 === 1;

/** Whether the GPA is one of the private half: shared bit and everything above it clear. */
export const isPrivateGpa = (gpa: Gpa, gpaw52: boolean): boolean => gpa >= 0 && gpa < 2 ** sharedBit(gpaw52);

/** The same for an operand of 64 bits. */
export const isPrivateGpaOperand = (gpa: bigint, gpaw52: boolean): boolean => gpa >> BigInt(sharedBit(gpaw52)) === 0n;
