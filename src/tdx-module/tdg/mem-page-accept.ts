/** TDG.MEM.PAGE.ACCEPT: the TD agrees to a page that the host added after the build. */
import { REASON } from '../../machine/vtx/reasons.ts';
import type { GuestLeaf } from '../objects/call.ts';
import { operandInvalid } from '../objects/checks.ts';
import { decodeGpaMapping, isPrivateGpa } from '../objects/sept-gpa.ts';
import { acceptPage } from '../objects/sept-guest.ts';
import { OPERAND } from '../status.ts';
import { eptViolationExit, notAccessibleExit } from '../td-exit/ept-exit.ts';
import type { TdCall } from './td-call.ts';

/** Accepting writes the page. */
const WRITE = 2n;
const LARGEST_LEVEL = 1;

/**
 * RCX: GPA and level, 0 for 4 KiB or 1 for 2 MiB. The memory is zeros afterwards. An interrupt that waits is
 * taken between the parts of 2 MiB.
 * @tdx "TDG.MEM.PAGE.ACCEPT Leaf"
 */
export const tdgMemPageAccept: GuestLeaf = {
  number: 6,
  name: 'TDG.MEM.PAGE.ACCEPT',
  versions: [0],
  run(call: TdCall) {
    const { tdcs, rcx } = call;
    const mapping = decodeGpaMapping(rcx, 0, LARGEST_LEVEL);
    if (mapping === null || !isPrivateGpa(mapping.gpa, tdcs.gpaw === 52)) return operandInvalid(OPERAND.RCX);
    const result = acceptPage(call, tdcs, mapping.gpa, mapping.level);
    if (result.kind === 'status') return result.status;
    if (result.kind === 'interrupted') return null;
    if (result.kind === 'machine-check') return call.exitTd(notAccessibleExit(REASON.MACHINE_CHECK));
    return call.exitTd(eptViolationExit(BigInt(mapping.gpa), WRITE, result.extended));
  },
};
