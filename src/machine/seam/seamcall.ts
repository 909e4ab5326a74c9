/**
 * SEAMCALL for root software in TypeScript, and the checks that the instruction shares with it.
 * @tdx "SEAMCALL" (instruction reference)
 */

import { RAX } from '../engine/layout.ts';
import { UD } from '../outcome.ts';
import type { Processor } from '../processor.ts';
import { releaseGuest } from '../vtx/exit.ts';
import { FAULTED, ROOT, VM_FAIL_INVALID, VM_SUCCEED } from '../vtx/operation.ts';

/** RAX bit 63: the call is for P-SEAMLDR, which is not there: firmware has loaded the module. */
const P_SEAMLDR = 1n << 63n;

/**
 * Executes SEAMCALL in VMX root operation with CPL 0 in 64-bit mode.
 * @returns 0: completed (CF=0), results in the GPRs; 1: VMfailInvalid (CF=1); 0x100 | vector: a fault
 */
export function seamcall(p: Processor): number {
  const { seam } = p.machine;
  if (!seam.enabled || p.vtx.operation !== ROOT) return FAULTED | UD;
  const { firmware } = seam;
  if (firmware === null || p.gpr(RAX) & P_SEAMLDR) return VM_FAIL_INVALID;
  // all checks passed
  releaseGuest(p.vtx);
  firmware.seamcall(p);
  return VM_SUCCEED;
}
