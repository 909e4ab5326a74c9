/**
 * Filling TLB entries from a walk, and which entries a page may have:
 *
 *   read      RAM or ROM, no read breakpoint in it
 *   write     RAM, guest and EPT dirty flags set, no decoded code, no breakpoint in it
 *   execute   RAM or ROM
 *
 * PKRU must allow the access too. The APIC-access page has none, nor has a page that is not wholly of the KeyID it is accessed with.
 */
import { executeOffset, RAM_BASE, TLB_EXECUTE, TLB_READ, TLB_WRITE } from '../engine/layout.ts';
import type { Processor } from '../processor.ts';
import { pageIsWatched } from './breakpoints.ts';
import { EPT_DIRTY, EPT_LARGE, EPT_READ, EPT_WRITE } from './ept.ts';
import { bankFor, needOf } from './select.ts';
import { type Mmu, NEED_WRITE } from './state.ts';
import { entryOffset } from './tlb-banks.ts';
import { type PrivilegeClass, USER_CHECKED } from './tlb-context.ts';
import { writePermitted } from './walk.ts';

/** Bytes, less one, that are entered together. */
const AROUND = 0xffff;

/**
 * After a successful walk for data: enters what the access needs and, into a free entry, what the page may have beside it.
 * An entry in use is left alone: a copy between two pages of the same index would evict its own other half for ever.
 * False where the access the walk was for has no entry, so
 * that it must be done the slow way.
 */
export function fillData(p: Processor, m: Mmu, cls: PrivilegeClass, need: number): boolean {
  const page = m.hpa - (m.hpa & 0xfff);
  const { machine } = p;
  if (page === p.vtx.apicAccessPage || cls === USER_CHECKED) return false;
  if (!machine.memory.isRam(page, 4096)) return fillRom(p, m, cls, need);
  if (m.owners[page >>> 12] !== m.keyId) return false;
  const { linearLow: low, linearHigh: high, context } = m;
  const tag = (low & 0xffff_f000) >>> 0;
  const watched = context.watched !== '';
  const bank = bankFor(p, m, cls);
  const offset = entryOffset(low);
  const forWrite = (need & NEED_WRITE) !== 0;
  let filled = false;
  if ((!m.ept || m.eptRights & EPT_READ) && !(watched && pageIsWatched(p, m.linear, false))) {
    const entry = bank + TLB_READ + offset;
    if (!forWrite || m.tlb.isFree(entry)) {
      m.tlb.fill(entry, tag, high, RAM_BASE + page, page);
      if (!m.global) m.tlb.noteLocal(entry);
      if (m.key !== 0) context.noteKeyed(entry);
    }
    filled = true;
  }
  const writable =
    m.dirty &&
    writePermitted(m, needOf(cls)) &&
    (!m.ept || (m.eptRights & (EPT_WRITE | EPT_DIRTY)) === (EPT_WRITE | EPT_DIRTY));
  if (writable && !(watched && pageIsWatched(p, m.linear, true)) && !machine.engine.hasCode(page)) {
    const entry = bank + TLB_WRITE + offset;
    if (forWrite || m.tlb.isFree(entry)) {
      m.tlb.fillWrite(bank, tag, high, page);
      if (!m.global) m.tlb.noteLocal(entry);
      if (m.key !== 0) context.noteKeyed(entry);
    }
    if (forWrite) filled = true;
  } else if (forWrite) {
    filled = false;
  }
  if (m.pageShift !== 12) {
    context.noteLargePage(low, high, m.pageShift);
    if (filled && !watched && m.key === 0 && (!m.ept || m.eptRights & EPT_LARGE)) fillAround(p, m, bank, forWrite);
  }
  return filled;
}

/** The same for a page that is no RAM: ROM may be read. */
function fillRom(p: Processor, m: Mmu, cls: PrivilegeClass, need: number): boolean {
  const at = p.machine.memory.backing(m.hpa);
  if (at < 0 || m.keyId !== 0 || need & NEED_WRITE || (m.ept && !(m.eptRights & EPT_READ))) return false;
  if (m.context.watched !== '' && pageIsWatched(p, m.linear, false)) return false;
  const page = at - (at & 0xfff);
  const entry = bankFor(p, m, cls) + TLB_READ + entryOffset(m.linearLow);
  m.tlb.fill(entry, (m.linearLow & 0xffff_f000) >>> 0, m.linearHigh, RAM_BASE + page, page);
  if (!m.global) m.tlb.noteLocal(entry);
  if (m.key !== 0) m.context.noteKeyed(entry);
  if (m.pageShift !== 12) m.context.noteLargePage(m.linearLow, m.linearHigh, m.pageShift);
  return true;
}

/**
 * Enters the 64 KiB around the address just entered, where guest and EPT have large pages: a processor would have cached
 * those whole. Entries in use are left alone.
 */
function fillAround(p: Processor, m: Mmu, bank: number, write: boolean): void {
  const { engine, memory } = p.machine;
  const { tlb, owners, keyId, global, linearHigh: high } = m;
  const first = (m.linearLow & ~AROUND) >>> 0;
  const firstPage = m.hpa - (m.linearLow & AROUND);
  if (!memory.isRam(firstPage, AROUND + 1)) return;
  for (let at = 0; at <= AROUND; at += 4096) {
    const low = first + at;
    const page = firstPage + at;
    const entry = bank + (write ? TLB_WRITE : TLB_READ) + entryOffset(low);
    if (!tlb.isFree(entry) || owners[page >>> 12] !== keyId || page === p.vtx.apicAccessPage) continue;
    if (!write) tlb.fill(entry, low, high, RAM_BASE + page, page);
    else if (engine.hasCode(page)) continue;
    else tlb.fillWrite(bank, low, high, page);
    if (!global) tlb.noteLocal(entry);
  }
}

/** After a successful walk for a fetch, with m.hpa in RAM or in ROM's bytes: enters the engine's page of decoded code. False where the page is not the KeyID's. */
export function fillExecute(p: Processor, m: Mmu): boolean {
  const page = m.hpa - (m.hpa & 0xfff);
  const { machine } = p;
  const owner = page < m.ramSize ? m.owners[page >>> 12] : 0;
  if (owner !== m.keyId) return false;
  const { linearLow: low, linearHigh: high, context } = m;
  const mode = p.codeMode;
  const host = machine.engine.codePage(page, mode);
  const bank = bankFor(p, m, m.class);
  context.codeModes[m.class] = mode;
  const entry = bank + TLB_EXECUTE + executeOffset(low);
  m.tlb.fill(entry, (low & 0xffff_f000) >>> 0, high, host, page);
  if (!m.global) m.tlb.noteLocal(entry);
  if (m.pageShift !== 12) context.noteLargePage(low, high, m.pageShift);
  return true;
}
