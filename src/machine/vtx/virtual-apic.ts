/**
 * The virtual-APIC page and what the processor does with it: priorities, evaluation and delivery of virtual interrupts,
 * TPR, EOI and self-IPI virtualization.
 *
 * Vectors lie in the page as in a local APIC: bit v & 1Fh of the word at ((v & E0h) >> 1), 16 bytes apart.
 *
 * @sdm "APIC Virtualization and Virtual Interrupts"
 */
import { PRIMARY, SECONDARY } from './controls.ts';
import { F } from './field-slots.ts';
import { REASON } from './reasons.ts';
import type { VtxState } from './vtx-state.ts';

/** Offsets in the virtual-APIC page. */
export const VAPIC = {
  TPR: 0x80,
  PPR: 0xa0,
  EOI: 0xb0,
  ISR: 0x100,
  IRR: 0x200,
  ICR_LOW: 0x300,
  ICR_HIGH: 0x310,
  SELF_IPI: 0x3f0,
} as const;

/** Words of VISR or VIRR. */
const VECTOR_WORDS = 8;
/** Priority class of a vector. */
export const CLASS = 0xf0;

/** Reads 32 bits of the virtual-APIC page. */
export const readVirtual = (v: VtxState, offset: number): number => v.memory.read32(v.virtualApicPage + offset);
/** Writes 32 bits of the virtual-APIC page. */
export function writeVirtual(v: VtxState, offset: number, value: number): void {
  v.memory.write32(v.virtualApicPage + offset, value >>> 0);
}

/** Highest vector set in VISR or VIRR, 0 for none. */
function highestVirtual(v: VtxState, offset: number): number {
  for (let word = VECTOR_WORDS - 1; word >= 0; word--) {
    const bits = readVirtual(v, offset + 16 * word);
    if (bits !== 0) return 32 * word + 31 - Math.clz32(bits);
  }
  return 0;
}

function setVirtual(v: VtxState, offset: number, vector: number, on: boolean): void {
  const at = offset + ((vector & 0xe0) >> 1);
  const bit = 1 << (vector & 31);
  const bits = readVirtual(v, at);
  writeVirtual(v, at, on ? bits | bit : bits & ~bit);
}

/** Virtual-interrupt delivery is on. */
export const delivers = (v: VtxState): boolean => (v.secondary & SECONDARY.VIRTUAL_INTERRUPT_DELIVERY) !== 0;

/** A trap-like exit at the next boundary. */
export function apicTrap(v: VtxState, reason: number, qualification: number): void {
  v.apicTrap = reason;
  v.apicTrapQualification = qualification;
  v.p.eventsPending = true;
}

// ------------------------------------------------------------------ algorithms

/** @sdm "PPR Virtualization" */
export function virtualizePpr(v: VtxState): void {
  const tpr = readVirtual(v, VAPIC.TPR) & 0xff;
  const ppr = (tpr & CLASS) >= (v.svi & CLASS) ? tpr : v.svi & CLASS;
  if (readVirtual(v, VAPIC.PPR) !== ppr) writeVirtual(v, VAPIC.PPR, ppr);
}

/** @sdm "Evaluation of Pending Virtual Interrupts" */
export function evaluateVirtualInterrupts(v: VtxState): void {
  const ppr = readVirtual(v, VAPIC.PPR);
  v.virtualInterruptPending = (v.primary & PRIMARY.INTERRUPT_WINDOW) === 0 && (v.rvi & CLASS) > (ppr & CLASS);
  if (v.virtualInterruptPending) v.p.eventsPending = true;
}

/** After a change of VTPR. @sdm "TPR Virtualization" */
export function virtualizeTpr(v: VtxState): void {
  if (delivers(v)) {
    virtualizePpr(v);
    evaluateVirtualInterrupts(v);
  } else if (((readVirtual(v, VAPIC.TPR) >> 4) & 15) < (v.tprThreshold & 15)) {
    apicTrap(v, REASON.TPR_BELOW_THRESHOLD, 0);
  }
}

/** @sdm "EOI Virtualization" */
export function virtualizeEoi(v: VtxState): void {
  const vector = v.svi;
  setVirtual(v, VAPIC.ISR, vector, false);
  v.svi = highestVirtual(v, VAPIC.ISR);
  virtualizePpr(v);
  const exits = v.current!.u32[2 * (F.EOI_EXIT_BITMAP_0 + (vector >> 6)) + ((vector >> 5) & 1)]! >>> (vector & 31);
  if (exits & 1) apicTrap(v, REASON.VIRTUALIZED_EOI, vector);
  else evaluateVirtualInterrupts(v);
}

/** @sdm "Self-IPI Virtualization" */
export function virtualizeSelfIpi(v: VtxState, vector: number): void {
  setVirtual(v, VAPIC.IRR, vector, true);
  v.rvi = Math.max(v.rvi, vector);
  evaluateVirtualInterrupts(v);
}

/** The recognized virtual interrupt goes from requested to in service. @sdm "Virtual-Interrupt Delivery" */
export function takeVirtualInterrupt(v: VtxState): number {
  const vector = v.rvi;
  setVirtual(v, VAPIC.ISR, vector, true);
  v.svi = vector;
  writeVirtual(v, VAPIC.PPR, vector & CLASS);
  setVirtual(v, VAPIC.IRR, vector, false);
  v.rvi = highestVirtual(v, VAPIC.IRR);
  v.virtualInterruptPending = false;
  return vector;
}

// ------------------------------------------------------------------ VM entry and exit

/** Guest interrupt status at VM entry, or the TPR threshold where interrupts are not delivered virtually. */
export function enterVirtualApic(v: VtxState): void {
  v.virtualInterruptPending = false;
  v.apicWrite = -1;
  v.apicTrap = 0;
  if (delivers(v)) {
    const status = v.current!.low(F.GUEST_INTERRUPT_STATUS);
    v.rvi = status & 0xff;
    v.svi = status >>> 8;
    virtualizePpr(v);
    evaluateVirtualInterrupts(v);
  } else if (
    v.primary & PRIMARY.TPR_SHADOW &&
    v.secondary & SECONDARY.VIRTUALIZE_APIC_ACCESSES &&
    (v.tprThreshold & 15) > ((readVirtual(v, VAPIC.TPR) >> 4) & 15)
  ) {
    apicTrap(v, REASON.TPR_BELOW_THRESHOLD, 0);
  }
}

/** Saves the guest interrupt status. */
export function saveVirtualApic(v: VtxState): void {
  if (delivers(v)) v.current!.setLow(F.GUEST_INTERRUPT_STATUS, (v.svi << 8) | v.rvi);
}
