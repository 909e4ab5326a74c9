/** TDH.MEM.RANGE.BLOCK: no new translation of a range comes to be. Old ones go with TDH.MEM.TRACK and exits of the TD. */
import type { Call, HostLeaf } from '../objects/call.ts';
import { lockTdr, tdInState } from '../objects/checks.ts';
import { blocked } from '../objects/sept-entry.ts';
import { checkState, reportEntry, septOperand } from '../objects/sept-operand.ts';
import { pamtOf } from '../objects/sept-page.ts';
import { isError, OPERAND, STATUS, status } from '../status.ts';

/** RCX GPA mapping, RDX TDR. @tdx "TDH.MEM.RANGE.BLOCK Leaf" */
export const tdhMemRangeBlock: HostLeaf = { number: 7, name: 'TDH.MEM.RANGE.BLOCK', versions: [0], run };

function run(call: Call): bigint {
  call.out.rcx = 0n;
  call.out.rdx = 0n;
  const tdr = lockTdr(call, call.rdx, OPERAND.RDX, 'shared');
  if (typeof tdr === 'bigint') return tdr;
  const tdcs = tdInState(call, tdr);
  if (typeof tdcs === 'bigint') return tdcs;
  const operand = septOperand(call, tdcs, 0, tdcs.rootLevel, 'exclusive');
  if (typeof operand === 'bigint') return operand;
  if (operand.state.blocked) {
    reportEntry(call, operand.entry, operand.level);
    return status(STATUS.GPA_RANGE_ALREADY_BLOCKED, OPERAND.RCX);
  }
  const state = checkState(call, operand, 'TDH.MEM.RANGE.BLOCK');
  if (isError(state)) return state;

  // all checks passed
  operand.replace(blocked(operand.entry));
  pamtOf(call, operand).bepoch = tdcs.get('TD_EPOCH');
  return status(STATUS.SUCCESS);
}
