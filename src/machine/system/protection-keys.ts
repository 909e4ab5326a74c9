/** RDPKRU and WRPKRU. */
import { RAX, RCX, RDX } from '../engine/layout.ts';
import { implement } from '../isa/handlers.ts';
import { writePkru } from '../mmu/invalidate.ts';
import { DONE, GP, type Outcome, UD } from '../outcome.ts';
import { CR4_PKE, type Processor } from '../processor.ts';

/** @sdm "RDPKRU—Read Protection Key Rights for User Pages" */
export function rdpkru(p: Processor): Outcome {
  if (!(p.cr4 & CR4_PKE)) return p.raise(UD);
  if (p.gpr32(RCX) !== 0) return p.raise(GP, 0);
  p.setGpr32(RAX, p.pkru);
  p.setGpr32(RDX, 0);
  return DONE;
}

/** @sdm "WRPKRU—Write Data to User Page Key Register" */
export function wrpkru(p: Processor): Outcome {
  if (!(p.cr4 & CR4_PKE)) return p.raise(UD);
  if (p.gpr32(RCX) !== 0 || p.gpr32(RDX) !== 0) return p.raise(GP, 0);
  writePkru(p, p.gpr32(RAX));
  return DONE;
}

implement('RDPKRU', rdpkru);
implement('WRPKRU', wrpkru);
