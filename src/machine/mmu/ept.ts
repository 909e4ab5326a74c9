/**
 * Extended page tables: guest-physical to host-physical, with rights, accessed and dirty flags, misconfigurations and the
 * exact qualification of violations.
 * @sdm "The Extended Page Table Mechanism (EPT)"
 */
import type { Gpa, Hpa } from '../../util/address.ts';
import { RAM_BASE } from '../engine/layout.ts';
import { VMEXIT } from '../outcome.ts';
import type { Processor } from '../processor.ts';
import { guestPhysicalApicAccess, inApicAccessPage } from '../vtx/apic-access.ts';
import { KEY_MASK_HIGH, machineChecks, readWord, withoutKey, writeWord } from './keyed-access.ts';
import type { Mmu } from './state.ts';

/** EPT rights, as in an entry; also what an access needs. */
export const EPT_READ = 1;
export const EPT_WRITE = 2;
export const EPT_EXECUTE = 4;
/** Beside rights: a write needs to set no dirty flag. */
export const EPT_DIRTY = 8;
/** Beside rights: the page is part of a larger one. */
export const EPT_LARGE = 16;

/** The access is to the translation of the linear address in the Mmu. */
export const FINAL_ACCESS = 0;
/** The access is to a guest paging-structure entry on behalf of that linear address. */
export const WALK_ACCESS = 1;
/** There is no linear address: PDPTE loads by MOV to a control register. */
export const NO_LINEAR_ACCESS = 2;
export type EptAccessKind = 0 | 1 | 2;

const PAGE_SIZE_BIT = 0x80;
const ACCESSED = 0x100;
const DIRTY = 0x200;

/** Bit 63 of an entry, in its upper half: violations that it causes are not made virtualization exceptions. */
const SUPPRESS_VE = 0x8000_0000;

const QUALIFY_FINAL = 0x100;
const QUALIFY_USER = 0x200;
const QUALIFY_WRITABLE = 0x400;
const QUALIFY_NO_EXECUTE = 0x800;

const entryAt: Float64Array = new Float64Array(5);
const entryLow: Uint32Array = new Uint32Array(5);

/**
 * Host-physical address of a guest-physical one, or -1 where the access causes a VM exit: then p.outcome is VMEXIT and the
 * exit is recorded. On success m.eptRights tells what else the page allows.
 * @param need EPT_READ | EPT_WRITE | EPT_EXECUTE
 */
export function eptTranslate(p: Processor, m: Mmu, gpa: Gpa, need: number, kind: EptAccessKind): Hpa {
  m.keyId = gpa < m.sharedBase ? m.hkid : 0;
  const rights = m.eptCache.rights(gpa);
  const wanted = need & EPT_WRITE ? need | EPT_DIRTY : need;
  if ((rights & wanted) === wanted) {
    m.eptRights = rights;
    return m.eptCache.page(gpa) + (gpa & 0xfff);
  }
  return walk(p, m, gpa, need, kind);
}

function walk(p: Processor, m: Mmu, gpa: Gpa, need: number, kind: EptAccessKind): Hpa {
  const { vtx } = p;
  const { ramSize, owners, keyId } = m;
  const { words } = m.tlb;
  const high = Math.floor(gpa / 0x1_0000_0000);
  const low = gpa >>> 0;
  const top = vtx.eptLevels - 1;
  if (top === 3 && high >= 0x10000) return violation(p, m, gpa, need, kind, 0, SUPPRESS_VE);
  let table: Hpa = gpa < m.sharedBase ? vtx.eptRoot : vtx.sharedEptRoot;
  const beyond = m.aboveWidth | (keyId === 0 ? m.privateKeys : KEY_MASK_HIGH);
  let rights = EPT_READ | EPT_WRITE | EPT_EXECUTE;
  let level = top;
  let upper: number;
  for (; ; level--) {
    const at = table + tableIndex(low, high, level) * 8;
    let entry: number;
    // perf: the page-walk benchmark; readWord does the same for all of memory.
    if (at < ramSize && owners[at >>> 12] === keyId) {
      const word = (RAM_BASE + at) >>> 2;
      entry = words[word]!;
      upper = words[word + 1]!;
    } else {
      if (machineChecks(p, at, 8, keyId)) return -1;
      entry = readWord(p, at, keyId);
      upper = readWord(p, at + 4, keyId);
    }
    if ((entry & 7) === 0) return violation(p, m, gpa, need, kind, 0, upper);
    if (keyId !== 0) upper = withoutKey(upper, keyId);
    if (misconfigured(entry, upper, level, beyond)) {
      m.eptCache.drop(gpa);
      p.outcome = vtx.eptMisconfiguration(gpa);
      return -1;
    }
    rights &= entry;
    entryAt[level] = at;
    entryLow[level] = entry;
    table = (upper & 0xfffff) * 0x1_0000_0000 + ((entry & 0xffff_f000) >>> 0);
    if (level === 0 || entry & PAGE_SIZE_BIT) break;
  }
  if ((rights & need) !== need) return violation(p, m, gpa, need, kind, rights, upper);
  const write = (need & EPT_WRITE) !== 0;
  if (vtx.eptAccessedDirty && !setFlags(p, gpa, top, level, write)) return -1;

  const dirty = !vtx.eptAccessedDirty || write || (entryLow[level]! & DIRTY) !== 0;
  const hpa = table + (low & (level === 0 ? 0xfff : level === 1 ? 0x1f_ffff : 0x3fff_ffff));
  m.eptRights = (rights & 7) | (dirty ? EPT_DIRTY : 0) | (level > 0 ? EPT_LARGE : 0);
  if (inApicAccessPage(vtx, hpa)) {
    // Only accesses by linear address are virtualized.
    if (kind === FINAL_ACCESS) return hpa;
    guestPhysicalApicAccess(vtx);
    return -1;
  }
  m.eptCache.fill(gpa, hpa - (low & 0xfff), m.eptRights);
  return hpa;
}

