/** TDG.VM.RD: the TD reads a field of itself. */
import { TdContext } from '../metadata/td-context.ts';
import type { GuestLeaf } from '../objects/call.ts';
import { readMetadata } from './metadata.ts';

/** As {@link readMetadata}; version 1 tells the next identifier. @tdx "TDG.VM.RD Leaf" */
export const tdgVmRd: GuestLeaf = {
  number: 7,
  name: 'TDG.VM.RD',
  versions: [0, 1],
  run: (call) => readMetadata(call, new TdContext(call.tdcs), call.version > 0),
};
