/** TDH.MEM.TRACK: begins a new TLB epoch. */
import type { Call, HostLeaf } from '../objects/call.ts';
import { lockTdr, operandBusy, tdInState } from '../objects/checks.ts';
import { advanceEpoch } from '../objects/epoch.ts';
import { OPERAND, STATUS, status } from '../status.ts';

/** RCX TDR. @tdx "TDH.MEM.TRACK Leaf" */
export const tdhMemTrack: HostLeaf = { number: 38, name: 'TDH.MEM.TRACK', versions: [0], run };

function run(call: Call): bigint {
  const tdr = lockTdr(call, call.rcx, OPERAND.RCX, 'shared');
  if (typeof tdr === 'bigint') return tdr;
  const tdcs = tdInState(call, tdr);
  if (typeof tdcs === 'bigint') return tdcs;
  if (!call.lock('td_epoch', tdr.pa, 'exclusive')) return operandBusy(OPERAND.TD_EPOCH);
  return status(advanceEpoch(tdcs) ? STATUS.SUCCESS : STATUS.PREVIOUS_TLB_EPOCH_BUSY);
}
