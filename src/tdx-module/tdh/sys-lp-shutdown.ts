import type { HostLeaf } from '../objects/call.ts';
import { STATUS, status } from '../status.ts';

/**
 * Once took a logical processor out of use; does nothing now, in any state.
 *
 * @tdx "TDH.SYS.LP.SHUTDOWN"
 */
export const tdhSysLpShutdown: HostLeaf = {
  number: 44,
  name: 'TDH.SYS.LP.SHUTDOWN',
  versions: [0],
  run: () => status(STATUS.SUCCESS),
};
