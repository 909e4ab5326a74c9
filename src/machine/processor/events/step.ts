/**
 * Executing one instruction by itself: breakpoints before it, traps after it.
 *
 * Generated code runs freely only while nothing needs a look between two instructions.
 *
 * @sdm "Debug Exceptions", "Instruction-Breakpoint Exception Condition", "Single-Step Exception Condition"
 */
import { CS } from '../../engine/layout.ts';
import { DB } from '../../outcome.ts';
import { BLOCKED_BY_MOV_SS, FLAG_RF, FLAG_TF, type Processor } from '../../processor.ts';
import { codeBreakpoints, DR6_BS, matchBreakpoints, WATCH } from './debug.ts';

/**
 * Whether the next instruction has to be executed by itself, between beginStep and endStep.
 *
 * RF alone does not ask for that: where no instruction breakpoint is enabled the next instruction just uses it up.
 */
export function stepNeeded(p: Processor): boolean {
  const flags = p.flagsRest;
  const needed =
    (flags & FLAG_TF) !== 0 ||
    p.interruptShadow !== 0 ||
    ((p.dr7 & 0xff) !== 0 && codeBreakpoints(p)) ||
    p.vtx.stepNeeded;
  if (!needed && flags & FLAG_RF) p.flagsRest = flags & ~FLAG_RF;
  return needed;
}

/** Linear address of the instruction at RIP. */
function instructionAddress(p: Processor): bigint {
  return p.mode64 ? p.rip : BigInt.asUintN(32, p.segments[CS]!.base + p.rip);
}

/** Bit of a token: TF was set when the instruction began. Bits 1:0 are the interrupt shadow then. */
const TRAPPED = 4;

/**
 * Prepares for one instruction: instruction breakpoints, and what endStep has to know.
 *
 * RF is cleared here and not after the instruction: if it faults RF is pushed set anyway, and VM exits save it clear.
 *
 * @returns a token for endStep, or -1 with #DB in p.fault
 */
export function beginStep(p: Processor): number {
  const flags = p.flagsRest;
  if (flags & FLAG_RF) {
    p.flagsRest = flags & ~FLAG_RF;
  } else if ((p.interruptShadow & BLOCKED_BY_MOV_SS) === 0) {
    const bits = matchBreakpoints(p, WATCH.execute, instructionAddress(p), 1);
    if (bits !== 0) {
      p.raise(DB);
      p.fault.debug = bits;
      return -1;
    }
  }
  return p.interruptShadow | (flags & FLAG_TF ? TRAPPED : 0);
}

/**
 * After the instruction retired: shadows that were in force end, TF traps.
 *
 * TF counts if it was set before the instruction and still is; POPF and IRET, which may clear it after having been
 * traced, ask for the trap themselves.
 */
export function endStep(p: Processor, token: number): void {
  endShadow(p, token & 3);
  if (token & TRAPPED && p.flagsRest & FLAG_TF) p.pendingDebug |= DR6_BS;
}

/** After an instruction that had the shadows `bits` over it: what waited for it can come. */
export function endShadow(p: Processor, bits: number): void {
  p.interruptShadow &= ~bits;
  p.eventsPending = true;
}

/** For POPF and IRET: the trap of an instruction that began with TF set and cleared it. */
export function trapClearedTf(p: Processor, flagsBefore: number): void {
  if (flagsBefore & FLAG_TF && !(p.flagsRest & FLAG_TF)) p.pendingDebug |= DR6_BS;
}
