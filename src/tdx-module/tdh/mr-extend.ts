/** TDH.MR.EXTEND: measures 256 bytes of a TD's initial memory. */
import type { Call, HostLeaf } from '../objects/call.ts';
import { lockTdr, tdInState } from '../objects/checks.ts';
import { MEASURED_CHUNK, measureChunk } from '../objects/measurement.ts';
import { septLeafOperand } from '../objects/sept-operand.ts';
import { leafAllowed } from '../objects/sept-state.ts';
import { OPERAND, STATUS, status } from '../status.ts';

/** RCX GPA, RDX TDR. @tdx "TDH.MR.EXTEND Leaf" */
export const tdhMrExtend: HostLeaf = { number: 16, name: 'TDH.MR.EXTEND', versions: [0], run };

function run(call: Call): bigint {
  call.out.rcx = 0n;
  call.out.rdx = 0n;
  const tdr = lockTdr(call, call.rdx, OPERAND.RDX, 'exclusive');
  if (typeof tdr === 'bigint') return tdr;
  const tdcs = tdInState(call, tdr);
  if (typeof tdcs === 'bigint') return tdcs;
  const operand = septLeafOperand(call, tdcs, BigInt(MEASURED_CHUNK), false);
  if (typeof operand === 'bigint') return operand;
  if (!leafAllowed('TDH.MR.EXTEND', operand.state)) return status(STATUS.EPT_ENTRY_NOT_PRESENT);

  // all checks passed
  const chunk = call.module.platform.keyed.readBytes(operand.hpa, tdcs.hkid, MEASURED_CHUNK);
  measureChunk(tdcs, operand.gpa, chunk);
  return status(STATUS.SUCCESS);
}
