/** TDH.VP.FLUSH: a virtual processor leaves its logical processor; another may have it then. */
import { flushTd } from '../../machine/seam/td-run.ts';
import type { Call, HostLeaf } from '../objects/call.ts';
import { dissociate, lockTdvpr } from '../objects/checks.ts';
import { LIFECYCLE } from '../objects/tdr.ts';
import { TDVPS_BASE_PAGES } from '../objects/tdvps.ts';
import { OPERAND, STATUS, status } from '../status.ts';

/** RCX TDVPR. @tdx "TDH.VP.FLUSH Leaf" */
export const tdhVpFlush: HostLeaf = { number: 18, name: 'TDH.VP.FLUSH', versions: [0], run };

function run(call: Call): bigint {
  const tdvps = lockTdvpr(call, call.rcx, OPERAND.RCX, 'exclusive');
  if (typeof tdvps === 'bigint') return tdvps;
  // Not asked: whether the TD is dead. The host must be able to take apart one that is.
  if (tdvps.tdr.lifecycle !== LIFECYCLE.KEYS_CONFIGURED) return status(STATUS.TD_KEYS_NOT_CONFIGURED);
  if (tdvps.num('NUM_TDVPS_PAGES') < TDVPS_BASE_PAGES) return status(STATUS.TDCX_NUM_INCORRECT);
  if (tdvps.associatedLp !== call.p.index) return status(STATUS.VCPU_NOT_ASSOCIATED);

  // all checks passed
  flushTd(call.p, tdvps.vmcs);
  dissociate(tdvps);
  return status(STATUS.SUCCESS);
}
