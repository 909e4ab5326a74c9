/** TDG.VP.WR: the TD writes a field of the virtual processor it runs on. */
import { VpContext } from '../metadata/vp-context.ts';
import type { GuestLeaf } from '../objects/call.ts';
import { writeMetadata } from './metadata.ts';

/** @tdx "TDG.VP.WR Leaf" */
export const tdgVpWr: GuestLeaf = {
  number: 10,
  name: 'TDG.VP.WR',
  versions: [0],
  run: (call) => writeMetadata(call, new VpContext(call.tdvps)),
};
