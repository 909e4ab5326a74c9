/** TDG.VP.VEINFO.GET: why the TD got a #VE. */
import type { GuestLeaf } from '../objects/call.ts';
import { STATUS, status } from '../status.ts';

/**
 * Out: RCX exit reason, RDX qualification, R8 linear address, R9 guest-physical address, R10 instruction length (31:0) and
 * information (63:32). From now on the next #VE can come.
 * @tdx "TDG.VP.VEINFO.GET Leaf"
 */
export const tdgVpVeinfoGet: GuestLeaf = {
  number: 3,
  name: 'TDG.VP.VEINFO.GET',
  versions: [0],
  run({ tdvps, out }) {
    out.rcx = 0n;
    out.rdx = 0n;
    out.r8 = 0n;
    out.r9 = 0n;
    out.r10 = 0n;
    if (tdvps.num('VALID') === 0) return status(STATUS.NO_VALID_VE_INFO);
    // all checks passed
    out.rcx = tdvps.get('EXIT_REASON');
    out.rdx = tdvps.get('EXIT_QUALIFICATION');
    out.r8 = tdvps.get('GLA');
    out.r9 = tdvps.get('GPA');
    out.r10 = (tdvps.get('INSTRUCTION_INFORMATION') << 32n) | tdvps.get('INSTRUCTION_LENGTH');
    tdvps.set('VALID', 0);
    return status(STATUS.SUCCESS);
  },
};
