/**
 * What instructions must make the TLBs forget. Only what this processor has cached is concerned; dropping more than asked
 * is always legal.
 * @sdm "Invalidation of TLBs and Paging-Structure Caches", "Invalidating Cached Translation Information"
 */
import type { Gva, Hpa } from '../../util/address.ts';
import type { Machine } from '../machine.ts';
import type { Processor } from '../processor.ts';
import { halves, splitLinear } from './halves.ts';
import { banksOf } from './tlb-banks.ts';

/** Forgets linear and combined mappings of the current VPID: of the current PCID, or of all with global pages. */
export function flushTlb(p: Processor, options: { readonly global?: boolean } = {}): void {
  const { vpid, context, contexts } = p.mmu;
  for (const c of contexts) {
    if (c.vpid !== vpid) continue;
    if (options.global) c.flush();
    else if (c.pcid === context.pcid) c.flushLocal();
  }
}

/**
 * PKRU gets a value. It belongs to the processor, not to an address space; where it allows more than before, accesses that
 * have no entry find out by themselves.
 */
export function writePkru(p: Processor, value: number): void {
  const denied = value & ~p.pkru;
  p.pkru = value >>> 0;
  if (denied === 0) return;
  for (const c of p.mmu.contexts) if (c.hasKeys) c.forgetKeyed((denied & 3) !== 0);
}

/** INVLPG: one page, in the current PCID, and in the others where it may be global. */
export function invlpg(p: Processor, linear: Gva): void {
  dropPageOf(p, p.mmu.vpid, linear);
}

/** Forgets one linear address under a VPID, whatever the PCID and the EPT pointer. */
function dropPageOf(p: Processor, vpid: number, linear: Gva): void {
  splitLinear(linear);
  const low = halves[0]!;
  const high = halves[1]!;
  for (const c of p.mmu.contexts) if (c.vpid === vpid) c.flushPage(low, high);
}

// INVPCID types; 1 is a whole PCID but its global pages.
const INVPCID_ADDRESS = 0;
const INVPCID_ALL = 2;
const INVPCID_ALL_BUT_GLOBAL = 3;

/** INVPCID with a descriptor that has been checked. */
export function invpcid(p: Processor, type: number, pcid: number, linear: Gva): void {
  const { vpid, contexts } = p.mmu;
  splitLinear(linear);
  const low = halves[0]!;
  const high = halves[1]!;
  for (const c of contexts) {
    if (c.vpid !== vpid) continue;
    if (type === INVPCID_ALL) c.flush();
    else if (type === INVPCID_ALL_BUT_GLOBAL) c.flushLocal();
    else if (c.pcid === pcid) {
      if (type === INVPCID_ADDRESS) c.flushPage(low, high);
      else c.flushLocal();
    }
  }
}

/** Forgets linear and combined mappings of one VPID: VM entries and exits with VPID off do so for VPID 0. */
export function flushVpid(p: Processor, vpid: number): void {
  for (const c of p.mmu.contexts) if (c.vpid === vpid) c.flush();
}

// INVEPT types; 1 is one EP4TA.
const INVEPT_ALL = 2;
/** Bits of an EPT pointer that tag mappings (EP4TA). */
const EP4TA = 0xf_ffff_ffff_f000n;

/** INVEPT with checked operands: guest-physical and combined mappings of one EP4TA or of all. */
export function invept(p: Processor, type: number, eptp: bigint): void {
  const { contexts, eptCaches } = p.mmu;
  const root = Number(eptp & EP4TA);
  const concerns = (other: number): boolean => other !== -1 && (type === INVEPT_ALL || other - (other % 4096) === root);
  for (const c of contexts) if (concerns(c.eptp)) c.flush();
  for (const c of eptCaches) if (concerns(c.eptp)) c.flush();
}

// INVVPID types; 1 is one VPID.
const INVVPID_ADDRESS = 0;
const INVVPID_ALL = 2;
const INVVPID_ALL_BUT_GLOBAL = 3;

/** INVVPID with checked operands. */
export function invvpid(p: Processor, type: number, vpid: number, linear: Gva): void {
  if (type === INVVPID_ADDRESS) return dropPageOf(p, vpid, linear);
  for (const c of p.mmu.contexts) {
    if (type === INVVPID_ALL ? c.vpid === 0 : c.vpid !== vpid) continue;
    if (type === INVVPID_ALL_BUT_GLOBAL) c.flushLocal();
    else c.flush();
  }
}

/** Forgets everything this processor has cached: reset. */
export function flushAll(p: Processor): void {
  for (const c of p.mmu.contexts) c.flush();
  for (const c of p.mmu.eptCaches) c.flush();
}

/** Removes the write entries of a page that now holds decoded code, on all processors. */
export function engineDropWriteEntries(machine: Machine, page: Hpa): void {
  banksOf(machine.memory).dropWriteEntries(page);
}

/** Removes the execute entries of a page, on all processors. */
export function engineDropExecuteEntries(machine: Machine, page: Hpa): void {
  banksOf(machine.memory).dropExecuteEntries(page);
}

/** Removes every entry of a page, on all processors. */
export function dropPage(machine: Machine, page: Hpa): void {
  banksOf(machine.memory).dropPage(page);
}
