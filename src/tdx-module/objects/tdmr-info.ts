/**
 * TDMR_INFO: how the host describes a TDMR, and whether the description may stand.
 *
 *   0 base | 8 size | 16 PAMT of 1 GiB pages: base, size | 32 of 2 MiB pages | 48 of 4 KiB pages
 *   64 sixteen reserved areas: offset from the TDMR's base, size; a size of 0 ends the list
 *
 * Details of a status: index of the TDMR in 7:0, of the reserved area or the PAMT's page size in 15:8, other TDMR in 23:16.
 *
 * @tdx "ABI Reference: Data Types", TDMR_INFO; "TDH.SYS.CONFIG"
 */
import { KEYID_SHIFT } from '../../machine/seam/key-id.ts';
import type { Hpa } from '../../util/address.ts';
import type { Cmr, Platform } from '../platform.ts';
import { STATUS, status } from '../status.ts';
import { type Area, GIB, LEVEL_BYTES, PAMT_ENTRY_SIZE, Tdmr } from './tdmr.ts';

const RESERVED_AREAS = 16;
/** Above every address: larger values are equally wrong. */
const FAR = 2 ** 60;
/** The first address with a KeyID. */
const ADDRESS_END: number = 2 ** KEYID_SHIFT;

/** An area as the host wrote it. */
interface GivenArea extends Area {
  /** Its end is beyond 64 bits. */
  readonly wraps: boolean;
}

interface TdmrInfo {
  readonly area: GivenArea;
  /** By page size. */
  readonly pamt: readonly Area[];
  /** `base` is the offset in the TDMR. */
  readonly reserved: readonly GivenArea[];
}

const number = (value: bigint): number => (value < 1n << 60n ? Number(value) : FAR);

function readInfo(platform: Platform, pa: Hpa, keyId: number): TdmrInfo {
  const area = (at: number): GivenArea => {
    const base = platform.keyed.read64(pa + at, keyId);
    const size = platform.keyed.read64(pa + at + 8, keyId);
    return { base: number(base), size: number(size), wraps: (base + size) >> 64n !== 0n };
  };
  const reserved = Array.from({ length: RESERVED_AREAS }, (_, i) => area(64 + 16 * i));
  return { area: area(0), pamt: [area(48), area(32), area(16)], reserved };
}

const details = (i: number, second = 0, third = 0): number => i | (second << 8) | (third << 16);
const overlap = (a: Area, b: Area): boolean => a.base < b.base + b.size && a.base + a.size > b.base;
const end = ({ base, size }: Area): number => base + size;

function checkArea(i: number, { base, size, wraps }: GivenArea, previous: Tdmr | undefined): bigint | null {
  if (wraps) return status(STATUS.INVALID_TDMR, details(i));
  if (previous !== undefined && base < previous.end) return status(STATUS.NON_ORDERED_TDMR, details(i));
  const valid = base % GIB === 0 && size % GIB === 0 && size > 0 && base + size <= ADDRESS_END;
  return valid ? null : status(STATUS.INVALID_TDMR, details(i));
}

function checkReserved(i: number, { area, reserved }: TdmrInfo): bigint | null {
  for (const [j, { base, size, wraps }] of reserved.entries()) {
    if (size === 0) {
      if ((reserved[j + 1]?.size ?? 0) === 0) continue;
      return status(STATUS.NON_ORDERED_RESERVED_IN_TDMR, details(i, j));
    }
    if (wraps) return status(STATUS.INVALID_RESERVED_IN_TDMR, details(i, j));
    const before = reserved[j - 1];
    if (before !== undefined && base < end(before)) {
      return status(STATUS.NON_ORDERED_RESERVED_IN_TDMR, details(i, j));
    }
    if (base % 4096 !== 0 || size % 4096 !== 0 || base + size > area.size) {
      return status(STATUS.INVALID_RESERVED_IN_TDMR, details(i, j));
    }
  }
  return null;
}

/** Parts of a TDMR that are not reserved. */
function available(area: Area, reserved: readonly Area[]): Area[] {
  const parts: Area[] = [];
  let base = area.base;
  for (const hole of reserved) {
    if (hole.base > base) parts.push({ base, size: hole.base - base });
    base = hole.base + hole.size;
  }
  if (base < end(area)) parts.push({ base, size: end(area) - base });
  return parts;
}

