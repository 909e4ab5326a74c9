/**
 * MONITOR, MWAIT and PAUSE.
 *
 * MONITOR remembers the bytes of the line. A processor in MWAIT is asked whenever its turn comes whether the line has
 * changed or an event waits; so a store by another processor ends the wait, as a store that changes nothing need not.
 */
import { ACCESS, RAX, RCX } from '../engine/layout.ts';
import { implement } from '../isa/handlers.ts';
import type { Insn } from '../isa/insn.ts';
import { translate } from '../mmu/tlb.ts';
import { IA32_MISC_ENABLE } from '../msr/platform.ts';
import { DONE, GP, type Outcome, UD } from '../outcome.ts';
import { linearOf } from '../processor/operands.ts';
import { ACTIVE, FLAG_IF, MWAITING, type Processor } from '../processor.ts';
import { PRIMARY } from '../vtx/controls.ts';
import { REASON } from '../vtx/reasons.ts';

/** Bytes of a monitored line, as CPUID leaf 5 says. */
export const MONITOR_LINE = 64;
const ENABLE_MONITOR = 1n << 18n;
/** ECX bit 0 of MWAIT: interrupts end the wait even if masked. */
const BREAK_ON_INTERRUPT = 1;

const available = (p: Processor): boolean =>
  p.cpl === 0 && ((p.msrs.get(IA32_MISC_ENABLE) ?? ENABLE_MONITOR) & ENABLE_MONITOR) !== 0n;

/** @sdm "MONITOR—Set Up Monitor Address" */
export function monitor(p: Processor, insn: Insn): Outcome {
  if (!available(p)) return p.raise(UD);
  if (p.vtx.primary & PRIMARY.MONITOR) return p.vtx.instructionExit(insn, REASON.MONITOR, 0n);
  if (p.gpr32(RCX) !== 0) return p.raise(GP, 0);
  const linear = linearOf(p, insn.segment, BigInt.asUintN(insn.addressSize, p.gpr(RAX)), 1, false);
  if (linear === undefined) return p.outcome;
  const hpa = translate(p, linear, ACCESS.read, false);
  if (hpa === undefined) return p.outcome;
  const { memory } = p.machine;
  const address = hpa - (hpa % MONITOR_LINE);
  // Only write-back memory can be monitored: elsewhere MWAIT does not wait.
  p.monitor = memory.isRam(address) ? { address, line: memory.readBytes(address, MONITOR_LINE) } : null;
  return DONE;
}

/** Whether the monitored line no longer holds what it held. */
function lineChanged(p: Processor): boolean {
  if (p.monitor === null) return true;
  const { address, line } = p.monitor;
  const now = p.machine.memory.readBytes(address, MONITOR_LINE);
  return line.some((byte, i) => byte !== now[i]);
}

/** Whether something waits that ends MWAIT. */
function eventWaits(p: Processor): boolean {
  if (p.nmiPending || p.initPending || p.pendingDebug) return true;
  return (p.apic.interruptPending || p.vtx.virtualInterruptPending) && (p.mwaitBreaks || (p.flagsRest & FLAG_IF) !== 0);
}

/** For a processor in MWAIT: whether its wait is over. Then it is active again. */
export function mwaitEnds(p: Processor): boolean {
  if (!eventWaits(p) && !lineChanged(p)) return false;
  p.monitor = null;
  p.activity = ACTIVE;
  return true;
}

/** @sdm "MWAIT—Monitor Wait" */
export function mwait(p: Processor, insn: Insn): Outcome {
  if (!available(p)) return p.raise(UD);
  const { vtx } = p;
  if (vtx.primary & PRIMARY.MWAIT) return vtx.instructionExit(insn, REASON.MWAIT, p.monitor === null ? 0n : 1n);
  const extensions = p.gpr32(RCX);
  if (extensions & ~BREAK_ON_INTERRUPT) return p.raise(GP, 0);
  // all checks passed
  p.mwaitBreaks = (extensions & BREAK_ON_INTERRUPT) !== 0;
  // With masked interrupts as break events neither the host's window nor a virtual interrupt must be slept through.
  const window = p.mwaitBreaks && !(p.flagsRest & FLAG_IF) && (vtx.primary & PRIMARY.INTERRUPT_WINDOW) !== 0;
  if (p.monitor === null || window || mwaitEnds(p)) return DONE;
  p.activity = MWAITING;
  p.eventsPending = true;
  return DONE;
}

/** PAUSE does nothing but exit; where it does not, the machine is told that this processor waits. @sdm "PAUSE—Spin Loop Hint" */
export function pause(p: Processor, insn: Insn): Outcome {
  const { vtx } = p;
  if (vtx.pauseExits()) return vtx.instructionExit(insn, REASON.PAUSE, 0n);
  if (vtx.pauseSpins()) p.machine.onSpin();
  return DONE;
}

implement('MONITOR', monitor);
implement('MWAIT', mwait);
implement('PAUSE', pause);
