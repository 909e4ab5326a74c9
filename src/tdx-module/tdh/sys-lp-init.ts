import type { HostLeaf } from '../objects/call.ts';
import { comparePlatform } from '../objects/platform-checks.ts';
import { SYS_STATE } from '../objects/system-state.ts';
import { STATUS, status } from '../status.ts';

/**
 * Initialises the module on the calling logical processor. One that comes online later may still call it when the module
 * is configured or ready. Out, if a CPUID leaf is not that of the first processor: RCX leaf and subleaf, RDX and R8 which
 * bits.
 *
 * @tdx "TDH.SYS.LP.INIT"
 */
export const tdhSysLpInit: HostLeaf = {
  number: 35,
  name: 'TDH.SYS.LP.INIT',
  versions: [0],
  run(call) {
    const { module, p, out } = call;
    const { platform, system } = module;
    out.rcx = out.rdx = out.r8 = 0n;
    if (!call.lock('sys', 0, 'shared')) return status(STATUS.SYS_BUSY);
    if (system.state === SYS_STATE.SYSINIT_PENDING) return status(STATUS.SYS_LP_INIT_NOT_PENDING);
    if (system.lps.has(p.index)) return status(STATUS.SYS_LP_INIT_DONE);
    const wrong = comparePlatform(platform, p, system.sample, out);
    if (wrong !== null) return wrong;
    // all checks passed
    system.lps.add(p.index);
    return status(STATUS.SUCCESS);
  },
};
