import { MODULE_HV } from '../metadata/sys-values.ts';
import type { HostLeaf } from '../objects/call.ts';
import { operandInvalid } from '../objects/checks.ts';
import { SYS_STATE } from '../objects/system-state.ts';
import { OPERAND, STATUS, status } from '../status.ts';

/**
 * Shuts the module down, so that another can be loaded. RCX: version of the data for the next one.
 *
 * @tdx "TDH.SYS.SHUTDOWN"
 */
export const tdhSysShutdown: HostLeaf = {
  number: 52,
  name: 'TDH.SYS.SHUTDOWN',
  versions: [0],
  run(call) {
    if (call.rcx !== BigInt(MODULE_HV)) return operandInvalid(OPERAND.RCX);
    if (!call.lock('sys', 0, 'exclusive')) return status(STATUS.SYS_BUSY);
    // all checks passed
    call.module.system.state = SYS_STATE.SYS_SHUTDOWN;
    return status(STATUS.SUCCESS);
  },
};
