/** Host-side leaves, by owner of their object; the dispatcher finds them by number. */
import type { HostLeaf } from '../objects/call.ts';
import { MEMORY_LEAVES } from './memory-leaves.ts';
import { NOT_OFFERED } from './not-offered.ts';

/** Every leaf of the interface: one that this module does not offer answers OPERAND_INVALID for RAX. */
export const HOST_LEAF_LIST: readonly HostLeaf[] = [
  // SYS, MNG, PHYMEM
  ...MEMORY_LEAVES,
  // VP.ENTER
  ...NOT_OFFERED,
];
