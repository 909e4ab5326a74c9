import type { HostLeaf } from '../objects/call.ts';
import { SYS_STATE } from '../objects/system-state.ts';
import { STATUS, status } from '../status.ts';

/**
 * Takes over the TDs of the module that was shut down before this one was loaded. There is never any: this machine's
 * firmware loads a module once.
 *
 * @tdx "TDH.SYS.UPDATE"
 */
export const tdhSysUpdate: HostLeaf = {
  number: 53,
  name: 'TDH.SYS.UPDATE',
  versions: [0],
  run(call) {
    if (!call.lock('sys', 0, 'exclusive')) return status(STATUS.SYS_BUSY);
    const { system, platform } = call.module;
    const everywhere = system.lps.size === platform.machine.processors.length;
    if (system.state !== SYS_STATE.SYSINIT_DONE || !everywhere) return status(STATUS.SYS_STATE_INCORRECT);
    return status(STATUS.SYS_INVALID_HANDOFF);
  },
};
