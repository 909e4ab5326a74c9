/**
 * The guest's paging: linear to guest-physical in all paging modes, rights, faults, accessed and dirty flags; then
 * through EPT where it is in use.
 * @sdm "Paging"
 */
import type { Gpa, Hpa } from '../../util/address.ts';
import { RAM_BASE } from '../engine/layout.ts';
import { FAULT, PF } from '../outcome.ts';
import type { Processor } from '../processor.ts';
import { guestPhysicalApicAccess, inApicAccessPage } from '../vtx/apic-access.ts';
import { EPT_EXECUTE, EPT_READ, EPT_WRITE, eptTranslate, FINAL_ACCESS, tableIndex, WALK_ACCESS } from './ept.ts';
import { machineChecks, readWord, writeWord } from './keyed-access.ts';
import { type Mmu, NEED_FETCH, NEED_SMAP, NEED_USER, NEED_WRITE, PAGING_32BIT, PAGING_PAE } from './state.ts';

/** Bits of paging-structure entries, and of the page-fault error code. */
const PRESENT = 1;
const WRITABLE = 2;
const USER = 4;
const ACCESSED = 0x20;
const DIRTY = 0x40;
const PAGE_SIZE_BIT = 0x80;
const GLOBAL = 0x100;
const ERROR_PRESENT = 1;
const ERROR_WRITE = 2;
const ERROR_USER = 4;
const ERROR_RESERVED = 8;
const ERROR_FETCH = 16;
const ERROR_KEY = 32;
/** The protection key in the upper half of an entry. */
const KEY_SHIFT = 27;

const HIGH = 0x1_0000_0000;

// The entries of the walk under way, by level; 0 is the page table.
const entryGpa: Float64Array = new Float64Array(5);
const entryHpa: Float64Array = new Float64Array(5);
const entryLow: Uint32Array = new Uint32Array(5);

/**
 * Translates a linear address for one access and leaves the result in the Mmu (hpa, gpa, rights). Sets accessed and dirty
 * flags. False where it faults or exits: p.outcome is FAULT or VMEXIT.
 * @param need NEED_… bits
 */
export function walk(p: Processor, m: Mmu, low: number, high: number, need: number): boolean {
  m.linearLow = low;
  m.linearHigh = high;
  if (m.paging >= PAGING_PAE) {
    if (!walkLong(p, m, need)) return false;
  } else if (m.paging === PAGING_32BIT) {
    if (!walkLegacy(p, m, need)) return false;
  } else {
    m.gpa = low + high * HIGH;
    m.pageShift = 12;
    m.user = true;
    m.writable = true;
    m.noExecute = false;
    m.global = false;
    m.dirty = true;
  }
  if (!m.ept) {
    m.hpa = m.gpa;
    return true;
  }
  // A TD fetches from private memory only.
  if (m.gpa >= m.sharedBase && need & NEED_FETCH) return pageFault(p, m, need, ERROR_PRESENT | ERROR_RESERVED);
  const eptNeed = need & NEED_FETCH ? EPT_EXECUTE : need & NEED_WRITE ? EPT_WRITE : EPT_READ;
  m.hpa = eptTranslate(p, m, m.gpa, eptNeed, FINAL_ACCESS);
  return m.hpa >= 0;
}

