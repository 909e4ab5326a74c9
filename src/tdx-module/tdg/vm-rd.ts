/** TDG.VM.RD: the TD reads a field of itself. */
import { NO_FIELD_ID } from '../metadata/metadata-table.ts';
import { TdContext } from '../metadata/td-context.ts';
import type { GuestLeaf } from '../objects/call.ts';
import { operandInvalid } from '../objects/checks.ts';
import { OPERAND } from '../status.ts';
import { readMetadata } from './metadata.ts';

/** RCX 0: itself. Else as {@link readMetadata}. @tdx "TDG.VM.RD Leaf" */
export const tdgVmRd: GuestLeaf = {
  number: 7,
  name: 'TDG.VM.RD',
  versions: [0, 1],
  run(call) {
    if (call.rcx !== 0n) {
      if (call.version > 0) call.out.rdx = NO_FIELD_ID;
      call.out.r8 = 0n;
      return operandInvalid(OPERAND.RCX);
    }
    return readMetadata(call, new TdContext(call.tdcs));
  },
};
