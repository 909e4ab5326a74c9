/**
 * Choosing the TLB bank: after anything that changes how linear addresses translate, tlbContextChanged() decodes the
 * controls, finds the context and publishes its bank to generated code.
 */
import type { CodeMode } from '../engine/code-mode.ts';
import { BANK_AC_CLEAR, BANK_AC_SET, BANK_USER, LINEAR_SHIFT, TLB_BASE } from '../engine/layout.ts';
import {
  CR0_AM,
  CR0_PG,
  CR0_WP,
  CR4_LA57,
  CR4_PAE,
  CR4_PCIDE,
  CR4_PGE,
  CR4_PKE,
  CR4_PSE,
  CR4_SMAP,
  CR4_SMEP,
  EFER_LMA,
  EFER_NXE,
  FLAG_AC,
  type Processor,
} from '../processor.ts';
import { dataBreakpoints } from './breakpoints.ts';
import { EptCache } from './ept-cache.ts';
import {
  type Mmu,
  NEED_SMAP,
  NEED_USER,
  PAGING_4LEVEL,
  PAGING_5LEVEL,
  PAGING_32BIT,
  PAGING_OFF,
  PAGING_PAE,
  type PagingMode,
} from './state.ts';
import { EMPTY_BANK } from './tlb-banks.ts';
import {
  MODE_KEYS,
  type PrivilegeClass,
  SUPERVISOR,
  SUPERVISOR_SMAP,
  TlbContext,
  USER,
  USER_CHECKED,
} from './tlb-context.ts';

/** Contexts that a processor keeps; the least recently used one beyond that is dropped. */
const MAX_CONTEXTS = 48;
/** EPT caches that a processor keeps. */
const MAX_EPT_CACHES = 8;

/**
 * To be called after a change of CR0, CR3, CR4, EFER, CPL, RFLAGS.AC, the code mode (see segmentChanged), the debug registers, the
 * VPID or the EPT pointer, VM entries and exits included. Flushes nothing by itself: see invalidate.ts for what
 * instructions must flush.
 */
export function tlbContextChanged(p: Processor): void {
  const m = p.mmu;
  const { vtx } = p;
  if (
    p.cr3 !== m.cr3 ||
    p.cr0 !== m.cr0 ||
    p.cr4 !== m.cr4 ||
    p.efer !== m.efer ||
    vtx.vpid !== m.vpid ||
    vtx.eptp !== m.eptp ||
    vtx.ept !== m.ept ||
    vtx.seamHkid !== m.hkid ||
    vtx.sharedBase !== m.sharedBase
  ) {
    decode(p, m);
  }
  const { context } = m;
  context.used = ++m.tlb.clock;
  if ((p.dr7 & 0xff) !== 0 || context.watched !== '') {
    const watched = dataBreakpoints(p);
    if (watched !== context.watched) {
      context.watched = watched;
      context.flush();
    }
  }

  m.implicitClass = m.smap ? SUPERVISOR_SMAP : SUPERVISOR;
  m.class = classInForce(p, m);
  publish(p, m);
}

/** To be called after a load of a segment register: the code mode depends on what ES, CS, SS and DS are. */
export function segmentChanged(p: Processor): void {
  const m = p.mmu;
  if (m.context.codeModes[m.class] !== p.codeMode) publish(p, m);
}

/** After generated code has switched banks (STAC, CLAC, events, returns, system calls): the class follows CPL and RFLAGS.AC. */
export function followBank(p: Processor): void {
  p.mmu.class = classInForce(p, p.mmu);
}

function classInForce(p: Processor, m: Mmu): PrivilegeClass {
  if (p.cpl === 3) return p.cr0 & CR0_AM && p.flagsRest & FLAG_AC ? USER_CHECKED : USER;
  return m.smap && (p.flagsRest & FLAG_AC) === 0 ? SUPERVISOR_SMAP : SUPERVISOR;
}

/** Points generated code at the bank of the class in force, and at those it may switch to. */
function publish(p: Processor, m: Mmu): void {
  const { context } = m;
  const mode = p.codeMode;
  const bank = context.banks[m.class];
  if (bank !== 0 && context.codeModes[m.class] !== mode) {
    context.codeModes[m.class] = mode;
    m.tlb.flushExecute(bank);
  }
  p.write32(TLB_BASE, bank === 0 ? EMPTY_BANK : bank);
  const set = bankOf(context, SUPERVISOR, mode);
  p.write32(BANK_AC_SET, set);
  p.write32(BANK_AC_CLEAR, m.smap ? bankOf(context, SUPERVISOR_SMAP, mode) : set);
  p.write32(BANK_USER, bankOf(context, USER, mode));
}

/** A bank that generated code may switch to: 0 where there is none, or its execute entries are for another code mode. */
function bankOf({ banks, codeModes }: TlbContext, cls: PrivilegeClass, mode: CodeMode): number {
  return codeModes[cls] === mode ? banks[cls] : 0;
}

