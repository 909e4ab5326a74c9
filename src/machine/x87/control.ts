/** x87 control instructions that are TypeScript's. @sdm "FINIT/FNINIT", "FLDCW", "WAIT/FWAIT", "FINCSTP", "FDECSTP", "FNOP" */
import { FCS, FCW, FDP, FDS, FIP, FOP, FSW, FTAG, FTOP } from '../engine/layout.ts';
import { implement } from '../isa/handlers.ts';
import { DONE, FAULT, MF } from '../outcome.ts';
import { readOperand } from '../processor/operands.ts';
import type { Processor } from '../processor.ts';
import { fpuAvailable } from '../system/fpu-access.ts';
import { rotate } from './registers.ts';
import { C1, recordPointers, SUMMARY, setCodes, waiting } from './status.ts';

/** Bits 5:0 of the status and control words: the exceptions and their masks. */
const EXCEPTIONS = 0x3f;
const ES = 0x80;

/** The state after FNINIT; register contents stay. */
export function initialize(p: Processor): void {
  p.write16(FCW, 0x37f);
  p.write16(FSW, 0);
  p.write8(FTOP, 0);
  p.write8(FTAG, 0);
  p.write16(FOP, 0);
  p.write64(FIP, 0n);
  p.write64(FDP, 0n);
  p.write16(FCS, 0);
  p.write16(FDS, 0);
}
implement('FNINIT', (p) => {
  initialize(p);
  return DONE;
});

/** Sets the control word; exceptions that the new masks let through become visible in ES at once, and others invisible. */
export function setControl(p: Processor, value: number): void {
  const control = (value & 0x1f3f) | 0x40;
  const status = p.read16(FSW) & ~SUMMARY;
  p.write16(FCW, control);
  p.write16(FSW, status & ~control & EXCEPTIONS ? status | SUMMARY : status);
}
waiting('FLDCW', (p, insn) => {
  const value = readOperand(p, insn, 0);
  if (value === undefined) return p.outcome;
  setControl(p, Number(value));
  return DONE;
});

implement('FWAIT', (p) => {
  if (fpuAvailable(p, 'wait') !== DONE) return FAULT;
  return p.read16(FSW) & ES ? p.raise(MF) : DONE;
});

waiting('FNOP', (p, insn) => {
  recordPointers(p, insn, false);
  return DONE;
});
/** Instructions of older coprocessors that do nothing. */
for (const mnemonic of ['FNENI', 'FNDISI', 'FNSETPM']) implement(mnemonic, () => DONE);
for (const [mnemonic, by] of [
  ['FDECSTP', -1],
  ['FINCSTP', 1],
] as const)
  waiting(mnemonic, (p, insn) => {
    rotate(p, by);
    setCodes(p, C1, 0);
    recordPointers(p, insn, false);
    return DONE;
  });
