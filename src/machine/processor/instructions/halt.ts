/** HLT. @sdm HLT—Halt */
import { implement } from '../../isa/handlers.ts';
import type { Insn } from '../../isa/insn.ts';
import { DONE, GP, type Outcome } from '../../outcome.ts';
import { HLT, type Processor } from '../../processor.ts';
import { PRIMARY } from '../../vtx/controls.ts';
import { REASON } from '../../vtx/reasons.ts';

/** The run loop moves RIP past the instruction; a boundary event then makes the processor active again. */
implement('HLT', (p: Processor, insn: Insn): Outcome => {
  if (p.cpl !== 0) return p.raise(GP, 0);
  if (p.vtx.primary & PRIMARY.HLT) return p.vtx.instructionExit(insn, REASON.HLT);
  // all checks passed
  p.activity = HLT;
  p.eventsPending = true;
  return DONE;
});