/** Entries of 8 bytes: PAE, 4-level and 5-level paging. */
function walkLong(p: Processor, m: Mmu, need: number): boolean {
  const { linearLow: low, linearHigh: high, paging, ramSize, owners } = m;
  const { words } = m.tlb;
  let table: Gpa = m.root;
  let top: number = paging;
  if (paging === PAGING_PAE) {
    const pdpte = p.pdpte[low >>> 30]!;
    if ((pdpte & 1n) === 0n) return pageFault(p, m, need, 0);
    table = Number(pdpte & 0xf_ffff_ffff_f000n);
    top = 1;
  }
  let rights = WRITABLE | USER;
  let noExecute = false;
  let key = 0;
  let accessed = ACCESSED;
  let level = top;
  for (; ; level--) {
    const at = table + tableIndex(low, high, level) * 8;
    const hpa = entryAddress(p, m, at, need);
    if (hpa < 0) return false;
    let entry: number;
    let upper: number;
    // perf: the page-walk benchmark; readWord does the same for all of memory.
    if (hpa < ramSize && owners[hpa >>> 12] === m.keyId) {
      const word = (RAM_BASE + hpa) >>> 2;
      entry = words[word]!;
      upper = words[word + 1]!;
    } else {
      if (machineChecks(p, hpa, 8, m.keyId)) return false;
      entry = readWord(p, hpa, m.keyId);
      upper = readWord(p, hpa + 4, m.keyId);
    }
    if ((entry & PRESENT) === 0) return pageFault(p, m, need, 0);
    if (upper & m.reservedHigh) return pageFault(p, m, need, ERROR_PRESENT | ERROR_RESERVED);
    entryGpa[level] = at;
    entryHpa[level] = hpa;
    entryLow[level] = entry;
    rights &= entry;
    accessed &= entry;
    if (upper & 0x8000_0000) noExecute = true;
    key = (upper >>> KEY_SHIFT) & 15;
    table = (upper & 0xfffff) * HIGH + ((entry & 0xffff_f000) >>> 0);
    if (level === 0) break;
    if (entry & PAGE_SIZE_BIT) {
      const reserved = level === 1 ? 0x1f_e000 : level === 2 ? 0x3fff_e000 : PAGE_SIZE_BIT;
      if (entry & reserved) return pageFault(p, m, need, ERROR_PRESENT | ERROR_RESERVED);
      break;
    }
  }
  m.user = (rights & USER) !== 0;
  m.writable = (rights & WRITABLE) !== 0;
  m.noExecute = noExecute;
  if (m.protectionKeys) {
    m.key = m.user ? key : 0;
    m.keyDenies = m.user ? (p.pkru >>> (2 * key)) & 3 : 0;
  }
  m.global = m.pge && (entryLow[level]! & GLOBAL) !== 0;
  if (!permitted(m, need))
    return pageFault(p, m, need, keyForbids(m, need) ? ERROR_PRESENT | ERROR_KEY : ERROR_PRESENT);
  m.pageShift = level === 0 ? 12 : level === 1 ? 21 : 30;
  const offsetMask = level === 0 ? 0xfff : level === 1 ? 0x1f_ffff : 0x3fff_ffff;
  // Bit 12 of a large page's entry is its PAT bit.
  m.gpa = table - ((table & offsetMask) >>> 0) + (low & offsetMask);
  return setFlags(p, m, level, top, accessed !== 0, (need & NEED_WRITE) !== 0);
}

/** 32-bit paging, with PSE-36. */
function walkLegacy(p: Processor, m: Mmu, need: number): boolean {
  const low = m.linearLow;
  let at: Gpa = m.root + (low >>> 22) * 4;
  let hpa = entryAddress(p, m, at, need);
  if (hpa < 0 || machineChecks(p, hpa, 4, m.keyId)) return false;
  let entry = readWord(p, hpa, m.keyId);
  if ((entry & PRESENT) === 0) return pageFault(p, m, need, 0);
  entryGpa[1] = at;
  entryHpa[1] = hpa;
  entryLow[1] = entry;
  let rights = entry;
  let accessed = entry;
  let level = 1;
  if (m.pse && entry & PAGE_SIZE_BIT) {
    // Bits 39:32 of the page's address are in bits 20:13.
    const extended = Math.min(m.physicalBits, 40) - 32;
    if (entry & (0x3f_e000 & ~(((1 << extended) - 1) << 13)))
      return pageFault(p, m, need, ERROR_PRESENT | ERROR_RESERVED);
    m.pageShift = 22;
    m.gpa = ((entry >>> 13) & 0xff) * HIGH + ((entry & 0xffc0_0000) >>> 0) + (low & 0x3f_ffff);
  } else {
    level = 0;
    at = ((entry & 0xffff_f000) >>> 0) + ((low >>> 12) & 0x3ff) * 4;
    hpa = entryAddress(p, m, at, need);
    if (hpa < 0 || machineChecks(p, hpa, 4, m.keyId)) return false;
    entry = readWord(p, hpa, m.keyId);
    if ((entry & PRESENT) === 0) return pageFault(p, m, need, 0);
    entryGpa[0] = at;
    entryHpa[0] = hpa;
    entryLow[0] = entry;
    rights &= entry;
    accessed &= entry;
    m.pageShift = 12;
    m.gpa = ((entry & 0xffff_f000) >>> 0) + (low & 0xfff);
  }
  m.user = (rights & USER) !== 0;
  m.writable = (rights & WRITABLE) !== 0;
  m.noExecute = false;
  m.global = m.pge && (entryLow[level]! & GLOBAL) !== 0;
  if (!permitted(m, need)) return pageFault(p, m, need, ERROR_PRESENT);
  return setFlags(p, m, level, 1, (accessed & ACCESSED) !== 0, (need & NEED_WRITE) !== 0);
}

