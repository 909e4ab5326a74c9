/** TDG.VM.WR: the TD writes a field of itself. */
import { TdContext } from '../metadata/td-context.ts';
import type { GuestLeaf } from '../objects/call.ts';
import { writeMetadata } from './metadata.ts';

/** As {@link writeMetadata}. @tdx "TDG.VM.WR Leaf" */
export const tdgVmWr: GuestLeaf = {
  number: 8,
  name: 'TDG.VM.WR',
  versions: [0],
  run: (call) => writeMetadata(call, new TdContext(call.tdcs)),
};
