/** TDG.VM.WR: the TD writes a field of itself. */
import { TdContext } from '../metadata/td-context.ts';
import type { GuestLeaf } from '../objects/call.ts';
import { operandInvalid } from '../objects/checks.ts';
import { OPERAND } from '../status.ts';
import { writeMetadata } from './metadata.ts';

/** RCX 0: itself. Else as {@link writeMetadata}. @tdx "TDG.VM.WR Leaf" */
export const tdgVmWr: GuestLeaf = {
  number: 8,
  name: 'TDG.VM.WR',
  versions: [0],
  run(call) {
    if (call.rcx !== 0n) {
      call.out.r8 = 0n;
      return operandInvalid(OPERAND.RCX);
    }
    return writeMetadata(call, new TdContext(call.tdcs));
  },
};
