import type { HostLeaf } from '../objects/call.ts';
import { operandInvalid } from '../objects/checks.ts';
import { Kot } from '../objects/kot.ts';
import { checkPlatform, samplePlatform } from '../objects/platform-checks.ts';
import { SYS_STATE } from '../objects/system-state.ts';
import { OPERAND, STATUS, status } from '../status.ts';

/**
 * Initialises the module, once, on any logical processor. RCX: 0. Out, if a CPUID leaf has not the value it must have:
 * RCX leaf and subleaf, RDX and R8 which bits, R9 and R10 their value.
 *
 * @tdx "TDH.SYS.INIT"
 */
export const tdhSysInit: HostLeaf = {
  number: 33,
  name: 'TDH.SYS.INIT',
  versions: [0],
  run(call) {
    const { module, p, rcx, out } = call;
    const { platform, system } = module;
    out.rcx = out.rdx = out.r8 = out.r9 = out.r10 = 0n;
    if (!call.lock('sys', 0, 'exclusive')) return status(STATUS.SYS_BUSY);
    if (rcx !== 0n) return operandInvalid(OPERAND.RCX);
    if (system.state !== SYS_STATE.SYSINIT_PENDING) return status(STATUS.SYS_INIT_NOT_PENDING);
    const wrong = checkPlatform(platform, p, out);
    if (wrong !== null) return wrong;
    // For the module's own canary.
    if (!call.lock('entropy', 0, 'shared')) return status(STATUS.RND_NO_ENTROPY);
    // all checks passed
    const { shared, private: count } = platform.keyIds(p);
    module.kot = new Kot(shared, count);
    system.sample = samplePlatform(platform, p);
    system.state = SYS_STATE.SYSINIT_DONE;
    return status(STATUS.SUCCESS);
  },
};
