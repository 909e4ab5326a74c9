/** TDH.MEM.PAGE.RELOCATE: moves a page of a TD to another physical page, content included. */
import type { Call, HostLeaf } from '../objects/call.ts';
import { lockTdr, newPage, operandInvalid, tdInState } from '../objects/checks.ts';
import { checkTracking } from '../objects/epoch.ts';
import { PT } from '../objects/pamt.ts';
import { unblocked, withHpa } from '../objects/sept-entry.ts';
import { checkState, septOperand } from '../objects/sept-operand.ts';
import { lockPamtOf } from '../objects/sept-page.ts';
import { PAGE } from '../platform.ts';
import { isError, OPERAND, STATUS, status } from '../status.ts';

/** RCX GPA mapping (4 KiB), RDX TDR, R8 new page; out RCX the old page. @tdx "TDH.MEM.PAGE.RELOCATE Leaf" */
export const tdhMemPageRelocate: HostLeaf = { number: 5, name: 'TDH.MEM.PAGE.RELOCATE', versions: [0], run };

function run(call: Call): bigint {
  call.out.rcx = 0n;
  call.out.rdx = 0n;
  const tdr = lockTdr(call, call.rdx, OPERAND.RDX, 'shared');
  if (typeof tdr === 'bigint') return tdr;
  const tdcs = tdInState(call, tdr);
  if (typeof tdcs === 'bigint') return tdcs;
  const operand = septOperand(call, tdcs, 0, 0, 'shared');
  if (typeof operand === 'bigint') return operand;
  const state = checkState(call, operand, 'TDH.MEM.PAGE.RELOCATE');
  if (isError(state)) return state;
  if (BigInt.asUintN(52, call.r8) === BigInt(operand.target)) return operandInvalid(OPERAND.R8);
  const old = lockPamtOf(call, operand);
  if (typeof old === 'bigint') return old;
  const tracked = checkTracking(call, tdcs, operand, old);
  if (isError(tracked)) return tracked;
  const page = newPage(call, call.r8, OPERAND.R8);
  if (typeof page === 'bigint') return page;

  // all checks passed
  if (!operand.state.pending) {
    const { keyed } = call.module.platform;
    const content = keyed.readBytes(old.page, tdcs.hkid, PAGE);
    keyed.take(page.page, tdcs.hkid);
    keyed.writeBytes(page.page, tdcs.hkid, content);
  }
  old.free();
  page.assign(PT.REG, tdr.pa);
  operand.replace(unblocked(withHpa(operand.entry, page.page, tdcs.hkid)));
  call.out.rcx = BigInt(old.page);
  return status(STATUS.SUCCESS);
}
