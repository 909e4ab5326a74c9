/** TDH.MEM.RANGE.UNBLOCK: gives a blocked range back. */
import type { Call, HostLeaf } from '../objects/call.ts';
import { lockTdr, tdInState } from '../objects/checks.ts';
import { checkTracking } from '../objects/epoch.ts';
import { unblocked } from '../objects/sept-entry.ts';
import { checkState, septOperand } from '../objects/sept-operand.ts';
import { pamtOf } from '../objects/sept-page.ts';
import { isError, OPERAND, STATUS, status } from '../status.ts';

/** RCX GPA mapping, RDX TDR. @tdx "TDH.MEM.RANGE.UNBLOCK Leaf" */
export const tdhMemRangeUnblock: HostLeaf = { number: 39, name: 'TDH.MEM.RANGE.UNBLOCK', versions: [0], run };

function run(call: Call): bigint {
  call.out.rcx = 0n;
  call.out.rdx = 0n;
  const tdr = lockTdr(call, call.rdx, OPERAND.RDX, 'shared');
  if (typeof tdr === 'bigint') return tdr;
  const tdcs = tdInState(call, tdr);
  if (typeof tdcs === 'bigint') return tdcs;
  const operand = septOperand(call, tdcs, 0, tdcs.rootLevel, 'exclusive');
  if (typeof operand === 'bigint') return operand;
  const state = checkState(call, operand, 'TDH.MEM.RANGE.UNBLOCK');
  if (isError(state)) return state;
  const tracked = checkTracking(call, tdcs, operand, pamtOf(call, operand));
  if (isError(tracked)) return tracked;

  // all checks passed
  operand.replace(unblocked(operand.entry));
  return status(STATUS.SUCCESS);
}
