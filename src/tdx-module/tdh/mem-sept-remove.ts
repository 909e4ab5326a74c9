/** TDH.MEM.SEPT.REMOVE: takes an empty table from a TD's Secure EPT. */
import type { Call, HostLeaf } from '../objects/call.ts';
import { lockTdr, operandInvalid, tdInState } from '../objects/checks.ts';
import { checkTracking } from '../objects/epoch.ts';
import { entryState, SEPT_FREE_ENTRY } from '../objects/sept-entry.ts';
import { checkState, reportEntry, septOperand } from '../objects/sept-operand.ts';
import { lockPamtOf } from '../objects/sept-page.ts';
import { SEPT } from '../objects/sept-state.ts';
import { isError, OPERAND, STATUS, status } from '../status.ts';

/** RCX GPA mapping of the entry that refers to the table, RDX TDR; out RCX the page. @tdx "TDH.MEM.SEPT.REMOVE Leaf" */
export const tdhMemSeptRemove: HostLeaf = {
  number: 30,
  name: 'TDH.MEM.SEPT.REMOVE',
  versions: [0, 1],
  refusesVersions: true,
  run,
};

const NULL_PA = 0xffff_ffff_ffff_ffffn;

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
  const operand = septOperand(call, tdcs, 1, tdcs.rootLevel, 'exclusive');
  if (typeof operand === 'bigint') return operand;
  const state = checkState(call, operand, 'TDH.MEM.SEPT.REMOVE');
  if (isError(state)) return state;
  const page = lockPamtOf(call, operand);
  if (typeof page === 'bigint') return page;
  const tracked = checkTracking(call, tdcs, operand, page);
  if (isError(tracked)) return tracked;
  if (operand.sept.readTable(page.page).some((entry) => entryState(entry) !== SEPT.FREE)) {
    reportEntry(call, operand.entry, operand.level);
    return status(STATUS.EPT_PAGE_NOT_FREE, OPERAND.RCX);
  }

  // all checks passed
  operand.replace(SEPT_FREE_ENTRY);
  tdr.addChildren(-1);
  page.free();
  call.out.rcx = BigInt(page.page);
  return status(STATUS.SUCCESS);
}
