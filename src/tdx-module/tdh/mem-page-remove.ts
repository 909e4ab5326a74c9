/** TDH.MEM.PAGE.REMOVE: takes a page from a TD. */
import type { Call, HostLeaf } from '../objects/call.ts';
import { lockTdr, tdInState } from '../objects/checks.ts';
import { checkTracking } from '../objects/epoch.ts';
import { MAX_LEAF_LEVEL, SEPT_FREE_ENTRY } from '../objects/sept-entry.ts';
import { levelPages } from '../objects/sept-gpa.ts';
import { checkState, septOperand } from '../objects/sept-operand.ts';
import { lockPamtOf } from '../objects/sept-page.ts';
import { isError, OPERAND, STATUS, status } from '../status.ts';

/** RCX GPA mapping, RDX TDR; out RCX the page. @tdx "TDH.MEM.PAGE.REMOVE Leaf" */
export const tdhMemPageRemove: HostLeaf = { number: 29, name: 'TDH.MEM.PAGE.REMOVE', versions: [0], run };

function run(call: Call): bigint {
  call.out.rcx = 0n;
  call.out.rdx = 0n;
  const tdr = lockTdr(call, call.rdx, OPERAND.RDX, 'shared');
  if (typeof tdr === 'bigint') return tdr;
  const tdcs = tdInState(call, tdr);
  if (typeof tdcs === 'bigint') return tdcs;
  const operand = septOperand(call, tdcs, 0, MAX_LEAF_LEVEL, 'shared');
  if (typeof operand === 'bigint') return operand;
  const state = checkState(call, operand, 'TDH.MEM.PAGE.REMOVE');
  if (isError(state)) return state;
  const page = lockPamtOf(call, operand);
  if (typeof page === 'bigint') return page;
  const tracked = checkTracking(call, tdcs, operand, page);
  if (isError(tracked)) return tracked;

  // all checks passed
  operand.replace(SEPT_FREE_ENTRY);
  tdr.addChildren(-levelPages(operand.level));
  page.free();
  call.out.rcx = BigInt(page.page);
  return status(STATUS.SUCCESS);
}
