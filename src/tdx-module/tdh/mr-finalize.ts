/** TDH.MR.FINALIZE: the TD is built; it may run, and MRTD is what it is. */
import type { Call, HostLeaf } from '../objects/call.ts';
import { lockTdr, tdInState } from '../objects/checks.ts';
import { finalizeMeasurement } from '../objects/measurement.ts';
import { OP_STATE } from '../objects/tdcs.ts';
import { OPERAND, STATUS, status } from '../status.ts';

/** RCX TDR. @tdx "TDH.MR.FINALIZE Leaf" */
export const tdhMrFinalize: HostLeaf = { number: 17, name: 'TDH.MR.FINALIZE', versions: [0], run };

function run(call: Call): bigint {
  const tdr = lockTdr(call, call.rcx, OPERAND.RCX, 'exclusive');
  if (typeof tdr === 'bigint') return tdr;
  const tdcs = tdInState(call, tdr, 'exclusive');
  if (typeof tdcs === 'bigint') return tdcs;
  if (tdcs.num('NUM_VCPUS') === 0) return status(STATUS.NO_VCPUS);

  // all checks passed
  finalizeMeasurement(tdcs);
  // SERVTD_HASH stays zero: no service TD is bound.
  tdcs.set('OP_STATE', OP_STATE.RUNNABLE);
  return status(STATUS.SUCCESS);
}
