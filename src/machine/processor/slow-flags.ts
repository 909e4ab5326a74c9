/** Which instructions generated code may not do alone at present. */
import { CPL, SLOW, SLOW_FLAGS, SLOW_SUPERVISOR, SLOW_USER } from '../engine/layout.ts';
import { BP } from '../outcome.ts';
import { CR0_EM, CR0_TS, CR4_FSGSBASE, CR4_OSFXSR, CR4_TSD, EFER_SCE, type Processor } from '../processor.ts';
import { avxEnabled } from '../system/fpu-access.ts';
import { PRIMARY, SECONDARY } from '../vtx/controls.ts';
import { NON_ROOT } from '../vtx/operation.ts';

/** TSC multiplier of 1, with its 48 fraction bits. */
const UNSCALED: bigint = 1n << 48n;

/**
 * Publishes SLOW_FLAGS and CPL. Call after any change of CR0, CR4, EFER.SCE, XCR0, CPL, RFLAGS.VM, or of the VMX operation and
 * its controls.
 *
 * A bit only sends the instruction to its TypeScript handler, which then decides: setting one too many is harmless.
 */
export function updateSlowFlags(p: Processor): void {
  const { cr0, cr4, cpl, vtx } = p;
  let slow = 0;
  if (p.machine.processors.length > 1) slow |= SLOW.pause;
  if (cr0 & (CR0_EM | CR0_TS)) slow |= SLOW.x87 | SLOW.sse;
  if (!(cr4 & CR4_OSFXSR)) slow |= SLOW.sse;
  if (cr0 & CR0_TS || !avxEnabled(p)) slow |= SLOW.avx;
  if (!(cr4 & CR4_FSGSBASE)) slow |= SLOW.fsgsbase;
  if (!(p.efer & EFER_SCE)) slow |= SLOW.systemCall;
  if (vtx.operation === NON_ROOT) {
    const { primary, secondary } = vtx;
    const scaled = (secondary & SECONDARY.TSC_SCALING) !== 0 && vtx.tscMultiplier !== UNSCALED;
    if (primary & PRIMARY.RDTSC || scaled || !(secondary & SECONDARY.RDTSCP)) slow |= SLOW.rdtsc;
    if (primary & PRIMARY.PAUSE || secondary & SECONDARY.PAUSE_LOOP) slow |= SLOW.pause;
    if (vtx.exceptionBitmap & (1 << BP)) slow |= SLOW.breakpoint;
  }
  const user = slow | SLOW.interruptFlag | (cr4 & CR4_TSD ? SLOW.rdtsc : 0);
  p.write32(SLOW_SUPERVISOR, slow);
  p.write32(SLOW_USER, user);
  p.write32(CPL, cpl);
  p.write32(SLOW_FLAGS, (cpl === 0 && !p.v86 ? slow : user) | (windowWanted(p) ? SLOW.interruptWindow : 0));
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
