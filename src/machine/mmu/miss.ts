/** TLB misses of generated code. */
import { ACCESS, FAULT_INFO, FAULT_VA } from '../engine/layout.ts';
import { DONE, type Outcome } from '../outcome.ts';
import type { Processor } from '../processor.ts';
import { misaligned, naturalAlignment } from './alignment.ts';
import { raiseNotCanonical } from './data-fault.ts';
import { fetchPage } from './fetch.ts';
import { fillData } from './fill.ts';
import { stepSlowly } from './slow-access.ts';
import { type Access, canonical, needFor } from './translate.ts';
import { walk } from './walk.ts';

/**
 * Deals with the miss that generated code has reported.
 * @returns DONE: run on; JUMPED: the instruction is complete; FAULT or VMEXIT
 */
export function handleMiss(p: Processor): Outcome {
  const m = p.mmu;
  const low = p.read32(FAULT_VA);
  const high = p.read32(FAULT_VA + 4);
  const info = p.read32(FAULT_INFO);
  const access = (info >>> 8) as Access;
  if (access === ACCESS.fetch) return fetchPage(p, low, high);
  if (!canonical(p, m, high)) return raiseNotCanonical(p, access);
  if (misaligned(p, m.class, low, naturalAlignment(info & 0xff))) return p.outcome;
  if ((low & 0xfff) + (info & 0xff) <= 4096) {
    const need = needFor(m, access, false);
    if (!walk(p, m, low, high, need)) return p.outcome;
    if (fillData(p, m, m.class, need)) return DONE;
  }
  return stepSlowly(p);
}
