/** Leaves about private memory, measurement and virtual processors outside the guest. */
import type { HostLeaf } from '../objects/call.ts';
import { tdhMemPageAdd } from './mem-page-add.ts';
import { tdhMemPageAug } from './mem-page-aug.ts';
import { tdhMemPageDemote } from './mem-page-demote.ts';
import { tdhMemPagePromote } from './mem-page-promote.ts';
import { tdhMemPageRelocate } from './mem-page-relocate.ts';
import { tdhMemPageRemove } from './mem-page-remove.ts';
import { tdhMemRangeBlock } from './mem-range-block.ts';
import { tdhMemRangeUnblock } from './mem-range-unblock.ts';
import { tdhMemRd, tdhMemWr } from './mem-rd.ts';
import { tdhMemSeptAdd } from './mem-sept-add.ts';
import { tdhMemSeptRd } from './mem-sept-rd.ts';
import { tdhMemSeptRemove } from './mem-sept-remove.ts';
import { tdhMemTrack } from './mem-track.ts';
import { tdhMrExtend } from './mr-extend.ts';
import { tdhMrFinalize } from './mr-finalize.ts';
import { tdhVpAddcx } from './vp-addcx.ts';
import { tdhVpCreate } from './vp-create.ts';
import { tdhVpFlush } from './vp-flush.ts';
import { tdhVpInit } from './vp-init.ts';
import { tdhVpRd, tdhVpWr } from './vp-rd.ts';

/** TDH.MEM.*, TDH.MR.*, TDH.VP.* without TDH.VP.ENTER. */
export const MEMORY_LEAVES: readonly HostLeaf[] = [
  tdhMemPageAdd,
  tdhMemSeptAdd,
  tdhVpAddcx,
  tdhMemPageRelocate,
  tdhMemPageAug,
  tdhMemRangeBlock,
  tdhVpCreate,
  tdhMemRd,
  tdhMemWr,
  tdhMemPageDemote,
  tdhMrExtend,
  tdhMrFinalize,
  tdhVpFlush,
  tdhVpInit,
  tdhMemPagePromote,
  tdhMemSeptRd,
  tdhVpRd,
  tdhMemPageRemove,
  tdhMemSeptRemove,
  tdhMemTrack,
  tdhMemRangeUnblock,
  tdhVpWr,
];
