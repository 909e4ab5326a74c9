/** TDH.MEM.PAGE.ADD: a page of the TD's initial memory, with content from the host. */
import { keyIdOf, stripKeyId } from '../../machine/seam/key-id.ts';
import type { Call, HostLeaf } from '../objects/call.ts';
import { lockTdr, newPage, sharedPa, tdInState } from '../objects/checks.ts';
import { measurePage } from '../objects/measurement.ts';
import { PT } from '../objects/pamt.ts';
import { leafEntry } from '../objects/sept-entry.ts';
import { checkState, septOperand } from '../objects/sept-operand.ts';
import { SEPT } from '../objects/sept-state.ts';
import { PAGE } from '../platform.ts';
import { isError, OPERAND, STATUS, status } from '../status.ts';

/** RCX GPA mapping, RDX TDR, R8 page to add, R9 source. @tdx "TDH.MEM.PAGE.ADD Leaf" */
export const tdhMemPageAdd: HostLeaf = { number: 2, name: 'TDH.MEM.PAGE.ADD', versions: [0], run };

function run(call: Call): bigint {
  call.out.rcx = 0n;
  call.out.rdx = 0n;
  const tdr = lockTdr(call, call.rdx, OPERAND.RDX, 'exclusive');
  if (typeof tdr === 'bigint') return tdr;
  const tdcs = tdInState(call, tdr);
  if (typeof tdcs === 'bigint') return tdcs;
  const operand = septOperand(call, tdcs, 0, 0, null);
  if (typeof operand === 'bigint') return operand;
  const state = checkState(call, operand, 'TDH.MEM.PAGE.ADD');
  if (isError(state)) return state;
  const source = sharedPa(call.r9, OPERAND.R9, PAGE);
  if (typeof source === 'bigint') return source;
  const page = newPage(call, call.r8, OPERAND.R8);
  if (typeof page === 'bigint') return page;

  // all checks passed
  const { keyed } = call.module.platform;
  const content = keyed.readBytes(stripKeyId(source), keyIdOf(source), PAGE);
  keyed.take(page.page, tdcs.hkid);
  keyed.writeBytes(page.page, tdcs.hkid, content);
  operand.replace(leafEntry(SEPT.MAPPED, page.page, tdcs.hkid));
  measurePage(tdcs, operand.gpa);
  tdr.addChildren(1);
  page.assign(PT.REG, tdr.pa);
  return status(STATUS.SUCCESS);
}
