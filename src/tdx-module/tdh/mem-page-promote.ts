/** TDH.MEM.PAGE.PROMOTE: merges 512 small pages of a TD into a large one. */
import type { Call, HostLeaf } from '../objects/call.ts';
import { interrupted, lockTdr, operandBusy, operandInvalid, tdInState } from '../objects/checks.ts';
import { checkTracking } from '../objects/epoch.ts';
import { PT } from '../objects/pamt.ts';
import {
  entryHpa,
  entryState,
  HOST_PRIORITY,
  MAX_LEAF_LEVEL,
  SEPT_ENTRIES,
  withoutAcceptProgress,
} from '../objects/sept-entry.ts';
import { levelSize } from '../objects/sept-gpa.ts';
import { lockEntryForHost } from '../objects/sept-lock.ts';
import { checkState, reportEntry, type SeptOperand, septOperand } from '../objects/sept-operand.ts';
import { lockPamtOf } from '../objects/sept-page.ts';
import { SEPT } from '../objects/sept-state.ts';
import type { PageLevel } from '../objects/tdmr.ts';
import { isError, OPERAND, STATUS, status } from '../status.ts';

const NULL_PA = 0xffff_ffff_ffff_ffffn;

/** RCX GPA mapping (2 MiB or 1 GiB), RDX TDR; out RCX the table's page. @tdx "TDH.MEM.PAGE.PROMOTE Leaf" */
export const tdhMemPagePromote: HostLeaf = {
  number: 23,
  name: 'TDH.MEM.PAGE.PROMOTE',
  versions: [0, 1],
  refusesVersions: true,
  run,
};

function run(call: Call): bigint {
  call.out.rcx = 0n;
  call.out.rdx = 0n;
  // Tables of L2 virtual machines: there are none.
  if (call.version > 0) call.out.r9 = call.out.r10 = call.out.r11 = NULL_PA;
  if (call.version > 1) return operandInvalid(OPERAND.RAX);
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
  const large = mergedEntry(call, operand);
  if (typeof large === 'number') {
    reportEntry(call, operand.entry, operand.level);
    return status(large, OPERAND.RCX);
  }
  if (call.interruptPending) return interrupted(call);
  const { pamt } = call.module;
  const base = entryHpa(large);
  const merged = pamt.entry(base, operand.level as PageLevel)!;
  if (!call.lock(merged.lockKind, merged.page, 'exclusive')) return operandBusy(OPERAND.RCX);

  // all checks passed
  const childLevel = (operand.level - 1) as PageLevel;
  for (let index = 0; index < SEPT_ENTRIES; index++)
    pamt.entry(base + index * levelSize(childLevel), childLevel)!.free();
  merged.assignKeepingEpoch(PT.REG, tdr.pa);
  operand.replace(large);
  tdr.addChildren(-1);
  table.free();
  call.out.rcx = BigInt(table.page);
  return status(STATUS.SUCCESS);
}

/**
 * The entry for the large page, if the table maps 512 pages in one state, one after the other, from an aligned one on; the
 * code of a status if not. Each entry is locked against the guest before it is looked at.
 */
function mergedEntry(call: Call, { sept, gpa, target, level }: SeptOperand): bigint | number {
  const childLevel = level - 1;
  const step = BigInt(levelSize(childLevel));
  let first = 0n;
  for (let index = 0; index < SEPT_ENTRIES; index++) {
    const at = target + index * 8;
    const position = { at, entry: sept.memory.read64(at, sept.hkid), level: childLevel, corrupt: false };
    if (!lockEntryForHost(call, sept, gpa + index * levelSize(childLevel), position)) return STATUS.OPERAND_BUSY;
    const entry = withoutAcceptProgress(position.entry & ~HOST_PRIORITY, childLevel);
    if (index === 0) {
      const state = entryState(entry);
      if (entryHpa(entry) % levelSize(level) !== 0) return STATUS.EPT_INVALID_PROMOTE_CONDITIONS;
      if (state !== SEPT.MAPPED && state !== SEPT.PENDING) return STATUS.EPT_INVALID_PROMOTE_CONDITIONS;
      first = entry;
    } else if (entry !== first + BigInt(index) * step) return STATUS.EPT_INVALID_PROMOTE_CONDITIONS;
  }
  return first;
}
