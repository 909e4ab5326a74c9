/** TDG.VP.INFO: what the TD and the virtual processor are. */
import type { GuestLeaf } from '../objects/call.ts';
import { STATUS, status } from '../status.ts';

const SYS_RD_AVAILABLE = 1n;

/**
 * Out: RCX GPA width, RDX ATTRIBUTES, R8 number of virtual processors and its maximum, R9 index of this one, R10 bit 0:
 * TDG.SYS.RD exists.
 * @tdx "TDG.VP.INFO Leaf"
 */
export const tdgVpInfo: GuestLeaf = {
  number: 1,
  name: 'TDG.VP.INFO',
  versions: [0],
  run({ tdcs, tdvps, out }) {
    out.rcx = BigInt(tdcs.gpaw);
    out.rdx = tdcs.get('ATTRIBUTES');
    out.r8 = (tdcs.get('MAX_VCPUS') << 32n) | tdcs.get('NUM_VCPUS');
    out.r9 = BigInt(tdvps.index);
    out.r10 = SYS_RD_AVAILABLE;
    out.r11 = 0n;
    return status(STATUS.SUCCESS);
  },
};
