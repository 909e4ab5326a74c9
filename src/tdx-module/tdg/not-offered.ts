/**
 * Guest leaves of the 1.5 interface whose feature this module lacks: service TDs, TD partitioning. A module without a
 * feature answers as for an unknown leaf.
 *
 * @tdx "ABI Reference: Interface Functions", Guest-Side (TDCALL) Interface Functions
 */
import type { GuestLeaf } from '../objects/call.ts';
import { operandInvalid } from '../objects/checks.ts';
import { OPERAND } from '../status.ts';

const notOffered = (number: number, name: string): GuestLeaf => ({
  number,
  name,
  versions: [],
  run: () => operandInvalid(OPERAND.RAX),
});

export const GUEST_NOT_OFFERED: readonly GuestLeaf[] = [
  notOffered(18, 'TDG.SERVTD.RD'),
  notOffered(20, 'TDG.SERVTD.WR'),
  notOffered(23, 'TDG.MEM.PAGE.ATTR.RD'),
  notOffered(24, 'TDG.MEM.PAGE.ATTR.WR'),
  notOffered(25, 'TDG.VP.ENTER'),
  notOffered(26, 'TDG.VP.INVEPT'),
  notOffered(27, 'TDG.VP.INVVPID'),
];
