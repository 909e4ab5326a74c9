/** RDRAND and RDSEED: numbers from the machine's seed, never failing. */
import { implement } from '../isa/handlers.ts';
import type { Insn } from '../isa/insn.ts';
import { DONE, type Outcome } from '../outcome.ts';
import { writeGpr } from '../processor/operands.ts';
import { FLAG_CF, type Processor, STATUS_FLAGS } from '../processor.ts';
import { SECONDARY } from '../vtx/controls.ts';
import { REASON } from '../vtx/reasons.ts';

function random(p: Processor, insn: Insn): Outcome {
  const { register, width } = insn.operands[0]!;
  writeGpr(p, register, width, p.machine.random.u64());
  // CF says that the number is valid; the other status flags are cleared.
  p.rflags = (p.rflags & ~STATUS_FLAGS) | FLAG_CF;
  return DONE;
}

/** @sdm "RDRAND—Read Random Number" */
export function rdrand(p: Processor, insn: Insn): Outcome {
  if (p.vtx.secondary & SECONDARY.RDRAND) return p.vtx.instructionExit(insn, REASON.RDRAND, 0n);
  return random(p, insn);
}

/** @sdm "RDSEED—Read Random SEED" */
export function rdseed(p: Processor, insn: Insn): Outcome {
  if (p.vtx.secondary & SECONDARY.RDSEED) return p.vtx.instructionExit(insn, REASON.RDSEED, 0n);
  return random(p, insn);
}

implement('RDRAND', rdrand);
implement('RDSEED', rdseed);
