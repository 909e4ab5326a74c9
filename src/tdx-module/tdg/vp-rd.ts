/** TDG.VP.RD: the TD reads a field of the virtual processor it runs on. */
import { VpContext } from '../metadata/vp-context.ts';
import type { GuestLeaf } from '../objects/call.ts';
import { readMetadata } from './metadata.ts';

/** As {@link readMetadata}, with the next identifier. @tdx "TDG.VP.RD Leaf" */
export const tdgVpRd: GuestLeaf = {
  number: 9,
  name: 'TDG.VP.RD',
  versions: [0],
  run: (call) => readMetadata(call, new VpContext(call.tdvps), true),
};
