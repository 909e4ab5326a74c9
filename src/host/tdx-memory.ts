/**
 * TD memory regions: which memory the TDX module may give to trust domains, where its page metadata (PAMT) lies, and what
 * of each region is off limits.
 *
 * A TDMR is aligned to 1 GiB and may cover holes; holes, and the PAMTs themselves, are its reserved areas.
 *
 * @upstream arch/x86/virt/vmx/tdx/tdx.c build_tdx_memlist(), fill_out_tdmrs(), tdmrs_set_up_pamt_all(),
 *   tdmrs_populate_rsvd_areas_all()
 * @tdx "ABI Reference: Data Types", TDMR_INFO
 */
import { type Hpa, PAGE_SIZE } from '../util/address.ts';
import { ENOMEM, ENOSPC, type Errno } from './errno.ts';
import type { TdxSysInfo } from './tdx-metadata.ts';

const MIB_2 = 0x20_0000;
const GIB = 0x4000_0000;
/** Bytes of a TDMR_INFO, which is also its alignment. */
export const TDMR_INFO_SIZE = 512;

/** Usable memory, [start, end). */
export interface MemoryRange {
  readonly start: Hpa;
  readonly end: Hpa;
}
/** A part of a TDMR that TDs get nothing of; `offset` from its base. */
export interface ReservedArea {
  readonly offset: number;
  readonly size: number;
}
/** A region. @upstream struct tdmr_info */
export interface Tdmr {
  readonly base: Hpa;
  readonly size: number;
  pamt4k: PamtPart;
  pamt2m: PamtPart;
  pamt1g: PamtPart;
  reserved: ReservedArea[];
}
interface PamtPart {
  readonly base: Hpa;
  readonly size: number;
}

const NO_PAMT: PamtPart = { base: 0, size: 0 };
const roundUp = (value: number, to: number): number => Math.ceil(value / to) * to;
const roundDown = (value: number, to: number): number => Math.floor(value / to) * to;

/** 1 GiB-aligned regions over all of the memory; −ENOSPC if the module knows fewer. @upstream fill_out_tdmrs() */
export function fillOutTdmrs(memory: readonly MemoryRange[], maxTdmrs: number): Tdmr[] | Errno {
  const tdmrs: Tdmr[] = [];
  let covered = 0;
  for (const range of memory) {
    const end = roundUp(range.end, GIB);
    if (end <= covered) continue;
    const base = Math.max(roundDown(range.start, GIB), covered);
    if (tdmrs.length === maxTdmrs) return -ENOSPC;
    tdmrs.push({ base, size: end - base, pamt4k: NO_PAMT, pamt2m: NO_PAMT, pamt1g: NO_PAMT, reserved: [] });
    covered = end;
  }
  return tdmrs;
}

type PamtSizes = Pick<TdxSysInfo, 'pamt4kEntrySize' | 'pamt2mEntrySize' | 'pamt1gEntrySize'>;

/** Bytes of the three parts of a region's PAMT. @upstream tdmr_get_pamt_sz() */
export function pamtSizes(size: number, entry: PamtSizes): { k4: number; m2: number; g1: number; total: number } {
  const k4 = roundUp((size / PAGE_SIZE) * entry.pamt4kEntrySize, PAGE_SIZE);
  const m2 = roundUp((size / MIB_2) * entry.pamt2mEntrySize, PAGE_SIZE);
  const g1 = roundUp((size / GIB) * entry.pamt1gEntrySize, PAGE_SIZE);
  return { k4, m2, g1, total: k4 + m2 + g1 };
}

/** Where a region's whole PAMT lies. @upstream tdmr_get_pamt() */
export const pamtOf = (tdmr: Tdmr): PamtPart => ({
  base: tdmr.pamt4k.base,
  size: tdmr.pamt4k.size + tdmr.pamt2m.size + tdmr.pamt1g.size,
});

/**
 * Gives each region its PAMT, in one piece. −ENOMEM with the memory of the others still allocated, for the caller to
 * free.
 *
 * @param alloc contiguous memory of so many bytes
 * @upstream tdmr_set_up_pamt()
 */
export function setUpPamts(tdmrs: readonly Tdmr[], entry: PamtSizes, alloc: (bytes: number) => Hpa | undefined): Errno {
  for (const tdmr of tdmrs) {
    const { k4, m2, g1, total } = pamtSizes(tdmr.size, entry);
    const base = alloc(total);
    if (base === undefined) return -ENOMEM;
    tdmr.pamt4k = { base, size: k4 };
    tdmr.pamt2m = { base: base + k4, size: m2 };
    tdmr.pamt1g = { base: base + k4 + m2, size: g1 };
  }
  return 0;
}

/** Holes and PAMTs in each region, sorted; −ENOSPC if there are too many. @upstream tdmr_populate_rsvd_areas() */
export function populateReservedAreas(
  tdmrs: readonly Tdmr[],
  memory: readonly MemoryRange[],
  maxReserved: number,
): Errno {
  for (const tdmr of tdmrs) {
    const areas = [...holesOf(tdmr, memory), ...pamtsIn(tdmr, tdmrs)];
    if (areas.length > maxReserved) return -ENOSPC;
    tdmr.reserved = areas.sort((a, b) => a.offset - b.offset);
  }
  return 0;
}

/** @upstream tdmr_populate_rsvd_holes() */
function holesOf(tdmr: Tdmr, memory: readonly MemoryRange[]): ReservedArea[] {
  const holes: ReservedArea[] = [];
  const end = tdmr.base + tdmr.size;
  let reached = tdmr.base;
  for (const range of memory) {
    if (range.start >= end) break;
    if (range.end <= reached) continue;
    if (range.start > reached) holes.push({ offset: reached - tdmr.base, size: range.start - reached });
    reached = range.end;
  }
  if (reached < end) holes.push({ offset: reached - tdmr.base, size: end - reached });
  return holes;
}

/** A PAMT may lie in any region. @upstream tdmr_populate_rsvd_pamts() */
function pamtsIn(tdmr: Tdmr, all: readonly Tdmr[]): ReservedArea[] {
  const areas: ReservedArea[] = [];
  for (const other of all) {
    const pamt = pamtOf(other);
    const start = Math.max(pamt.base, tdmr.base);
    const end = Math.min(pamt.base + pamt.size, tdmr.base + tdmr.size);
    if (start < end) areas.push({ offset: start - tdmr.base, size: end - start });
  }
  return areas;
}

/** TDMR_INFO, as 64-bit words in its order. */
export function tdmrInfoWords(tdmr: Tdmr): number[] {
  const { pamt1g, pamt2m, pamt4k } = tdmr;
  return [
    tdmr.base,
    tdmr.size,
    ...[pamt1g, pamt2m, pamt4k].flatMap(({ base, size }) => [base, size]),
    ...tdmr.reserved.flatMap(({ offset, size }) => [offset, size]),
  ];
}
