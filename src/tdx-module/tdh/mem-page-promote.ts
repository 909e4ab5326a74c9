/** TDH.MEM.PAGE.PROMOTE: merges 512 small pages of a TD into a large one. */
import type { Call, HostLeaf } from '../objects/call.ts';
import { lockTdr, operandBusy, tdInState } from '../objects/checks.ts';
import { checkTracking } from '../objects/epoch.ts';
import { PT } from '../objects/pamt.ts';
import { entryHpa, entryState, HOST_PRIORITY, MAX_LEAF_LEVEL, SEPT_ENTRIES } from '../objects/sept-entry.ts';
import { levelSize } from '../objects/sept-gpa.ts';
import { checkState, reportEntry, type SeptOperand, septOperand } from '../objects/sept-operand.ts';
import { lockPamtOf } from '../objects/sept-page.ts';
import { SEPT } from '../objects/sept-state.ts';
import type { PageLevel } from '../objects/tdmr.ts';
import { isError, OPERAND, STATUS, status } from '../status.ts';

const NULL_PA = 0xffff_ffff_ffff_ffffn;

/** RCX GPA mapping (2 MiB or 1 GiB), RDX TDR; out RCX the table's page. @tdx "TDH.MEM.PAGE.PROMOTE Leaf" */
export const tdhMemPagePromote: HostLeaf = { number: 23, name: 'TDH.MEM.PAGE.PROMOTE', versions: [0, 1], run };

function run(call: Call): bigint {
  call.out.rcx = 0n;
  call.out.rdx = 0n;
  // Tables of L2 virtual machines: there are none.
  if (call.version > 0) call.out.r9 = call.out.r10 = call.out.r11 = NULL_PA;
  const tdr = lockTdr(call, call.rdx, OPERAND.RDX, 'shared');
  if (typeof tdr === 'bigint') return tdr;
  const tdcs = tdInState(call, tdr);
  if (typeof tdcs === 'bigint') return tdcs;
  const operand = septOperand(call, tdcs, 1, MAX_LEAF_LEVEL, 'shared');
  if (typeof operand === 'bigint') return operand;
  const state = checkState(call, operand, 'TDH.MEM.PAGE.PROMOTE');
  if (isError(state)) return state;
  const table = lockPamtOf(call, operand);
  if (typeof table === 'bigint') return table;
  const tracked = checkTracking(call, tdcs, operand, table);
  if (isError(tracked)) return tracked;
  if (!lockChildren(call, operand)) return operandBusy(OPERAND.RCX);
  const large = mergedEntry(operand);
  if (large === null) {
    reportEntry(call, operand.entry, operand.level);
    return status(STATUS.EPT_INVALID_PROMOTE_CONDITIONS, OPERAND.RCX);
  }

  // all checks passed
  const childLevel = (operand.level - 1) as PageLevel;
  const base = entryHpa(large);
  const { pamt } = call.module;
  for (let index = 0; index < SEPT_ENTRIES; index++)
    pamt.entry(base + index * levelSize(childLevel), childLevel)!.free();
  pamt.entry(base, operand.level as PageLevel)!.assign(PT.REG, tdr.pa);
  operand.replace(large);
  tdr.addChildren(-1);
  table.free();
  call.out.rcx = BigInt(table.page);
  return status(STATUS.SUCCESS);
}

/** Locks the entries of the table against the guest. */
function lockChildren(call: Call, { gpa, level }: SeptOperand): boolean {
  for (let index = 0; index < SEPT_ENTRIES; index++) {
    if (!call.lock('sept_entry', gpa + index * levelSize(level - 1) + level - 1, 'exclusive')) return false;
  }
  return true;
}

/** The entry for the large page, if the table maps 512 pages in one state, one after the other, from an aligned one on. */
function mergedEntry({ sept, target, level }: SeptOperand): bigint | null {
  const entries = sept.readTable(target).map((entry) => entry & ~HOST_PRIORITY);
  const first = entries[0]!;
  const state = entryState(first);
  if (state !== SEPT.MAPPED && state !== SEPT.PENDING) return null;
  if (entryHpa(first) % levelSize(level) !== 0) return null;
  const step = BigInt(levelSize(level - 1));
  return entries.every((entry, index) => entry === first + BigInt(index) * step) ? first : null;
}
