/** RIP and CPL: how handlers move on, jump and change privilege. */
import { CS } from '../engine/layout.ts';
import type { Insn } from '../isa/insn.ts';
import { tlbContextChanged } from '../mmu/tlb.ts';
import { DONE, GP, type Outcome } from '../outcome.ts';
import type { Processor, Segment } from '../processor.ts';
import { AR_L, FLAG_AC } from '../processor.ts';
import { isCanonical } from './canonical.ts';
import { updateSlowFlags } from './slow-flags.ts';

/** RIP of the instruction after one at p.rip: 32 bits wide outside 64-bit mode. */
export function nextRip(p: Processor, length: number): bigint {
  return BigInt.asUintN(p.mode64 ? 64 : 32, p.rip + BigInt(length));
}

/** Moves RIP past a completed instruction. */
export function advanceRip(p: Processor, insn: Insn): void {
  p.rip = BigInt.asUintN(insn.mode === 64 ? 64 : 32, p.rip + BigInt(insn.length));
}

/** Changes the privilege level, and with it what addresses and instructions are allowed. */
export function setCpl(p: Processor, cpl: number): void {
  if (p.cpl === cpl) return;
  p.cpl = cpl;
  privilegeChanged(p);
}

/** Tells the TLBs and generated code about a new CPL or RFLAGS.AC. */
export function privilegeChanged(p: Processor): void {
  tlbContextChanged(p);
  updateSlowFlags(p);
}

/** Replaces RFLAGS; SMAP and alignment checks follow RFLAGS.AC. */
export function loadFlags(p: Processor, flags: number): void {
  const before = p.flagsRest;
  p.rflags = flags;
  if ((before ^ flags) & FLAG_AC) privilegeChanged(p);
  p.eventsPending = true;
}

/** Whether code in `segment` (long mode counts its L bit) is 64-bit code. */
export const isCode64 = (p: Processor, segment: Segment): boolean => p.longMode && (segment.attributes & AR_L) !== 0;

/**
 * Whether `rip` can be executed in code segment `code`: canonical in 64-bit mode, else within the limit.
 * On false #GP is raised.
 *
 * @param errorCode 0, or the EXT bit while an event is delivered
 */
export function checkTarget(p: Processor, code: Segment, rip: bigint, errorCode = 0): boolean {
  const legal = isCode64(p, code) ? isCanonical(p, rip) : rip <= BigInt(code.limit);
  if (!legal) p.raise(GP, errorCode);
  return legal;
}

/**
 * Runs `access` with the rights of another privilege level: inner stacks belong to the level that the processor is on
 * its way to. The level stays where `access` is DONE, else it is what it was.
 */
export function atPrivilege(p: Processor, cpl: number, access: () => Outcome): Outcome {
  const before = p.cpl;
  if (before === cpl) return access();
  setCpl(p, cpl);
  const outcome = access();
  if (outcome !== DONE) setCpl(p, before);
  return outcome;
}

/** Loads CS (hidden part included), CPL and RIP, all checked before. */
export function enterCode(p: Processor, code: Segment, cpl: number, rip: bigint): void {
  const before = p.codeMode;
  const was64 = p.mode64;
  const cs = p.segments[CS]!;
  cs.selector = code.selector;
  cs.base = code.base;
  cs.limit = code.limit;
  cs.attributes = code.attributes;
  p.rip = rip;
  // 64-bit mode decides whether the other segments have bases and limits, and how wide the stack pointer is.
  if (p.mode64 !== was64) p.syncSegments();
  else p.syncSegment(CS);
  if (p.cpl === cpl && p.codeMode === before) return;
  p.cpl = cpl;
  privilegeChanged(p);
}
