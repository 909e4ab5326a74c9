/** TDG.VP.CPUIDVE.SET: the TD wants every CPUID to be a #VE. */
import type { GuestLeaf } from '../objects/call.ts';
import { operandInvalid } from '../objects/checks.ts';
import { OPERAND, STATUS, status } from '../status.ts';

/**
 * RCX bit 0: in supervisor mode. Bit 1: in user mode.
 * @tdx "TDG.VP.CPUIDVE.SET Leaf"
 */
export const tdgVpCpuidveSet: GuestLeaf = {
  number: 5,
  name: 'TDG.VP.CPUIDVE.SET',
  versions: [0],
  run({ tdvps, rcx }) {
    if (rcx > 3n) return operandInvalid(OPERAND.RCX);
    // all checks passed
    tdvps.set('CPUID_SUPERVISOR_VE', rcx & 1n);
    tdvps.set('CPUID_USER_VE', rcx >> 1n);
    return status(STATUS.SUCCESS);
  },
};