/** The bank of a class in the current context, allocated and published. */
export function bankFor(p: Processor, m: Mmu, cls: PrivilegeClass): number {
  const { context } = m;
  let bank = context.banks[cls];
  if (bank === 0) {
    bank = context.bank(cls);
    if (cls === m.class) publish(p, m);
  }
  return bank;
}

/** Walk requirements of a privilege class. */
export const needOf = (cls: PrivilegeClass): number =>
  cls >= USER ? NEED_USER : cls === SUPERVISOR_SMAP ? NEED_SMAP : 0;

/** Decodes the controls in force and finds the context they make. */
function decode(p: Processor, m: Mmu): void {
  const { vtx } = p;
  const { cr0, cr4, efer } = p;
  m.cr0 = cr0;
  m.cr3 = p.cr3;
  m.cr4 = cr4;
  m.efer = efer;
  m.vpid = vtx.vpid;
  m.eptp = vtx.eptp;
  m.ept = vtx.ept;
  m.hkid = vtx.seamHkid;
  m.sharedBase = vtx.sharedBase;
  m.keyId = 0;

  const long = (efer & EFER_LMA) !== 0;
  const paging = pagingMode(cr0, cr4, long);
  const pae = paging >= PAGING_PAE;
  const noExecute = pae && (efer & EFER_NXE) !== 0;
  m.paging = paging;
  m.canonicalShift = cr4 & CR4_LA57 ? 24 : 15;
  p.write32(LINEAR_SHIFT, cr4 & CR4_LA57 ? 7 : 16);
  m.root = Number(m.cr3 & (long ? 0xf_ffff_ffff_f000n : 0xffff_f000n));
  m.writeProtect = (cr0 & CR0_WP) !== 0;
  m.smep = paging !== PAGING_OFF && (cr4 & CR4_SMEP) !== 0;
  m.smap = paging !== PAGING_OFF && (cr4 & CR4_SMAP) !== 0;
  m.reportsFetch = noExecute || m.smep;
  m.protectionKeys = paging >= PAGING_4LEVEL && (cr4 & CR4_PKE) !== 0;
  m.key = 0;
  m.keyDenies = 0;
  m.pse = (cr4 & CR4_PSE) !== 0;
  m.pge = (cr4 & CR4_PGE) !== 0;
  m.aboveWidth = 0x10_0000 - 2 ** (m.physicalBits - 32);
  // What EPT translates is no host-physical address yet.
  const beyond = m.ept ? m.aboveWidth : m.aboveWidth | m.privateKeys;
  m.reservedHigh = (beyond | (long ? 0 : 0x7ff0_0000) | (noExecute ? 0 : 0x8000_0000)) >>> 0;

  const eptp = m.ept ? Number(m.eptp) : -1;
  const mode =
    paging === PAGING_OFF
      ? 0
      : paging |
        (m.writeProtect ? 8 : 0) |
        (m.smep ? 16 : 0) |
        (noExecute ? 32 : 0) |
        (m.pse ? 64 : 0) |
        (m.protectionKeys ? MODE_KEYS : 0);
  const pcid = cr4 & CR4_PCIDE ? Number(m.cr3 & 0xfffn) : 0;
  const { context } = m;
  if (context.vpid !== m.vpid || context.eptp !== eptp || context.mode !== mode || context.pcid !== pcid) {
    context.current = false;
    m.context = findContext(m, m.vpid, eptp, mode, pcid);
    m.context.current = true;
  }
  if (m.ept && m.eptCache.eptp !== eptp) m.eptCache = findEptCache(m, eptp);
}

function pagingMode(cr0: number, cr4: number, long: boolean): PagingMode {
  if ((cr0 & CR0_PG) === 0) return PAGING_OFF;
  if (long) return cr4 & CR4_LA57 ? PAGING_5LEVEL : PAGING_4LEVEL;
  return cr4 & CR4_PAE ? PAGING_PAE : PAGING_32BIT;
}

function findContext(m: Mmu, vpid: number, eptp: number, mode: number, pcid: number): TlbContext {
  const { contexts } = m;
  let oldest: TlbContext | undefined;
  for (const c of contexts) {
    if (c.pcid === pcid && c.vpid === vpid && c.eptp === eptp && c.mode === mode) return c;
    if (oldest === undefined || c.used < oldest.used) oldest = c;
  }
  if (contexts.length >= MAX_CONTEXTS && oldest !== undefined) {
    oldest.release();
    contexts.splice(contexts.indexOf(oldest), 1);
  }
  const made = new TlbContext(m.tlb, vpid, eptp, mode, pcid);
  contexts.push(made);
  return made;
}

function findEptCache(m: Mmu, eptp: number): EptCache {
  const known = m.eptCaches.find((c) => c.eptp === eptp);
  if (known !== undefined) return known;
  if (m.eptCaches.length >= MAX_EPT_CACHES) m.eptCaches.shift();
  const made = new EptCache(eptp);
  m.eptCaches.push(made);
  return made;
}
