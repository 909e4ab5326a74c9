/** TDH.MEM.PAGE.AUG: memory for a TD that is built already; the guest has to accept it. */
import type { Call, HostLeaf } from '../objects/call.ts';
import { lockTdr, newPage, tdInState } from '../objects/checks.ts';
import { PT } from '../objects/pamt.ts';
import { leafEntry } from '../objects/sept-entry.ts';
import { levelPages } from '../objects/sept-gpa.ts';
import { checkState, septOperand } from '../objects/sept-operand.ts';
import { SEPT } from '../objects/sept-state.ts';
import type { PageLevel } from '../objects/tdmr.ts';
import { isError, OPERAND, STATUS, status } from '../status.ts';

/** RCX GPA mapping (4 KiB or 2 MiB), RDX TDR, R8 page. @tdx "TDH.MEM.PAGE.AUG Leaf" */
export const tdhMemPageAug: HostLeaf = { number: 6, name: 'TDH.MEM.PAGE.AUG', versions: [0], run };

function run(call: Call): bigint {
  call.out.rcx = 0n;
  call.out.rdx = 0n;
  const tdr = lockTdr(call, call.rdx, OPERAND.RDX, 'shared');
  if (typeof tdr === 'bigint') return tdr;
  const tdcs = tdInState(call, tdr);
  if (typeof tdcs === 'bigint') return tdcs;
  const operand = septOperand(call, tdcs, 0, 1, 'shared');
  if (typeof operand === 'bigint') return operand;
  const state = checkState(call, operand, 'TDH.MEM.PAGE.AUG');
  if (isError(state)) return state;
  const page = newPage(call, call.r8, OPERAND.R8, operand.level as PageLevel);
  if (typeof page === 'bigint') return page;

  // all checks passed
  // The content stays what and whose it is: TDG.MEM.PAGE.ACCEPT is the first to write the page.
  operand.replace(leafEntry(SEPT.PENDING, page.page, tdcs.hkid));
  tdr.addChildren(levelPages(operand.level));
  page.assign(PT.REG, tdr.pa);
  return status(STATUS.SUCCESS);
}
