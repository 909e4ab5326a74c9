/** x87 comparison and classification. @sdm "FCOM/FCOMP/FCOMPP", "FUCOM", "FCOMI", "FICOM", "FTST", "FXAM" */
import { FSW } from '../engine/layout.ts';
import type { Insn } from '../isa/insn.ts';
import { DONE, type Outcome } from '../outcome.ts';
import { type Processor, STATUS_FLAGS } from '../processor.ts';
import { compare, EQUAL, LESS, type Relation, UNORDERED } from '../softfloat/compare.ts';
import { DENORMAL, type Float, INFINITE, NORMAL, QNAN, SNAN, UNSUPPORTED, ZERO, zero } from '../softfloat/float.ts';
import { flagsOfRelation } from '../sse/compare.ts';
import { isMemory, loadFloat, loadInteger, stackIndex } from './operands.ts';
import { inUse, pop, read, readRaw, readUsed } from './registers.ts';
import { C0, C1, C2, C3, environmentOf, recordPointers, setCodes, settle, waiting } from './status.ts';

const codesOf = (relation: Relation): number =>
  relation === LESS ? C0 : relation === EQUAL ? C3 : relation === UNORDERED ? C0 | C2 | C3 : 0;

/** Compares ST(0) with `other` (null: an empty register), reports in condition codes or RFLAGS, and pops. */
function comparison(
  p: Processor,
  insn: Insn,
  other: Float | null,
  quiet: boolean,
  pops: number,
  inFlags = false,
): Outcome {
  const env = environmentOf(p);
  const full = inUse(p, 0) && other !== null;
  const relation = full ? compare(env, read(p, 0), other, quiet) : UNORDERED;
  const c1 = inFlags && full ? p.read16(FSW) & C1 : 0;
  const goesOn = settle(p, insn, env, full ? '' : 'underflow');
  // The result is there even if an exception must be reported; FCOMI leaves C1 alone.
  if (inFlags) {
    p.rflags = (p.rflags & ~STATUS_FLAGS) | flagsOfRelation(relation);
    setCodes(p, C1, c1);
  } else setCodes(p, C0 | C2 | C3, codesOf(relation));
  if (goesOn) for (let i = 0; i < pops; i++) pop(p);
  return DONE;
}

for (const [mnemonic, pops] of [
  ['FCOM', 0],
  ['FCOMP', 1],
] as const) {
  waiting(mnemonic, (p, insn) => {
    if (!isMemory(insn)) return comparison(p, insn, readUsed(p, stackIndex(insn)), false, pops);
    const other = loadFloat(p, insn);
    return other === undefined ? p.outcome : comparison(p, insn, other, false, pops);
  });
  waiting(mnemonic.replace('FC', 'FIC'), (p, insn) => {
    const other = loadInteger(p, insn);
    return other === undefined ? p.outcome : comparison(p, insn, other, false, pops);
  });
  waiting(mnemonic.replace('FC', 'FUC'), (p, insn) => comparison(p, insn, readUsed(p, stackIndex(insn)), true, pops));
}
waiting('FCOMPP', (p, insn) => comparison(p, insn, readUsed(p, 1), false, 2));
waiting('FUCOMPP', (p, insn) => comparison(p, insn, readUsed(p, 1), true, 2));
for (const [mnemonic, quiet, pops] of [
  ['FCOMI', false, 0],
  ['FCOMIP', false, 1],
  ['FUCOMI', true, 0],
  ['FUCOMIP', true, 1],
] as const)
  waiting(mnemonic, (p, insn) => comparison(p, insn, readUsed(p, stackIndex(insn)), quiet, pops, true));

waiting('FTST', (p, insn) => comparison(p, insn, zero(0), false, 0));

const CLASSES: Record<Float['kind'], number> = {
  [UNSUPPORTED]: 0,
  [QNAN]: C0,
  [SNAN]: C0,
  [NORMAL]: C2,
  [INFINITE]: C2 | C0,
  [ZERO]: C3,
  [DENORMAL]: C3 | C2,
};
waiting('FXAM', (p, insn) => {
  const sign = readRaw(p, 0) >> 79n === 1n ? C1 : 0;
  setCodes(p, C0 | C1 | C2 | C3, sign | (inUse(p, 0) ? CLASSES[read(p, 0).kind] : C3 | C0));
  recordPointers(p, insn, false);
  return DONE;
});