/** Host-physical address of a paging-structure entry for reading, or -1. */
function entryAddress(p: Processor, m: Mmu, gpa: Gpa, need: number): Hpa {
  if (!m.ept) return inApicAccessPage(p.vtx, gpa as number) ? apicAccessByWalk(p) : (gpa as number);
  // A TD's paging structures are private: the shared bit in CR3 or in an entry that names a table is a reserved one.
  if (gpa >= m.sharedBase) {
    pageFault(p, m, need, ERROR_PRESENT | ERROR_RESERVED);
    return -1;
  }
  // With EPT accessed and dirty flags, reads of paging structures count as writes.
  return eptTranslate(p, m, gpa, p.vtx.eptAccessedDirty ? EPT_READ | EPT_WRITE : EPT_READ, WALK_ACCESS);
}

/** Paging structures in the APIC-access page: the access exits. */
function apicAccessByWalk(p: Processor): -1 {
  guestPhysicalApicAccess(p.vtx);
  return -1;
}

/** Data accesses to a page whose key PKRU denies; supervisor writes only with CR0.WP. @sdm "Protection Keys" */
function keyForbids({ keyDenies, writeProtect }: Mmu, need: number): boolean {
  if (keyDenies === 0 || need & NEED_FETCH) return false;
  if (keyDenies & 1) return true;
  return (need & NEED_WRITE) !== 0 && (writeProtect || (need & NEED_USER) !== 0);
}

/** @sdm "Determination of Access Rights" */
function permitted(m: Mmu, need: number): boolean {
  if (m.keyDenies !== 0 && keyForbids(m, need)) return false;
  if (need & NEED_USER) {
    return m.user && (m.writable || (need & NEED_WRITE) === 0) && !(m.noExecute && need & NEED_FETCH);
  }
  if (need & NEED_FETCH) return !m.noExecute && !(m.user && m.smep);
  if (m.user && need & NEED_SMAP) return false;
  return m.writable || !m.writeProtect || (need & NEED_WRITE) === 0;
}

/** Whether a data write of this privilege would be permitted by the guest's tables, after a walk. */
export const writePermitted = (m: Mmu, need: number): boolean =>
  permitted(m, (need & (NEED_USER | NEED_SMAP)) | NEED_WRITE);

/** Sets accessed flags of all entries used and the dirty flag of the last. @sdm "Accessed and Dirty Flags" */
function setFlags(p: Processor, m: Mmu, leaf: number, top: number, accessed: boolean, write: boolean): boolean {
  m.dirty = write || (entryLow[leaf]! & DIRTY) !== 0;
  if (accessed && (!write || (entryLow[leaf]! & DIRTY) !== 0)) return true;
  for (let level = top; level >= leaf; level--) {
    const old = entryLow[level]!;
    const flags = (level === leaf && write ? old | ACCESSED | DIRTY : old | ACCESSED) >>> 0;
    if (flags === old) continue;
    let hpa = entryHpa[level]!;
    if (m.ept) {
      hpa = eptTranslate(p, m, entryGpa[level]!, EPT_READ | EPT_WRITE, WALK_ACCESS);
      if (hpa < 0) return false;
    }
    writeWord(p, hpa, m.keyId, flags);
  }
  return true;
}

/** @sdm "Page-Fault Exceptions" */
function pageFault(p: Processor, m: Mmu, need: number, bits: number): false {
  let error = bits;
  if (need & NEED_WRITE) error |= ERROR_WRITE;
  if (need & NEED_USER) error |= ERROR_USER;
  if (need & NEED_FETCH && m.reportsFetch) error |= ERROR_FETCH;
  m.context.dropLinear(m.linearLow, m.linearHigh);
  p.outcome = FAULT;
  p.raise(PF, error, m.linear);
  return false;
}
