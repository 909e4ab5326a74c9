/** TDH.MEM.RD and TDH.MEM.WR: eight bytes of a TD under debug. */
import type { Call, HostLeaf } from '../objects/call.ts';
import { lockTdr, tdInState } from '../objects/checks.ts';
import { checkState, septLeafOperand } from '../objects/sept-operand.ts';
import { ATTRIBUTES } from '../objects/tdcs.ts';
import { isError, OPERAND, STATUS, status } from '../status.ts';

/** RCX GPA, RDX TDR; out R8. @tdx "TDH.MEM.RD Leaf" */
export const tdhMemRd: HostLeaf = {
  number: 12,
  name: 'TDH.MEM.RD',
  versions: [0],
  run: (call) => access(call, 'TDH.MEM.RD'),
};

/** RCX GPA, RDX TDR, R8 value; out R8 what was there. @tdx "TDH.MEM.WR Leaf" */
export const tdhMemWr: HostLeaf = {
  number: 14,
  name: 'TDH.MEM.WR',
  versions: [0],
  run: (call) => access(call, 'TDH.MEM.WR'),
};

function access(call: Call, leaf: 'TDH.MEM.RD' | 'TDH.MEM.WR'): bigint {
  call.out.rcx = 0n;
  call.out.rdx = 0n;
  call.out.r8 = 0n;
  const tdr = lockTdr(call, call.rdx, OPERAND.RDX, 'shared');
  if (typeof tdr === 'bigint') return tdr;
  const tdcs = tdInState(call, tdr);
  if (typeof tdcs === 'bigint') return tdcs;
  if (!tdcs.hasAttribute(ATTRIBUTES.DEBUG)) return status(STATUS.TD_NON_DEBUG);
  const operand = septLeafOperand(call, tdcs, 8n, true);
  if (typeof operand === 'bigint') return operand;
  const state = checkState(call, operand, leaf);
  if (isError(state)) return state;

  // all checks passed
  const { keyed } = call.module.platform;
  call.out.r8 = keyed.read64(operand.hpa, tdcs.hkid);
  if (leaf === 'TDH.MEM.WR') keyed.write64(operand.hpa, tdcs.hkid, call.r8);
  return status(STATUS.SUCCESS);
}
