/**
 * Entries of the EPT paging structures that KVM writes.
 *
 *   2:0 R W X   5:3 memory type   7 large   8 A   9 D   51:12 address   57 host-writable   58 MMU-writable
 *
 * MMIO entries are misconfigured on purpose (W and X without R), so that an access exits with a reason of its own:
 *
 *   2:0 110   10:3 and 61:52 generation of the memory slots   51:12 guest frame
 *
 * @upstream arch/x86/kvm/mmu/spte.h, spte.c
 */
import type { Gfn, Hpa } from '../../../util/address.ts';

export const EPT_READABLE = 1n;
export const EPT_WRITABLE = 2n;
export const EPT_EXECUTABLE = 4n;
export const EPT_LARGE = 0x80n;
export const EPT_ACCESSED = 0x100n;
export const EPT_DIRTY = 0x200n;
/** User space allows writes to the page (it is in no read-only slot). */
export const SPTE_HOST_WRITABLE: bigint = 1n << 57n;
/** KVM may make the entry writable without looking at slots: it was write-protected for the dirty log. */
export const SPTE_MMU_WRITABLE: bigint = 1n << 58n;
export const SPTE_ADDRESS_MASK = 0xf_ffff_ffff_f000n;

const PRESENT_MASK: bigint = EPT_READABLE | EPT_WRITABLE | EPT_EXECUTABLE;
/** MMIO entries of ordinary VMs: a misconfiguration. */
export const SHADOW_MMIO_VALUE: bigint = EPT_WRITABLE | EPT_EXECUTABLE;
const MMIO_VALUE: bigint = SHADOW_MMIO_VALUE;
const GENERATION_LOW_MASK = 0xffn;
/** Generations are compared in 18 bits. */
const GENERATION_MASK = 0x3_ffffn;

/** @upstream is_shadow_present_pte() */
export const isShadowPresentPte = (spte: bigint): boolean => (spte & PRESENT_MASK) !== 0n && !isMmioSpte(spte);
/** @upstream is_mmio_spte() */
export const isMmioSpte = (spte: bigint): boolean => (spte & PRESENT_MASK) === MMIO_VALUE;
export const isLargePte = (spte: bigint): boolean => (spte & EPT_LARGE) !== 0n;
export const spteAddress = (spte: bigint): Hpa => Number(spte & SPTE_ADDRESS_MASK);

/** An entry that leads to the next table. @upstream make_nonleaf_spte() */
export const makeNonleafSpte = (table: Hpa): bigint => BigInt(table) | PRESENT_MASK;

/** A leaf. @upstream make_spte() */
export function makeSpte(
  hpa: Hpa,
  level: number,
  writable: boolean,
  hostWritable: boolean,
  memoryType: bigint,
): bigint {
  let spte = BigInt(hpa) | EPT_READABLE | EPT_EXECUTABLE | memoryType | EPT_ACCESSED;
  if (level > 1) spte |= EPT_LARGE;
  if (hostWritable) spte |= SPTE_HOST_WRITABLE | SPTE_MMU_WRITABLE;
  if (writable) spte |= EPT_WRITABLE | EPT_DIRTY;
  return spte;
}

/** @upstream make_mmio_spte() */
export function makeMmioSpte(gfn: Gfn, generation: number): bigint {
  const gen = BigInt(generation) & GENERATION_MASK;
  return MMIO_VALUE | ((gen & GENERATION_LOW_MASK) << 3n) | (BigInt(gfn) << 12n) | ((gen >> 8n) << 52n);
}
/** The generation of an MMIO entry. @upstream get_mmio_spte_generation() */
export const mmioSpteGeneration = (spte: bigint): number =>
  Number(((spte >> 3n) & GENERATION_LOW_MASK) | (((spte >> 52n) & 0x3ffn) << 8n));
/** Whether an MMIO entry was made with the present slots. */
export const mmioSpteIsCurrent = (spte: bigint, generation: number): boolean =>
  mmioSpteGeneration(spte) === Number(BigInt(generation) & GENERATION_MASK);
