/** Debug registers: MOV DR, and the values that DR6 and DR7 can have. */
import { implement } from '../isa/handlers.ts';
import type { Insn } from '../isa/insn.ts';
import { tlbContextChanged } from '../mmu/tlb.ts';
import { DB, DONE, GP, type Outcome, UD, VMEXIT } from '../outcome.ts';
import { DR6_BD } from '../processor/events/debug.ts';
import { CR4_DE, type Processor } from '../processor.ts';

/** Bits of DR6 that always read as one, and those that can be written. @sdm "Debug Status Register (DR6)" */
export const DR6_ONES = 0xffff0ff0;
export const DR6_WRITABLE = 0xe00f;
/** @sdm "Debug Control Register (DR7)" */
export const DR7_ONES = 0x400;
export const DR7_WRITABLE = 0xffff23ff;
/** DR7.GD: general detect. Delivering #DB clears it. */
const DR7_GD = 0x2000;

/**
 * The register behind a number: DR4 and DR5 stand for DR6 and DR7 unless CR4.DE makes them undefined (-1).
 */
function resolve(p: Processor, dr: number): number {
  if (dr > 7) return -1;
  if (dr === 4 || dr === 5) return p.cr4 & CR4_DE ? -1 : dr + 2;
  return dr;
}

/** Checks common to both directions, in the order VM exit, #UD, #GP, general detect. DONE when the access may happen. */
function check(p: Processor, insn: Insn, dr: number, gpr: number, fromDr: boolean): Outcome {
  if (dr > 7) return p.raise(UD);
  if (p.vtx.movDrExits(insn, dr, fromDr, gpr)) return VMEXIT;
  if (resolve(p, dr) < 0) return p.raise(UD);
  if (p.cpl !== 0) return p.raise(GP, 0);
  if (p.dr7 & DR7_GD) {
    p.raise(DB);
    p.fault.debug = DR6_BD;
    return p.outcome;
  }
  return DONE;
}

/** Sets a debug register by number 0 to 7; false for #GP (upper half of DR6, DR7). */
export function writeDr(p: Processor, dr: number, value: bigint): boolean {
  if (dr < 4) {
    p.dr[dr] = value;
  } else {
    if (value >> 32n) return false;
    const low = Number(value);
    if (dr === 6) p.dr6 = ((low & DR6_WRITABLE) | DR6_ONES) >>> 0;
    else p.dr7 = ((low & DR7_WRITABLE) | DR7_ONES) >>> 0;
  }
  if (dr !== 6) tlbContextChanged(p);
  return true;
}

/** @sdm "MOV—Move to/from Debug Registers" */
export function movToDr(p: Processor, insn: Insn): Outcome {
  const dr = insn.operands[0]!.register;
  const source = insn.operands[1]!.register;
  const checked = check(p, insn, dr, source, false);
  if (checked !== DONE) return checked;
  const value = insn.mode === 64 ? p.gpr(source) : BigInt(p.gpr32(source));
  return writeDr(p, resolve(p, dr), value) ? DONE : p.raise(GP, 0);
}

export function movFromDr(p: Processor, insn: Insn): Outcome {
  const target = insn.operands[0]!.register;
  const dr = insn.operands[1]!.register;
  const checked = check(p, insn, dr, target, true);
  if (checked !== DONE) return checked;
  const number = resolve(p, dr);
  const value = number < 4 ? p.dr[number]! : BigInt(number === 6 ? p.dr6 : p.dr7);
  if (insn.mode === 64) p.setGpr(target, value);
  else p.setGpr32(target, Number(value & 0xffff_ffffn));
  return DONE;
}

implement('MOV_TO_DR', movToDr);
implement('MOV_FROM_DR', movFromDr);
