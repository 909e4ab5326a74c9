import type { HostLeaf } from '../objects/call.ts';
import { lockTdr, operandBusy } from '../objects/checks.ts';
import { HKID } from '../objects/kot.ts';
import { OP_STATE } from '../objects/tdcs.ts';
import { LIFECYCLE } from '../objects/tdr.ts';
import { OPERAND, STATUS, status } from '../status.ts';

/**
 * Ends a TD's life: no virtual processor is on a logical processor any more, and none can be from now on. RCX: TDR.
 *
 * @tdx "TDH.MNG.VPFLUSHDONE"
 */
export const tdhMngVpflushdone: HostLeaf = {
  number: 19,
  name: 'TDH.MNG.VPFLUSHDONE',
  versions: [0],
  run(call) {
    const { module, rcx } = call;
    const tdr = lockTdr(call, rcx, OPERAND.RCX, 'exclusive');
    if (typeof tdr === 'bigint') return tdr;
    if (!call.lock('kot', 0, 'exclusive')) return operandBusy(OPERAND.KOT);
    const { lifecycle } = tdr;
    if (lifecycle !== LIFECYCLE.KEYS_CONFIGURED && lifecycle !== LIFECYCLE.HKID_ASSIGNED) {
      return status(STATUS.LIFECYCLE_STATE_INCORRECT);
    }
    if (tdr.hasTdcs && tdr.tdcs.opState !== OP_STATE.UNINITIALIZED && tdr.tdcs.num('NUM_ASSOC_VCPUS') !== 0) {
      return status(STATUS.FLUSHVP_NOT_DONE);
    }
    // all checks passed
    const entry = module.kot.entries[tdr.hkid]!;
    entry.state = HKID.FLUSHED;
    entry.writeBack = module.system.keyConfigured;
    tdr.set('LIFECYCLE_STATE', LIFECYCLE.BLOCKED);
    return status(STATUS.SUCCESS);
  },
};
