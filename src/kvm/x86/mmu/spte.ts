/**
 * Entries of the EPT paging structures that KVM writes.
 *
 *   2:0 R W X   5:3 memory type   7 large   8 A   9 D   51:12 address   57 host-writable   58 MMU-writable   63 no #VE
 *
 * MMIO entries are misconfigured on purpose (W and X without R), so that an access exits with a reason of its own:
 *
 *   2:0 110   10:3 and 61:52 generation of the memory slots   51:12 guest frame
 *
 * Those of a trust domain have R, W and X clear, and as the only ones bit 63, too: the guest takes #VE and asks for the
 * access in words. Every other entry, present or not, has bit 63: its violations are KVM's business.
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
/** Violations of this entry exit, also where EPT violations may become #VE. */
export const EPT_SUPPRESS_VE: bigint = 1n << 63n;
export const SPTE_ADDRESS_MASK = 0xf_ffff_ffff_f000n;

/** An entry that maps nothing. @upstream SHADOW_NONPRESENT_VALUE */
export const SHADOW_NONPRESENT_VALUE: bigint = 0n | EPT_SUPPRESS_VE;
/** An entry that somebody is changing: whoever meets it tries again later. @upstream FROZEN_SPTE */
export const FROZEN_SPTE: bigint = SHADOW_NONPRESENT_VALUE | 0x5a0n;

const PRESENT_MASK: bigint = EPT_READABLE | EPT_WRITABLE | EPT_EXECUTABLE;
/** MMIO entries of ordinary VMs: a misconfiguration. */
export const SHADOW_MMIO_VALUE: bigint = EPT_WRITABLE | EPT_EXECUTABLE;
/** MMIO entries of trust domains: the guest takes #VE. */
export const SHADOW_MMIO_VALUE_TD = 0n;
/** The bits that tell MMIO entries from others. @upstream shadow_mmio_mask */
const SHADOW_MMIO_MASK: bigint = PRESENT_MASK | EPT_SUPPRESS_VE;
const GENERATION_LOW_MASK = 0xffn;
/** Generations are compared in 18 bits. */
const GENERATION_MASK = 0x3_ffffn;

/** @upstream is_shadow_present_pte() */
export const isShadowPresentPte = (spte: bigint): boolean => {
  const rights = spte & PRESENT_MASK;
  return rights !== 0n && rights !== SHADOW_MMIO_VALUE;
};
/** @param value what MMIO entries of the VM are @upstream is_mmio_spte() */
export const isMmioSpte = (spte: bigint, value: bigint): boolean => (spte & SHADOW_MMIO_MASK) === value;
/** @upstream is_frozen_spte() */
export const isFrozenSpte = (spte: bigint): boolean => spte === FROZEN_SPTE;
export const isLargePte = (spte: bigint): boolean => (spte & EPT_LARGE) !== 0n;
export const spteAddress = (spte: bigint): Hpa => Number(spte & SPTE_ADDRESS_MASK);

/** An entry that leads to the next table. @upstream make_nonleaf_spte() */
export const makeNonleafSpte = (table: Hpa): bigint => BigInt(table) | PRESENT_MASK | EPT_SUPPRESS_VE;

/** A leaf. @upstream make_spte() */
export function makeSpte(
  hpa: Hpa,
  level: number,
  writable: boolean,
  hostWritable: boolean,
  memoryType: bigint,
): bigint {
  let spte = BigInt(hpa) | EPT_READABLE | EPT_EXECUTABLE | memoryType | EPT_ACCESSED | EPT_SUPPRESS_VE;
  if (level > 1) spte |= EPT_LARGE;
  if (hostWritable) spte |= SPTE_HOST_WRITABLE | SPTE_MMU_WRITABLE;
  if (writable) spte |= EPT_WRITABLE | EPT_DIRTY;
  return spte;
}

/** @param value what MMIO entries of the VM are @upstream make_mmio_spte() */
export function makeMmioSpte(gfn: Gfn, generation: number, value: bigint): bigint {
  const gen = BigInt(generation) & GENERATION_MASK;
  return value | ((gen & GENERATION_LOW_MASK) << 3n) | (BigInt(gfn) << 12n) | ((gen >> 8n) << 52n);
}
/** The generation of an MMIO entry. @upstream get_mmio_spte_generation() */
export const mmioSpteGeneration = (spte: bigint): number =>
  Number(((spte >> 3n) & GENERATION_LOW_MASK) | (((spte >> 52n) & 0x3ffn) << 8n));
/** Whether an MMIO entry was made with the present slots. */
export const mmioSpteIsCurrent = (spte: bigint, generation: number): boolean =>
  mmioSpteGeneration(spte) === Number(BigInt(generation) & GENERATION_MASK);
