/** TDH.MEM.SEPT.ADD: a table for a TD's Secure EPT. */
import type { Call, HostLeaf } from '../objects/call.ts';
import { lockTdr, newPage, operandInvalid, tdInState } from '../objects/checks.ts';
import { PT } from '../objects/pamt.ts';
import { tableEntry } from '../objects/sept-entry.ts';
import { checkState, reportEntry, type SeptOperand, septOperand } from '../objects/sept-operand.ts';
import { SEPT } from '../objects/sept-state.ts';
import { isError, OPERAND, STATUS, status } from '../status.ts';

/** RDX bit 0: a table that exists already is no error. */
const ALLOW_EXISTING = 1n;
/** No page. */
const NULL_PA = 0xffff_ffff_ffff_ffffn;
/** In an output of version 1: the page was not used; ignored as input. */
const NOT_USED = 1n << 63n;

/**
 * RCX GPA mapping of the entry that will refer to the table, RDX TDR, R8 page; version 1: R9 to R11 pages for the tables
 * of L2 virtual machines, of which there are none here; out (version 1) R8 to R11: the pages, all ones for those used.
 * @tdx "TDH.MEM.SEPT.ADD Leaf"
 */
export const tdhMemSeptAdd: HostLeaf = {
  number: 3,
  name: 'TDH.MEM.SEPT.ADD',
  versions: [0, 1],
  refusesVersions: true,
  run,
};

function run(call: Call): bigint {
  const { version, out } = call;
  out.rcx = 0n;
  out.rdx = 0n;
  if (version > 1) return operandInvalid(OPERAND.RAX);
  const withoutFlag = (pa: bigint): bigint => (pa === NULL_PA ? pa : pa & ~NOT_USED);
  const r8 = withoutFlag(call.r8);
  if (version > 0) {
    out.r8 = r8;
    out.r9 = withoutFlag(call.r9);
    out.r10 = withoutFlag(call.r10);
    out.r11 = withoutFlag(call.r11);
  }
  const allowExisting = (call.rdx & ALLOW_EXISTING) !== 0n;
  const tdr = lockTdr(call, call.rdx & ~ALLOW_EXISTING, OPERAND.RDX, 'shared');
  if (typeof tdr === 'bigint') return tdr;
  const tdcs = tdInState(call, tdr);
  if (typeof tdcs === 'bigint') return tdcs;
  const operand = septOperand(call, tdcs, 1, tdcs.rootLevel, 'shared');
  if (typeof operand === 'bigint') return operand;
  const state = checkState(call, operand, 'TDH.MEM.SEPT.ADD');
  if (isError(state)) return state;

  const exists = operand.state === SEPT.NL_MAPPED;
  if (r8 === NULL_PA) {
    if (version === 0) return operandInvalid(OPERAND.R8);
    if (!exists) return stateIncorrect(call, operand);
  } else if (exists && !allowExisting) return stateIncorrect(call, operand);
  const page = exists ? null : newPage(call, r8, OPERAND.R8);
  if (typeof page === 'bigint') return page;
  if (version > 0) {
    if (exists && r8 !== NULL_PA) out.r8 = r8 | NOT_USED;
    if (out.r9 !== NULL_PA) return operandInvalid(OPERAND.R9);
    if (out.r10 !== NULL_PA) return operandInvalid(OPERAND.R10);
    if (out.r11 !== NULL_PA) return operandInvalid(OPERAND.R11);
  }

  // all checks passed
  if (page !== null) {
    operand.sept.fillTable(page.page);
    operand.replace(tableEntry(page.page, tdcs.hkid));
    tdr.addChildren(1);
    page.assign(PT.EPT, tdr.pa);
    if (version > 0) out.r8 = NULL_PA;
  }
  return status(STATUS.SUCCESS);
}

function stateIncorrect(call: Call, { entry, level }: SeptOperand): bigint {
  reportEntry(call, entry, level);
  return status(STATUS.EPT_ENTRY_STATE_INCORRECT, OPERAND.RCX);
}
