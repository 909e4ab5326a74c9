import type { HostLeaf } from '../objects/call.ts';
import { STATUS, status } from '../status.ts';

/**
 * Once began the end of an HKID's use; does nothing now.
 *
 * @tdx "TDH.MNG.KEY.RECLAIMID"
 */
export const tdhMngKeyReclaimid: HostLeaf = {
  number: 27,
  name: 'TDH.MNG.KEY.RECLAIMID',
  versions: [0],
  run: () => status(STATUS.SUCCESS),
};
