/** Rules that host-state and guest-state checks share; 64-bit fields are looked at in halves. */
import { EFER_LMA, EFER_LME, EFER_NXE, EFER_SCE } from '../processor.ts';
import { F } from './field-slots.ts';
import type { Vmcs } from './vmcs.ts';
import type { Vtx } from './vtx.ts';

/** No bits at or above the physical-address width. */
export const isPhysical = (v: Vtx, vmcs: Vmcs, slot: number): boolean => vmcs.high(slot) >>> v.addressShift === 0;

/** A physical address of a page. */
export const isPageAddress = (v: Vtx, vmcs: Vmcs, slot: number): boolean =>
  (vmcs.low(slot) & 0xfff) === 0 && isPhysical(v, vmcs, slot);

/** All bits from the highest translated one up are equal. */
export function isCanonicalField(v: Vtx, vmcs: Vmcs, slot: number): boolean {
  const top = (vmcs.high(slot) | 0) >> (v.capabilities.linearAddressBits - 33);
  return top === 0 || top === -1;
}

/** Each byte one of 0, 1, 4, 5, 6, 7. @sdm "Page Attribute Table (PAT)" */
export function isPat(vmcs: Vmcs, slot: number): boolean {
  for (const half of [vmcs.low(slot), vmcs.high(slot)]) {
    if (half & 0xf8f8_f8f8) return false;
    // 2 and 3: bit 1 without bit 2.
    if ((half >>> 1) & ~(half >>> 2) & 0x0101_0101) return false;
  }
  return true;
}

const EFER_DEFINED = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;

/** No reserved bits, LMA as given. */
export const isEfer = (vmcs: Vmcs, slot: number, lma: boolean): boolean =>
  vmcs.high(slot) === 0 && (vmcs.low(slot) & ~EFER_DEFINED) === 0 && ((vmcs.low(slot) & EFER_LMA) !== 0) === lma;

const MSR_ENTRY_BYTES = 16;

/** An MSR list of `count` entries of 16 bytes: aligned, and all of it within the physical-address width. */
export function isMsrList(v: Vtx, vmcs: Vmcs, addressSlot: number, countSlot: number, maximum: number): boolean {
  const count = vmcs.low(countSlot);
  if (count === 0) return true;
  if (count > maximum || vmcs.low(addressSlot) & 15 || !isPhysical(v, vmcs, addressSlot)) return false;
  return vmcs.address(addressSlot) + count * MSR_ENTRY_BYTES <= 2 ** (32 + v.addressShift);
}

/** The VMCS link pointer says "none". */
export const noLinkPointer = (vmcs: Vmcs): boolean =>
  vmcs.low(F.VMCS_LINK_POINTER) === 0xffff_ffff && vmcs.high(F.VMCS_LINK_POINTER) === 0xffff_ffff;
