/** The physical page or table behind a Secure EPT entry. */

import { OPERAND } from '../status.ts';
import type { Call } from './call.ts';
import { operandBusy } from './checks.ts';
import type { PamtEntry } from './pamt.ts';
import type { SeptOperand } from './sept-operand.ts';
import type { PageLevel } from './tdmr.ts';

/** PAMT entry of what an entry refers to: a table, or a page of the entry's size. */
export function pamtOf(call: Call, { state, target, level }: SeptOperand): PamtEntry {
  const entry = call.module.pamt.entry(target, (state.leaf ? level : 0) as PageLevel);
  if (entry === null) throw new Error(`a Secure EPT refers to ${target.toString(16)}, which has no PAMT entry`);
  return entry;
}

/** The same, locked for a leaf that frees the page. */
export function lockPamtOf(call: Call, operand: SeptOperand): PamtEntry | bigint {
  const entry = pamtOf(call, operand);
  return call.lock(entry.lockKind, entry.page, 'exclusive') ? entry : operandBusy(OPERAND.RCX);
}
