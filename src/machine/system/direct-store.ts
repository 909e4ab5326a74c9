/** MOVDIR64B: 64 bytes copied in one piece. (MOVDIRI is a plain store and lives in the instruction table.) */
import { ES } from '../engine/layout.ts';
import { implement } from '../isa/handlers.ts';
import type { Insn } from '../isa/insn.ts';
import { loadLinearBytes, storeLinearBytes } from '../mmu/access.ts';
import { GP, type Outcome } from '../outcome.ts';
import { linearOf, memoryAddress } from '../processor/operands.ts';
import type { Processor } from '../processor.ts';

const BYTES = 64;

/** The destination is ES:register, aligned to 64 bytes. @sdm "MOVDIR64B—Move 64 Bytes as Direct Store" */
export function movdir64b(p: Processor, insn: Insn): Outcome {
  const from = memoryAddress(p, insn, BYTES, false);
  if (from === undefined) return p.outcome;
  // Processors report a fault of the source first.
  const data = loadLinearBytes(p, from, BYTES);
  if (data === undefined) return p.outcome;
  const offset = BigInt.asUintN(insn.addressSize, p.gpr(insn.operands[0]!.register));
  const to = linearOf(p, ES, offset, BYTES, true);
  if (to === undefined) return p.outcome;
  return to % BigInt(BYTES) ? p.raise(GP, 0) : storeLinearBytes(p, to, data, false, true);
}

implement('MOVDIR64B', movdir64b);
