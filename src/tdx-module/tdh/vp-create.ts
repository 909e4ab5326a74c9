/** TDH.VP.CREATE: the root page of a virtual processor. */
import { withKeyId } from '../../machine/seam/key-id.ts';
import type { Call, HostLeaf } from '../objects/call.ts';
import { lockTdr, newPage, tdInState } from '../objects/checks.ts';
import { PT } from '../objects/pamt.ts';
import { NO_LP } from '../objects/tdvps.ts';
import { OPERAND, STATUS, status } from '../status.ts';

/** RCX page, RDX TDR. @tdx "TDH.VP.CREATE Leaf" */
export const tdhVpCreate: HostLeaf = { number: 10, name: 'TDH.VP.CREATE', versions: [0], run };

function run(call: Call): bigint {
  const tdr = lockTdr(call, call.rdx, OPERAND.RDX, 'shared');
  if (typeof tdr === 'bigint') return tdr;
  const tdcs = tdInState(call, tdr);
  if (typeof tdcs === 'bigint') return tdcs;
  const page = newPage(call, call.rcx, OPERAND.RCX);
  if (typeof page === 'bigint') return page;

  // all checks passed
  call.module.platform.keyed.take(page.page, tdcs.hkid);
  const tdvps = call.module.addTdvps(tdr, page.page);
  tdvps.set('NUM_TDVPS_PAGES', 1);
  tdvps.set('ASSOC_LPID', NO_LP);
  tdvps.set('TDVPS_PAGE_PA', withKeyId(page.page, tdcs.hkid), 0);
  tdr.addChildren(1);
  page.assign(PT.TDVPR, tdr.pa);
  return status(STATUS.SUCCESS);
}
