/** TDH.MEM.SEPT.RD: tells the host an entry of the Secure EPT. */
import type { Call, HostLeaf } from '../objects/call.ts';
import { lockTdr, operandInvalid, tdInState } from '../objects/checks.ts';
import { reportEntry, septOperand } from '../objects/sept-operand.ts';
import { ATTRIBUTES } from '../objects/tdcs.ts';
import { OPERAND, STATUS, status } from '../status.ts';

/** RDX bit 0: R8 tells the attributes that L2 virtual machines have for the page; of a TD under debug only. */
const READ_L2_ATTRIBUTES = 1n;

/** RCX GPA mapping, RDX TDR; out RCX entry, RDX level and state. @tdx "TDH.MEM.SEPT.RD Leaf" */
export const tdhMemSeptRd: HostLeaf = { number: 25, name: 'TDH.MEM.SEPT.RD', versions: [0], run };

function run(call: Call): bigint {
  call.out.rcx = 0n;
  call.out.rdx = 0n;
  const l2Attributes = (call.rdx & READ_L2_ATTRIBUTES) !== 0n;
  const tdr = lockTdr(call, call.rdx & ~READ_L2_ATTRIBUTES, OPERAND.RDX, 'shared');
  if (typeof tdr === 'bigint') return tdr;
  const tdcs = tdInState(call, tdr);
  if (typeof tdcs === 'bigint') return tdcs;
  if (l2Attributes && !tdcs.hasAttribute(ATTRIBUTES.DEBUG)) return operandInvalid(OPERAND.RDX);
  const operand = septOperand(call, tdcs, 0, tdcs.rootLevel, 'shared');
  if (typeof operand === 'bigint') return operand;

  // all checks passed
  // A TD without L2 virtual machines has no attributes for them.
  if (l2Attributes) call.out.r8 = 0n;
  reportEntry(call, operand.entry, operand.level);
  return status(STATUS.SUCCESS);
}
