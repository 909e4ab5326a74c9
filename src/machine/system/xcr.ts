/** XGETBV and XSETBV. */

import { hasFeature } from '../cpuid/cpuid.ts';
import { RAX, RCX, RDX } from '../engine/layout.ts';
import { implement } from '../isa/handlers.ts';
import type { Insn } from '../isa/insn.ts';
import { DONE, GP, type Outcome, UD } from '../outcome.ts';
import { updateSlowFlags } from '../processor/slow-flags.ts';
import { CR4_OSXSAVE, type Processor } from '../processor.ts';
import { REASON } from '../vtx/reasons.ts';
import { componentsInUse, requestedComponents } from './xsave.ts';
import { AVX, SSE, SUPPORTED_XCR0, X87 } from './xstate-layout.ts';

/** @sdm "XGETBV—Get Value of Extended Control Register" */
export function xgetbv(p: Processor): Outcome {
  if (!(p.cr4 & CR4_OSXSAVE)) return p.raise(UD);
  const index = p.gpr32(RCX);
  let value: bigint;
  if (index === 0) value = p.xcr0;
  else if (index === 1 && hasFeature(p, 'xgetbv1')) value = p.xcr0 & componentsInUse(p);
  else return p.raise(GP, 0);
  p.setGpr32(RAX, Number(value & 0xffff_ffffn));
  p.setGpr32(RDX, Number(value >> 32n));
  return DONE;
}

/** Whether XCR0 may have this value. @sdm "Enabling the XSAVE Feature Set and XSAVE-Enabled Features" */
export const isXcr0 = (value: bigint): boolean =>
  (value & X87) !== 0n && (value & ~SUPPORTED_XCR0) === 0n && ((value & AVX) === 0n || (value & SSE) !== 0n);

/** XSETBV of XCR0; false for #GP. */
export function writeXcr0(p: Processor, value: bigint): boolean {
  if (!isXcr0(value)) return false;
  p.xcr0 = value;
  updateSlowFlags(p);
  return true;
}

/** @sdm "XSETBV—Set Extended Control Register" */
export function xsetbv(p: Processor, insn: Insn): Outcome {
  if (!(p.cr4 & CR4_OSXSAVE)) return p.raise(UD);
  if (p.cpl !== 0) return p.raise(GP, 0);
  if (p.vtx.nonRoot) return p.vtx.instructionExit(insn, REASON.XSETBV, 0n);
  if (p.gpr32(RCX) !== 0) return p.raise(GP, 0);
  return writeXcr0(p, requestedComponents(p)) ? DONE : p.raise(GP, 0);
}

implement('XGETBV', xgetbv);
implement('XSETBV', xsetbv);