/** Index into the table of a level (0 is the page table), from a physical or linear address. */
export function tableIndex(low: number, high: number, level: number): number {
  switch (level) {
    case 0:
      return (low >>> 12) & 0x1ff;
    case 1:
      return (low >>> 21) & 0x1ff;
    case 2:
      return ((high << 2) | (low >>> 30)) & 0x1ff;
    case 3:
      return (high >>> 7) & 0x1ff;
    default:
      return (high >>> 16) & 0x1ff;
  }
}

/** @sdm "EPT Misconfigurations" */
function misconfigured(entry: number, upper: number, level: number, aboveWidth: number): boolean {
  if ((entry & 3) === EPT_WRITE) return true;
  if (upper & aboveWidth) return true;
  if (level >= 3) return (entry & 0xf8) !== 0;
  if (level > 0 && (entry & PAGE_SIZE_BIT) === 0) return (entry & 0x78) !== 0;
  const memoryType = (entry >>> 3) & 7;
  if (memoryType === 2 || memoryType === 3 || memoryType === 7) return true;
  return level === 0 ? false : level === 1 ? (entry & 0x1f_f000) !== 0 : (entry & 0x3fff_f000) !== 0;
}

/**
 * Sets the accessed flags of the entries used and, for a write, the dirty flag of the last one. False where
 * page-modification logging exits instead.
 * @sdm "Accessed and Dirty Flags for EPT", "Page-Modification Logging"
 */
function setFlags(p: Processor, gpa: Gpa, top: number, leaf: number, write: boolean): boolean {
  let complete = true;
  for (let level = leaf; level <= top; level++) if ((entryLow[level]! & ACCESSED) === 0) complete = false;
  const makesDirty = write && (entryLow[leaf]! & DIRTY) === 0;
  if (complete && !makesDirty) return true;
  if (p.vtx.pml && p.vtx.pmlFullExits()) {
    p.outcome = VMEXIT;
    return false;
  }
  for (let level = leaf; level <= top; level++) {
    const old = entryLow[level]!;
    const flags = (level === leaf && write ? old | ACCESSED | DIRTY : old | ACCESSED) >>> 0;
    if (flags !== old) writeWord(p, entryAt[level]!, p.mmu.keyId, flags);
  }
  if (makesDirty) p.vtx.logDirtyPage(gpa);
  return true;
}

/**
 * @param upper upper half of the entry that is not present, or of the one that maps the page
 * @sdm "EPT Violations", and "Exit Qualification for EPT Violations"
 */
function violation(
  p: Processor,
  m: Mmu,
  gpa: Gpa,
  need: number,
  kind: EptAccessKind,
  rights: number,
  upper: number,
): Hpa {
  m.eptCache.drop(gpa);
  const convertible = (upper & SUPPRESS_VE) === 0;
  let qualification = need | (rights << 3);
  if (kind === NO_LINEAR_ACCESS) {
    p.outcome = p.vtx.eptViolation(gpa, undefined, qualification, convertible);
    return -1;
  }
  m.context.dropLinear(m.linearLow, m.linearHigh);
  if (kind === FINAL_ACCESS) {
    qualification |= QUALIFY_FINAL;
    if (m.user) qualification |= QUALIFY_USER;
    if (m.writable) qualification |= QUALIFY_WRITABLE;
    if (m.noExecute) qualification |= QUALIFY_NO_EXECUTE;
  }
  p.outcome = p.vtx.eptViolation(gpa, m.linear, qualification, convertible);
  return -1;
}
