/** Writes of CR0, CR3, CR4 and EFER with the architectural checks and everything that follows from the new value. */

import { hasFeature, profileOf } from '../cpuid/cpuid.ts';
import { cr4Defined } from '../cpuid/cr4-bits.ts';
import { CS } from '../engine/layout.ts';
import { flushTlb, loadPdptes, tlbContextChanged } from '../mmu/tlb.ts';
import { DONE, GP, type Outcome } from '../outcome.ts';
import { updateSlowFlags } from '../processor/slow-flags.ts';
import {
  AR_L,
  CR0_AM,
  CR0_CD,
  CR0_EM,
  CR0_ET,
  CR0_MP,
  CR0_NE,
  CR0_NW,
  CR0_PE,
  CR0_PG,
  CR0_TS,
  CR0_WP,
  CR4_LA57,
  CR4_PAE,
  CR4_PCIDE,
  CR4_PGE,
  CR4_PSE,
  CR4_SMEP,
  EFER_LMA,
  EFER_LME,
  EFER_NXE,
  EFER_SCE,
  type Processor,
} from '../processor.ts';

const CR0_DEFINED = CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG;
/** CR0 bits whose change reloads the PDPTEs under PAE paging. */
const CR0_RELOADS = CR0_PG | CR0_CD | CR0_NW;
const CR4_RELOADS = CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP;
const TSS16_AVAILABLE = 1;
const TSS16_BUSY = 3;
/** CR3 bit 63 under PCIDE: keep the TLB. */
const CR3_KEEP = 1n << 63n;

const pagingOn = (cr0: number): boolean => (cr0 & CR0_PG) !== 0;

/** PAE paging: four PDPTE registers. */
const usesPdptes = (cr0: number, cr4: number, efer: number): boolean =>
  pagingOn(cr0) && (cr4 & CR4_PAE) !== 0 && !(efer & EFER_LME);

/** Everything derived from CR0, CR4, EFER and CS.L is computed anew. */
function modeChanged(p: Processor): void {
  p.syncSegments();
  updateSlowFlags(p);
  tlbContextChanged(p);
}

function cr0Faults(p: Processor, value: number): boolean {
  if (value & CR0_NW && !(value & CR0_CD)) return true;
  if (pagingOn(value) && !(value & CR0_PE)) return true;
  if (!p.vtx.cr0Allowed(value)) return true;
  if (pagingOn(value) && !pagingOn(p.cr0) && p.efer & EFER_LME) {
    if (!(p.cr4 & CR4_PAE) || p.segments[CS]!.attributes & AR_L) return true;
    const type = p.tr.attributes & 15;
    return type === TSS16_AVAILABLE || type === TSS16_BUSY;
  }
  return pagingOn(p.cr0) && !pagingOn(value) && (p.mode64 || (p.cr4 & CR4_PCIDE) !== 0);
}

/**
 * MOV to CR0 as the instruction does it after privilege and VM-exit checks.
 * @sdm "MOV—Move to/from Control Registers"; "Initializing IA-32e Mode"
 */
export function writeCr0(p: Processor, value: bigint): Outcome {
  if (value >> 32n) return p.raise(GP, 0);
  const cr0 = ((Number(value) & CR0_DEFINED) | CR0_ET) >>> 0;
  if (cr0Faults(p, cr0)) return p.raise(GP, 0);
  const changed = p.cr0 ^ cr0;
  if (changed & CR0_RELOADS && usesPdptes(cr0, p.cr4, p.efer)) {
    const loaded = loadPdptes(p, p.cr3);
    if (loaded !== DONE) return loaded;
  }
  // all checks passed
  if (changed === 0) return DONE;
  p.cr0 = cr0;
  if (changed & CR0_PG) {
    p.efer = pagingOn(cr0) && p.efer & EFER_LME ? p.efer | EFER_LMA : p.efer & ~EFER_LMA;
    flushTlb(p, { global: true });
  }
  if (changed & (CR0_PG | CR0_PE | CR0_WP)) modeChanged(p);
  else updateSlowFlags(p);
  return DONE;
}

/** MOV to CR3 after privilege and VM-exit checks. @sdm "MOV—Move to/from Control Registers"; "Operations that Invalidate TLBs" */
export function writeCr3(p: Processor, value: bigint): Outcome {
  const pcide = (p.cr4 & CR4_PCIDE) !== 0;
  const cr3 = pcide ? value & ~CR3_KEEP : value;
  // A private KeyID is as bits that no address has; behind EPT the address carries none yet.
  const privateKeys = p.mmu.ept ? 0n : BigInt(p.mmu.privateKeys) << 32n;
  if (cr3 >> BigInt(profileOf(p).physicalAddressBits) || cr3 & privateKeys) return p.raise(GP, 0);
  if (usesPdptes(p.cr0, p.cr4, p.efer)) {
    const loaded = loadPdptes(p, cr3);
    if (loaded !== DONE) return loaded;
  }
  // all checks passed
  p.cr3 = cr3;
  tlbContextChanged(p);
  if (!pcide || !(value & CR3_KEEP)) flushTlb(p);
  return DONE;
}

function cr4Faults(p: Processor, value: number): boolean {
  if (value & ~cr4Defined(profileOf(p).features)) return true;
  if (!p.vtx.cr4Allowed(value)) return true;
  const changed = p.cr4 ^ value;
  if (p.longMode && (!(value & CR4_PAE) || changed & CR4_LA57)) return true;
  if (changed & value & CR4_PCIDE && (!p.longMode || p.cr3 & 0xfffn)) return true;
  return false;
}

/** MOV to CR4 after privilege and VM-exit checks. @sdm "MOV—Move to/from Control Registers"; "Operations that Invalidate TLBs" */
export function writeCr4(p: Processor, value: bigint): Outcome {
  if (value >> 32n) return p.raise(GP, 0);
  const cr4 = Number(value);
  if (cr4Faults(p, cr4)) return p.raise(GP, 0);
  const changed = p.cr4 ^ cr4;
  if (changed & CR4_RELOADS && usesPdptes(p.cr0, cr4, p.efer)) {
    const loaded = loadPdptes(p, p.cr3);
    if (loaded !== DONE) return loaded;
  }
  // all checks passed
  p.cr4 = cr4;
  if (changed & (CR4_PGE | CR4_PAE | CR4_PSE | CR4_LA57 | CR4_PCIDE) || changed & cr4 & CR4_SMEP)
    flushTlb(p, { global: true });
  if (changed) modeChanged(p);
  return DONE;
}

/**
 * WRMSR of IA32_EFER; false for #GP. LMA cannot be written.
 * @sdm "Extended Feature Enable Register"
 */
export function writeEfer(p: Processor, value: bigint): boolean {
  if (value >> 32n) return false;
  let defined = EFER_LMA;
  if (hasFeature(p, 'syscall')) defined |= EFER_SCE;
  if (hasFeature(p, 'lm')) defined |= EFER_LME;
  if (hasFeature(p, 'nx')) defined |= EFER_NXE;
  const wanted = Number(value);
  if (wanted & ~defined) return false;
  const efer = (wanted & ~EFER_LMA) | (p.efer & EFER_LMA);
  const changed = p.efer ^ efer;
  if (changed & EFER_LME && pagingOn(p.cr0)) return false;
  p.efer = efer;
  if (changed & EFER_SCE) updateSlowFlags(p);
  if (changed & EFER_NXE) {
    flushTlb(p, { global: true });
    tlbContextChanged(p);
  }
  return true;
}
