/** TDH.MEM.PAGE.DEMOTE: splits a large page of a TD into 512 small ones. */
import type { Call, HostLeaf } from '../objects/call.ts';
import { interrupted, lockTdr, newPage, operandBusy, operandInvalid, tdInState } from '../objects/checks.ts';
import { checkTracking } from '../objects/epoch.ts';
import { PT } from '../objects/pamt.ts';
import { MAX_LEAF_LEVEL, SEPT_ENTRIES, tableEntry, unblocked, withHpa } from '../objects/sept-entry.ts';
import { levelSize } from '../objects/sept-gpa.ts';
import { checkState, septOperand } from '../objects/sept-operand.ts';
import { pamtOf } from '../objects/sept-page.ts';
import type { PageLevel } from '../objects/tdmr.ts';
import { isError, OPERAND, STATUS, status } from '../status.ts';

/** RDX bit 0: how tables for L2 virtual machines are given; there are none. */
const L2_SEPT_ADD_MODE = 1n;
const RDX_RESERVED = 0xfff0_0000_0000_0ffen;

/**
 * RCX GPA mapping (2 MiB or 1 GiB), RDX TDR, R8 page for the new table, R9 to R11 for those of L2 virtual machines.
 * @tdx "TDH.MEM.PAGE.DEMOTE Leaf"
 */
export const tdhMemPageDemote: HostLeaf = { number: 15, name: 'TDH.MEM.PAGE.DEMOTE', versions: [0], run };

function run(call: Call): bigint {
  call.out.rcx = 0n;
  call.out.rdx = 0n;
  if ((call.rdx & RDX_RESERVED) !== 0n) return operandInvalid(OPERAND.RDX);
  const tdr = lockTdr(call, call.rdx & ~L2_SEPT_ADD_MODE, OPERAND.RDX, 'shared');
  if (typeof tdr === 'bigint') return tdr;
  const tdcs = tdInState(call, tdr);
  if (typeof tdcs === 'bigint') return tdcs;
  const operand = septOperand(call, tdcs, 1, MAX_LEAF_LEVEL, 'shared');
  if (typeof operand === 'bigint') return operand;
  const state = checkState(call, operand, 'TDH.MEM.PAGE.DEMOTE');
  if (isError(state)) return state;
  const large = pamtOf(call, operand);
  const tracked = checkTracking(call, tdcs, operand, large);
  if (isError(tracked)) return tracked;
  const table = newPage(call, call.r8, OPERAND.R8);
  if (typeof table === 'bigint') return table;

  if (call.interruptPending) return interrupted(call);
  if (!call.lock(large.lockKind, large.page, 'exclusive')) return operandBusy(OPERAND.RCX);

  // all checks passed
  const childLevel = (operand.level - 1) as PageLevel;
  const childAt = (index: number): number => large.page + index * levelSize(childLevel);
  const child = unblocked(operand.entry);
  operand.sept.fillTable(table.page, (index) => withHpa(child, childAt(index), tdcs.hkid));
  large.free();
  for (let index = 0; index < SEPT_ENTRIES; index++) {
    call.module.pamt.entry(childAt(index), childLevel)!.assign(PT.REG, tdr.pa);
  }
  operand.replace(tableEntry(table.page, tdcs.hkid));
  table.assignKeepingEpoch(PT.EPT, tdr.pa);
  tdr.addChildren(1);
  call.out.r9 = call.r9;
  call.out.r10 = call.r10;
  call.out.r11 = call.r11;
  return status(STATUS.SUCCESS);
}
