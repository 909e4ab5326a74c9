/**
 * What the host may put into a TD VMCS: when interrupts can be posted, and which guest state a debugger may set.
 *
 * @tdx "ABI Reference: Metadata", TD VMCS, write handling
 */
import { CR0_PG, CR4_MCE, EFER_LMA, EFER_LME } from '../../machine/processor.ts';
import { F } from '../../machine/vtx/field-slots.ts';
import { FIELDS } from '../../machine/vtx/fields.ts';
import type { Vmcs } from '../../machine/vtx/vmcs.ts';
import type { Tdcs } from '../objects/tdcs.ts';

const encodingOf = (slot: number): number => FIELDS[slot]!.encoding;

/** What the fields of interrupt posting hold until the host sets them; the low bits of an address cannot be set. */
export const NO_VECTOR = 0xffff;
export const NO_DESCRIPTOR = 0xffff_ffff_ffff_ffc0n;
/** What the address of the page-modification log holds until the host sets it. */
export const NO_LOG = 0xffff_ffff_ffff_f000n;

/** Encoding of the field that interrupt posting needs and the host has not set yet, or null. */
export function unsetForPosting(vmcs: Vmcs): number | null {
  const vector = F.POSTED_INTERRUPT_NOTIFICATION_VECTOR;
  if (vmcs.low(vector) === NO_VECTOR) return encodingOf(vector);
  const descriptor = F.POSTED_INTERRUPT_DESCRIPTOR_ADDRESS;
  return vmcs.get64(descriptor) === NO_DESCRIPTOR ? encodingOf(descriptor) : null;
}

/** A control register as if the TD wrote it: bits that the module owns must look as they do; null if they do not. */
function asIfWritten(vmcs: Vmcs, slot: number, maskSlot: number, shadow: bigint, value: bigint): bigint | null {
  const owned = vmcs.get64(maskSlot);
  if ((value ^ shadow) & owned) return null;
  return (vmcs.get64(slot) & owned) | (value & ~owned);
}

/** IA32_EFER with the LMA that CR0.PG and LME make. */
const withLma = (efer: bigint, cr0: bigint): bigint =>
  efer & BigInt(EFER_LME) && cr0 & BigInt(CR0_PG) ? efer | BigInt(EFER_LMA) : efer & ~BigInt(EFER_LMA);

const MCE = BigInt(CR4_MCE);
/** CR3 has a private guest-physical address; bits 4:3 choose the memory type. */
const CR3_RESERVED = 0xfe7n;

/** What a debugger's value for guest state becomes; null if it may not be. Fields without a rule take any value. */
export function debuggerState(vmcs: Vmcs, tdcs: Tdcs, slot: number, value: bigint): bigint | null {
  switch (slot) {
    case F.GUEST_CR0: {
      const cr0 = asIfWritten(vmcs, slot, F.CR0_MASK, vmcs.get64(F.CR0_READ_SHADOW), value);
      if (cr0 !== null) vmcs.set64(F.GUEST_EFER, withLma(vmcs.get64(F.GUEST_EFER), cr0));
      return cr0;
    }
    case F.GUEST_CR4: {
      // The TD may think that it turned MCE off; in truth it stays on.
      const shadow = (vmcs.get64(F.CR4_READ_SHADOW) & ~MCE) | (value & MCE);
      const cr4 = asIfWritten(vmcs, slot, F.CR4_MASK, shadow, value);
      if (cr4 === null) return null;
      vmcs.set64(F.CR4_READ_SHADOW, shadow);
      return cr4 | MCE;
    }
    case F.GUEST_CR3:
      return value & CR3_RESERVED || value >> BigInt(tdcs.sharedBit) !== 0n ? null : value;
    case F.GUEST_EFER:
      return withLma(value, vmcs.get64(F.GUEST_CR0));
    default:
      return value;
  }
}
