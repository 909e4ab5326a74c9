/** Fetching: the execute entry of the page at a linear address. */
import { ACCESS } from '../engine/layout.ts';
import { DONE, GP, type Outcome, UD } from '../outcome.ts';
import type { Processor } from '../processor.ts';
import { inApicAccessPage, virtualizeAccess } from '../vtx/apic-access.ts';
import { fillExecute } from './fill.ts';
import { machineChecks } from './keyed-access.ts';
import { canonical, needFor } from './translate.ts';
import { walk } from './walk.ts';

/**
 * Fills the execute entry for the page of a linear address. Afterwards p.mmu.hpa says where the code's bytes are, ROM's
 * behind RAM.
 * @returns DONE, or FAULT or VMEXIT where nothing can be fetched there
 */
export function fetchPage(p: Processor, low: number, high: number): Outcome {
  const m = p.mmu;
  if (!canonical(p, m, high)) return p.raise(GP, 0);
  if (!walk(p, m, low, high, needFor(m, ACCESS.fetch, false))) return p.outcome;
  if (inApicAccessPage(p.vtx, m.hpa)) {
    virtualizeAccess(p.vtx, m.hpa, 1, ACCESS.fetch);
    return p.outcome;
  }
  const at = m.hpa;
  m.hpa = p.machine.memory.backing(at);
  if (m.hpa >= 0 && fillExecute(p, m)) return DONE;
  // Fetching reads ahead: a line that is not the TD's stops it wherever it lies in the page.
  if (machineChecks(p, at - (at & 0xfff), 4096, m.keyId)) return p.outcome;
  // What no RAM claims reads as all ones, FF FF is no instruction; nor is there one in memory of another KeyID.
  return p.raise(UD);
}
