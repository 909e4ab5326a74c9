/** The x87 control instructions that are TypeScript's. @sdm "FINIT/FNINIT", "FLDCW", "WAIT/FWAIT" */
import { FCS, FCW, FDP, FDS, FIP, FOP, FSW, FTAG, FTOP } from '../engine/layout.ts';
import { implement } from '../isa/handlers.ts';
import { DONE, FAULT, MF } from '../outcome.ts';
import { readOperand } from '../processor/operands.ts';
import { fpuAvailable } from '../system/fpu-access.ts';

/** Bits 5:0 of the status and control words: the exceptions and their masks. */
const EXCEPTIONS = 0x3f;
const ES = 0x80;
const BUSY = 0x8000;

implement('FNINIT', (p) => {
  p.write16(FCW, 0x37f);
  p.write16(FSW, 0);
  p.write8(FTOP, 0);
  p.write8(FTAG, 0);
  p.write16(FOP, 0);
  p.write64(FIP, 0n);
  p.write64(FDP, 0n);
  p.write16(FCS, 0);
  p.write16(FDS, 0);
  return DONE;
});

/** A pending exception that the new masks let through becomes visible in ES at once. */
implement('FLDCW', (p, insn) => {
  if (p.read16(FSW) & ES) return p.raise(MF);
  const value = readOperand(p, insn, 0);
  if (value === undefined) return p.outcome;
  const control = (Number(value) & 0x1f7f) | 0x40;
  const status = p.read16(FSW) & ~(ES | BUSY);
  p.write16(FCW, control);
  p.write16(FSW, status & ~control & EXCEPTIONS ? status | ES | BUSY : status);
  return DONE;
});

implement('FWAIT', (p) => {
  if (fpuAvailable(p, 'wait') !== DONE) return FAULT;
  return p.read16(FSW) & ES ? p.raise(MF) : DONE;
});
