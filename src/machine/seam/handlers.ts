/**
 * SEAMCALL, TDCALL, SEAMRET and SEAMOPS as executed code. Nobody executes code in SEAM root operation here, the module is
 * TypeScript: SEAMRET and SEAMOPS are undefined everywhere.
 * @tdx "Instructions" (SEAMCALL, SEAMOPS, SEAMRET, TDCALL)
 */
import { implement } from '../isa/handlers.ts';
import type { Insn } from '../isa/insn.ts';
import { DONE, GP, type Outcome, UD } from '../outcome.ts';
import { FLAG_CF, type Processor, STATUS_FLAGS } from '../processor.ts';
import { contextSwitched } from '../vtx/exit.ts';
import { OUTSIDE, VM_SUCCEED } from '../vtx/operation.ts';
import { REASON } from '../vtx/reasons.ts';
import { seamcall as call } from './seamcall.ts';

/** Order: #UD by mode, VM exit in non-root operation, #GP(0) by CPL, VMfailInvalid without a module. */
function seamcall(p: Processor, insn: Insn): Outcome {
  const { vtx } = p;
  if (!p.machine.seam.enabled || vtx.operation === OUTSIDE || !p.mode64) return p.raise(UD);
  if (vtx.nonRoot) return vtx.instructionExit(insn, REASON.SEAMCALL, 0n);
  if (p.cpl !== 0) return p.raise(GP, 0);
  const result = call(p);
  if (result !== VM_SUCCEED) {
    p.rflags = ((p.rflags & ~STATUS_FLAGS) | FLAG_CF) >>> 0;
    return DONE;
  }
  p.rflags = (p.rflags & ~FLAG_CF) >>> 0;
  // A TD may have run: generated code gets this software's segments and translations again.
  vtx.publishedSegments = null;
  contextSwitched(vtx, true);
  return DONE;
}

/** The mode is the module's business, which injects #GP(0) outside 64-bit mode. */
function tdcall(p: Processor, insn: Insn): Outcome {
  const { vtx } = p;
  if (!vtx.nonRoot || !vtx.tdGuest) return p.raise(UD);
  return p.cpl === 0 ? vtx.instructionExit(insn, REASON.TDCALL, 0n) : p.raise(GP, 0);
}

const undefinedHere = (p: Processor): Outcome => p.raise(UD);

implement('SEAMCALL', seamcall);
implement('TDCALL', tdcall);
implement('SEAMRET', undefinedHere);
implement('SEAMOPS', undefinedHere);