/** Adjacent ranges count as one. */
function merged(cmrs: readonly Cmr[]): Area[] {
  const areas: Area[] = [];
  for (const { base, size } of cmrs) {
    const last = areas.at(-1);
    if (last !== undefined && end(last) === base) areas[areas.length - 1] = { base: last.base, size: last.size + size };
    else areas.push({ base, size });
  }
  return areas;
}

const inCmrs = (cmrs: readonly Area[], part: Area): boolean =>
  cmrs.some((cmr) => part.base >= cmr.base && end(part) <= end(cmr));

const SIZES_DESCENDING: readonly number[] = [2, 1, 0];
const SIZES: readonly number[] = [0, 1, 2];

function checkPamtSizes(i: number, { area, pamt }: TdmrInfo): bigint | null {
  const wrong = SIZES_DESCENDING.find((level) => {
    const { base, size } = pamt[level]!;
    const needed = (area.size / LEVEL_BYTES[level]!) * PAMT_ENTRY_SIZE;
    return base % 4096 !== 0 || size % 4096 !== 0 || base + size > ADDRESS_END || size < needed;
  });
  return wrong === undefined ? null : status(STATUS.INVALID_PAMT, details(i, wrong));
}

/** A PAMT lies apart from every other PAMT. */
function checkPamtOverlap(i: number, { pamt }: TdmrInfo, earlier: readonly Tdmr[]): bigint | null {
  for (const [j, other] of earlier.entries()) {
    const level = SIZES.find((size) => other.pamt.some((area) => overlap(pamt[size]!, area)));
    if (level !== undefined) return status(STATUS.PAMT_OVERLAP, details(i, level, j));
  }
  const level = SIZES.find((size) => pamt.slice(size + 1).some((area) => overlap(pamt[size]!, area)));
  return level === undefined ? null : status(STATUS.PAMT_OVERLAP, details(i, level, i));
}

/** No PAMT lies in the unreserved part of a TDMR. */
function checkPamtReserved(i: number, now: Tdmr, earlier: readonly Tdmr[]): bigint | null {
  const hits = (of: Tdmr, inside: Tdmr): number | undefined =>
    SIZES.find((size) => available(inside, inside.reserved).some((part) => overlap(of.pamt[size]!, part)));
  for (const [j, other] of [...earlier, now].entries()) {
    const mine = hits(now, other);
    if (mine !== undefined) return status(STATUS.PAMT_OVERLAP, details(i, mine, j));
    const its = other === now ? undefined : hits(other, now);
    if (its !== undefined) return status(STATUS.PAMT_OVERLAP, details(j, its, i));
  }
  return null;
}

/**
 * Reads and checks the description of TDMR number `i`.
 * @param keyId shared KeyID that the host wrote it with
 * @param earlier the TDMRs before it
 */
export function tdmrFrom(
  platform: Platform,
  pa: Hpa,
  keyId: number,
  i: number,
  earlier: readonly Tdmr[],
): Tdmr | bigint {
  const info = readInfo(platform, pa, keyId);
  const early =
    checkArea(i, info.area, earlier.at(-1)) ??
    checkReserved(i, info) ??
    checkPamtSizes(i, info) ??
    checkPamtOverlap(i, info, earlier);
  if (early !== null) return early;
  const reserved = info.reserved
    .filter(({ size }) => size > 0)
    .map(({ base, size }) => ({ base: info.area.base + base, size }));
  const tdmr = new Tdmr(info.area, info.pamt, reserved);
  const overlapping = checkPamtReserved(i, tdmr, earlier);
  if (overlapping !== null) return overlapping;
  const cmrs = merged(platform.cmrs);
  const outside = SIZES_DESCENDING.find((level) => !inCmrs(cmrs, info.pamt[level]!));
  if (outside !== undefined) return status(STATUS.PAMT_OUTSIDE_CMRS, details(i, outside));
  const parts = available(info.area, reserved);
  return parts.every((part) => inCmrs(cmrs, part)) ? tdmr : status(STATUS.TDMR_OUTSIDE_CMRS, details(i));
}
