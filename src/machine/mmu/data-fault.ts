/** #GP or #SS: which one a memory access of the instruction at RIP raises. */
import { ACCESS, SS } from '../engine/layout.ts';
import type { Insn } from '../isa/insn.ts';
import { GP, type Outcome, SS_FAULT } from '../outcome.ts';
import type { Processor } from '../processor.ts';
import type { Access } from './translate.ts';

/** Operations that access the stack beside, or without, a memory operand. */
const STACK = /^(PUSH|POP|CALL|RET|LEAVE|ENTER|IRET)/;

/** #SS(0) where the access is through SS, else #GP(0). @sdm "Canonical Addressing" */
export function raiseNotCanonical(p: Processor, access: Access): Outcome {
  const insn = p.machine.engine.currentInsn(p);
  return p.raise(insn !== undefined && throughStack(insn, access) ? SS_FAULT : GP, 0);
}

function throughStack(insn: Insn, access: Access): boolean {
  const { memory } = insn;
  const stack = STACK.test(insn.row.operation.mnemonic);
  if (memory === null) return stack;
  // PUSH m and CALL m read their operand and write the stack, POP m the other way round.
  const operandAccess = insn.operands.find((o) => o.place === 'memory')?.access ?? 'r';
  const ofOperand = !stack || (operandAccess === 'r') === (access === ACCESS.read);
  return ofOperand ? memory.segment === SS : true;
}

/** The fault of an access that a segment's limit or type forbids. */
export function raiseSegment(p: Processor, insn: Insn): Outcome {
  const through =
    insn.memory === null ? STACK.test(insn.row.operation.mnemonic) || insn.segment === SS : insn.memory.segment === SS;
  return p.raise(through ? SS_FAULT : GP, 0);
}
