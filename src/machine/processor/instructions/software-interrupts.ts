/** INT n, INT3, INT1, INTO, BOUND, UD0/1/2, RSM. @sdm INT n/INTO/INT3/INT1, BOUND, UD, RSM */
import { implement } from '../../isa/handlers.ts';
import type { Insn } from '../../isa/insn.ts';
import { loadLinear } from '../../mmu/access.ts';
import { BP, BR, DB, DONE, GP, OF, type Outcome, UD } from '../../outcome.ts';
import { FLAG_IOPL, FLAG_OF, type Processor } from '../../processor.ts';
import { deliverSoftwareEvent } from '../events/deliver.ts';
import { EVENT } from '../events/event.ts';
import { memoryAddress, readOperand } from '../operands.ts';

implement('INT', (p: Processor, insn: Insn): Outcome => {
  const vector = Number(BigInt.asUintN(8, insn.immediate));
  // In virtual-8086 mode INT n is sensitive to IOPL; redirection by the VME bitmap is not done.
  if (p.v86 && (p.flagsRest & FLAG_IOPL) !== FLAG_IOPL) return p.raise(GP, 0);
  return deliverSoftwareEvent(p, vector, EVENT.software, insn.length);
});

implement(
  'INT3',
  (p: Processor, insn: Insn): Outcome => deliverSoftwareEvent(p, BP, EVENT.softwareException, insn.length),
);
implement(
  'INT1',
  (p: Processor, insn: Insn): Outcome => deliverSoftwareEvent(p, DB, EVENT.privilegedSoftwareException, insn.length),
);
implement(
  'INTO',
  (p: Processor, insn: Insn): Outcome =>
    p.rflags & FLAG_OF ? deliverSoftwareEvent(p, OF, EVENT.softwareException, insn.length) : DONE,
);

/** The index is signed, and so are the bounds, which lie one behind the other in memory. */
implement('BOUND', (p: Processor, insn: Insn): Outcome => {
  const size = (insn.operandSize / 8) as 2 | 4;
  const index = BigInt.asIntN(insn.operandSize, readOperand(p, insn, 0)!);
  const linear = memoryAddress(p, insn, 2 * size, false);
  if (linear === undefined) return p.outcome;
  const lower = loadLinear(p, linear, size);
  if (lower === undefined) return p.outcome;
  const upper = loadLinear(p, BigInt.asUintN(32, linear + BigInt(size)), size);
  if (upper === undefined) return p.outcome;
  const inside = index >= BigInt.asIntN(insn.operandSize, lower) && index <= BigInt.asIntN(insn.operandSize, upper);
  return inside ? DONE : p.raise(BR);
});

for (const mnemonic of ['UD0', 'UD1', 'UD2']) implement(mnemonic, (p: Processor): Outcome => p.raise(UD));
/** There is no system-management mode to resume from. */
implement('RSM', (p: Processor): Outcome => p.raise(UD));
