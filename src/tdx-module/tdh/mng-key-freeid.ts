import type { HostLeaf } from '../objects/call.ts';
import { lockTdr, operandBusy } from '../objects/checks.ts';
import { HKID } from '../objects/kot.ts';
import { LIFECYCLE } from '../objects/tdr.ts';
import { OPERAND, STATUS, status } from '../status.ts';

/**
 * Frees a TD's HKID, after the caches of all packages were written back; the TD's pages can be reclaimed then. RCX: TDR.
 *
 * @tdx "TDH.MNG.KEY.FREEID"
 */
export const tdhMngKeyFreeid: HostLeaf = {
  number: 20,
  name: 'TDH.MNG.KEY.FREEID',
  versions: [0],
  run(call) {
    const tdr = lockTdr(call, call.rcx, OPERAND.RCX, 'exclusive');
    if (typeof tdr === 'bigint') return tdr;
    if (tdr.lifecycle !== LIFECYCLE.BLOCKED) return status(STATUS.LIFECYCLE_STATE_INCORRECT);
    if (!call.lock('kot', 0, 'exclusive')) return operandBusy(OPERAND.KOT);
    const entry = call.module.kot.entries[tdr.hkid]!;
    if (entry.writeBack !== 0n) return status(STATUS.WBCACHE_NOT_COMPLETE);
    // all checks passed
    entry.state = HKID.FREE;
    tdr.set('LIFECYCLE_STATE', LIFECYCLE.TEARDOWN);
    return status(STATUS.SUCCESS);
  },
};
