/** DIV and IDIV of a 128-bit dividend that generated code leaves: RDX is more than an extension of RAX. @sdm "DIV", "IDIV" */
import { RAX, RDX } from '../../engine/layout.ts';
import { implement } from '../../isa/handlers.ts';
import type { Insn } from '../../isa/insn.ts';
import { DE, DONE, type Outcome } from '../../outcome.ts';
import type { Processor } from '../../processor.ts';
import { readOperand } from '../operands.ts';

implement('DIV', (p: Processor, insn: Insn): Outcome => {
  const divisor = readOperand(p, insn, 0);
  if (divisor === undefined) return p.outcome;
  const dividend = (p.gpr(RDX) << 64n) | p.gpr(RAX);
  if (divisor === 0n || (dividend / divisor) >> 64n !== 0n) return p.raise(DE);
  // all checks passed
  p.setGpr(RAX, dividend / divisor);
  p.setGpr(RDX, dividend % divisor);
  return DONE;
});

/** BigInt division truncates towards zero and its remainder has the dividend's sign, as IDIV's. */
implement('IDIV', (p: Processor, insn: Insn): Outcome => {
  const operand = readOperand(p, insn, 0);
  if (operand === undefined) return p.outcome;
  const divisor = BigInt.asIntN(64, operand);
  const dividend = BigInt.asIntN(128, (p.gpr(RDX) << 64n) | p.gpr(RAX));
  if (divisor === 0n) return p.raise(DE);
  const quotient = dividend / divisor;
  if (BigInt.asIntN(64, quotient) !== quotient) return p.raise(DE);
  // all checks passed
  p.setGpr(RAX, BigInt.asUintN(64, quotient));
  p.setGpr(RDX, BigInt.asUintN(64, dividend % divisor));
  return DONE;
});
