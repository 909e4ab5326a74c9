/** TDH.VP.ADDCX: another page for a virtual processor's state. */
import { withKeyId } from '../../machine/seam/key-id.ts';
import type { Call, HostLeaf } from '../objects/call.ts';
import { lockTdvpr, newPage, tdInState } from '../objects/checks.ts';
import { PT } from '../objects/pamt.ts';
import { TDVPS_BASE_PAGES, VCPU_STATE } from '../objects/tdvps.ts';
import { OPERAND, STATUS, status } from '../status.ts';

/** RCX page, RDX TDVPR. @tdx "TDH.VP.ADDCX Leaf" */
export const tdhVpAddcx: HostLeaf = { number: 4, name: 'TDH.VP.ADDCX', versions: [0], run };

function run(call: Call): bigint {
  const tdvps = lockTdvpr(call, call.rdx, OPERAND.RDX, 'exclusive');
  if (typeof tdvps === 'bigint') return tdvps;
  const { tdr } = tdvps;
  const tdcs = tdInState(call, tdr);
  if (typeof tdcs === 'bigint') return tdcs;
  if (tdvps.state !== VCPU_STATE.UNINITIALIZED) return status(STATUS.VCPU_STATE_INCORRECT, tdvps.state);
  const count = tdvps.num('NUM_TDVPS_PAGES');
  if (count >= TDVPS_BASE_PAGES) return status(STATUS.TDCX_NUM_INCORRECT);
  const page = newPage(call, call.rcx, OPERAND.RCX);
  if (typeof page === 'bigint') return page;

  // all checks passed
  call.module.platform.keyed.take(page.page, tdcs.hkid);
  tdvps.pages.push(page.page);
  tdvps.set('TDVPS_PAGE_PA', withKeyId(page.page, tdcs.hkid), count);
  tdvps.set('NUM_TDVPS_PAGES', count + 1);
  tdr.addChildren(1);
  page.assign(PT.TDCX, tdr.pa);
  return status(STATUS.SUCCESS);
}
