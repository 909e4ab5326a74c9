import type { HostLeaf } from '../objects/call.ts';
import { operandBusy } from '../objects/checks.ts';
import { SYS_STATE } from '../objects/system-state.ts';
import { OPERAND, STATUS, status } from '../status.ts';

/**
 * Configures the module's own key on the calling processor's package. When every package has it the module is ready.
 *
 * @tdx "TDH.SYS.KEY.CONFIG"
 */
export const tdhSysKeyConfig: HostLeaf = {
  number: 31,
  name: 'TDH.SYS.KEY.CONFIG',
  versions: [0],
  run(call) {
    const { module, p } = call;
    const { platform, system } = module;
    if (!call.lock('sys', 0, 'exclusive')) return status(STATUS.SYS_BUSY);
    if (system.state !== SYS_STATE.SYSCONFIG_DONE) return status(STATUS.SYS_KEY_CONFIG_NOT_PENDING);
    const bit = 1n << BigInt(platform.packageOf(p));
    if (system.keyConfigured & bit) return status(STATUS.KEY_CONFIGURED);
    if (!call.lock('ket', platform.packageOf(p), 'exclusive')) return operandBusy(OPERAND.KET);
    if (!call.lock('entropy', 0, 'shared')) return status(STATUS.KEY_GENERATION_FAILED);
    // all checks passed
    system.keyConfigured |= bit;
    if (system.keyConfigured === platform.allPackages) system.state = SYS_STATE.SYS_READY;
    return status(STATUS.SUCCESS);
  },
};
