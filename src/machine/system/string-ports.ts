/** INS and OUTS, one iteration at a time: with REP they leave RIP where it is until the count is used up. */
import { ES, RCX, RDI, RDX, RSI } from '../engine/layout.ts';
import { implement } from '../isa/handlers.ts';
import type { Insn } from '../isa/insn.ts';
import { checkWritable, loadLinear, storeLinear } from '../mmu/access.ts';
import { DONE, JUMPED, type Outcome } from '../outcome.ts';
import { linearOf, writeGpr } from '../processor/operands.ts';
import { FLAG_DF, type Processor } from '../processor.ts';
import { checkPorts, notePortBreakpoints, type PortSize, readPorts, writePorts } from './ports.ts';

const addressRegister = (p: Processor, insn: Insn, register: number): bigint =>
  BigInt.asUintN(insn.addressSize, p.gpr(register));

function addTo(p: Processor, insn: Insn, register: number, difference: bigint): void {
  writeGpr(p, register, insn.addressSize, BigInt.asUintN(insn.addressSize, p.gpr(register) + difference));
}

/** Moves the index register on, counts down under REP, and says whether the instruction is complete. */
function advance(p: Processor, insn: Insn, index: number, size: PortSize): Outcome {
  addTo(p, insn, index, BigInt(p.flagsRest & FLAG_DF ? -size : size));
  if (insn.rep === 'none') return DONE;
  addTo(p, insn, RCX, -1n);
  return addressRegister(p, insn, RCX) === 0n ? DONE : JUMPED;
}

const nothingToDo = (p: Processor, insn: Insn): boolean => insn.rep !== 'none' && addressRegister(p, insn, RCX) === 0n;

const portSize = (insn: Insn, n: number): PortSize => (insn.operands[n]!.width / 8) as PortSize;

/** @sdm "INS/INSB/INSW/INSD—Input from Port to String" */
export function ins(p: Processor, insn: Insn): Outcome {
  if (nothingToDo(p, insn)) return DONE;
  const size = portSize(insn, 0);
  const port = p.gpr32(RDX) & 0xffff;
  const checked = checkPorts(p, insn, port, size, true);
  if (checked !== DONE) return checked;
  const to = linearOf(p, ES, addressRegister(p, insn, RDI), size, true);
  if (to === undefined) return p.outcome;
  // The port must not be read if the store would fault.
  const writable = checkWritable(p, to, size, false);
  if (writable !== DONE) return writable;
  const stored = storeLinear(p, to, size, BigInt(readPorts(p, port, size)));
  if (stored !== DONE) return stored;
  notePortBreakpoints(p, port, size);
  return advance(p, insn, RDI, size);
}

/** @sdm "OUTS/OUTSB/OUTSW/OUTSD—Output String to Port" */
export function outs(p: Processor, insn: Insn): Outcome {
  if (nothingToDo(p, insn)) return DONE;
  const size = portSize(insn, 1);
  const port = p.gpr32(RDX) & 0xffff;
  const checked = checkPorts(p, insn, port, size, false);
  if (checked !== DONE) return checked;
  const from = linearOf(p, insn.segment, addressRegister(p, insn, RSI), size, false);
  if (from === undefined) return p.outcome;
  const value = loadLinear(p, from, size);
  if (value === undefined) return p.outcome;
  writePorts(p, port, size, Number(value));
  notePortBreakpoints(p, port, size);
  return advance(p, insn, RSI, size);
}

implement('INS', ins);
implement('OUTS', outs);
