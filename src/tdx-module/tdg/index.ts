/** Guest-side leaves; the dispatcher of TDCALL finds them by number. */
import type { GuestLeaf } from '../objects/call.ts';

/** Every leaf of the interface. */
export const GUEST_LEAF_LIST: readonly GuestLeaf[] = [];
