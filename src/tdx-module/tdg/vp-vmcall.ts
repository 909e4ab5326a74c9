/** TDG.VP.VMCALL: the TD asks the host for something. */
import type { GuestLeaf } from '../objects/call.ts';
import { operandInvalid } from '../objects/checks.ts';
import { CONFIG_FLAGS } from '../objects/tdcs.ts';
import { OPERAND } from '../status.ts';
import { TDVMCALL_EXIT } from '../td-exit/td-exit.ts';
import type { TdCall } from './td-call.ts';

/** RAX, RCX and RSP never pass. */
const NEVER = 0x13n;
const RBP = 0x20n;

/**
 * RCX: which general registers (15:0) and XMM registers (31:16) the host sees and may change.
 * @tdx "TDG.VP.VMCALL Leaf"
 */
export const tdgVpVmcall: GuestLeaf = {
  number: 0,
  name: 'TDG.VP.VMCALL',
  versions: [0],
  run(call: TdCall) {
    const keepsRbp = (call.tdcs.get('CONFIG_FLAGS') & CONFIG_FLAGS.NO_RBP_MOD) !== 0n;
    const forbidden = keepsRbp ? NEVER | RBP : NEVER;
    if (call.rcx >> 32n !== 0n || call.rcx & forbidden) return operandInvalid(OPERAND.RCX);
    // all checks passed
    return call.exitTd(TDVMCALL_EXIT);
  },
};
