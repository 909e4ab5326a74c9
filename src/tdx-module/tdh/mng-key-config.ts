import type { HostLeaf } from '../objects/call.ts';
import { lockTdr, operandBusy } from '../objects/checks.ts';
import { LIFECYCLE } from '../objects/tdr.ts';
import { OPERAND, STATUS, status } from '../status.ts';

/**
 * Configures a TD's key on the calling processor's package; when every package has it the TD has its keys. RCX: TDR.
 *
 * @tdx "TDH.MNG.KEY.CONFIG"
 */
export const tdhMngKeyConfig: HostLeaf = {
  number: 8,
  name: 'TDH.MNG.KEY.CONFIG',
  versions: [0],
  run(call) {
    const { p, rcx } = call;
    const { platform } = call.module;
    const tdr = lockTdr(call, rcx, OPERAND.RCX, 'exclusive');
    if (typeof tdr === 'bigint') return tdr;
    if (tdr.fatal) return status(STATUS.TD_FATAL);
    if (tdr.lifecycle !== LIFECYCLE.HKID_ASSIGNED) return status(STATUS.LIFECYCLE_STATE_INCORRECT);
    const bit = 1n << BigInt(platform.packageOf(p));
    const configured = tdr.get('PKG_CONFIG_BITMAP');
    if (configured & bit) return status(STATUS.KEY_CONFIGURED);
    if (!call.lock('ket', platform.packageOf(p), 'exclusive')) return operandBusy(OPERAND.KET);
    if (!call.lock('entropy', 0, 'shared')) return status(STATUS.KEY_GENERATION_FAILED);
    // all checks passed
    tdr.set('PKG_CONFIG_BITMAP', configured | bit);
    if ((configured | bit) === platform.allPackages) tdr.set('LIFECYCLE_STATE', LIFECYCLE.KEYS_CONFIGURED);
    return status(STATUS.SUCCESS);
  },
};
