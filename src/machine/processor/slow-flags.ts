/** Which instructions generated code may not do alone at present. */
import { SLOW, SLOW_FLAGS } from '../engine/layout.ts';
import { CR0_AM, CR0_EM, CR0_TS, CR4_FSGSBASE, CR4_OSFXSR, CR4_TSD, FLAG_AC, type Processor } from '../processor.ts';
import { avxEnabled } from '../system/fpu-access.ts';
import { PRIMARY, SECONDARY } from '../vtx/controls.ts';
import { NON_ROOT } from '../vtx/operation.ts';

/** TSC multiplier of 1, with its 48 fraction bits. */
const UNSCALED: bigint = 1n << 48n;

/**
 * Publishes SLOW_FLAGS. Call after any change of CR0, CR4, XCR0, CPL, RFLAGS.VM, RFLAGS.AC, or of the VMX operation and its controls.
 *
 * A bit only sends the instruction to its TypeScript handler, which then decides: setting one too many is harmless.
 */
export function updateSlowFlags(p: Processor): void {
  const { cr0, cr4, cpl, vtx } = p;
  let slow = 0;
  if (cr4 & CR4_TSD && cpl !== 0) slow |= SLOW.rdtsc;
  if (p.machine.processors.length > 1) slow |= SLOW.pause;
  if (cr0 & (CR0_EM | CR0_TS)) slow |= SLOW.x87 | SLOW.sse;
  if (!(cr4 & CR4_OSFXSR)) slow |= SLOW.sse;
  if (cr0 & CR0_TS || !avxEnabled(p)) slow |= SLOW.avx;
  if (cr0 & CR0_AM && cpl === 3 && p.flagsRest & FLAG_AC) slow |= SLOW.align;
  if (!(cr4 & CR4_FSGSBASE)) slow |= SLOW.fsgsbase;
  if (vtx.operation === NON_ROOT) {
    const { primary, secondary } = vtx;
    const scaled = (secondary & SECONDARY.TSC_SCALING) !== 0 && vtx.tscMultiplier !== UNSCALED;
    if (primary & PRIMARY.RDTSC || scaled || !(secondary & SECONDARY.RDTSCP)) slow |= SLOW.rdtsc;
    if (primary & PRIMARY.PAUSE || secondary & SECONDARY.PAUSE_LOOP) slow |= SLOW.pause;
  }
  if (cpl !== 0 || p.v86) slow |= SLOW.interruptFlag;
  if (windowWanted(p)) slow |= SLOW.interruptWindow;
  p.write32(SLOW_FLAGS, slow);
}

/** Whether an interrupt, a virtual one, or an interrupt-window exit waits for RFLAGS.IF. */
function windowWanted({ vtx, apic }: Processor): boolean {
  if (apic.interruptPending || vtx.virtualInterruptPending) return true;
  return vtx.operation === NON_ROOT && (vtx.primary & PRIMARY.INTERRUPT_WINDOW) !== 0;
}

/** The part of updateSlowFlags that changes as interrupts come and go: after events have been looked at. */
export function updateInterruptWindow(p: Processor): void {
  const slow = p.read32(SLOW_FLAGS);
  const now = windowWanted(p) ? slow | SLOW.interruptWindow : slow & ~SLOW.interruptWindow;
  if (now !== slow) p.write32(SLOW_FLAGS, now);
}
