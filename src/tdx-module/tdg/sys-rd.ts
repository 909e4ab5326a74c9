/** TDG.SYS.RD: the TD reads a global field. */
import { asksForFirst, NO_FIELD_ID } from '../metadata/metadata-table.ts';
import { elementOf, followingId, readElement } from '../metadata/read-element.ts';
import { SysContext } from '../metadata/sys-context.ts';
import type { GuestLeaf } from '../objects/call.ts';
import { STATUS, status } from '../status.ts';

/**
 * RDX: identifier, all ones for the first. Out: RDX the next identifier, R8 the value.
 * @tdx "TDG.SYS.RD Leaf"
 */
export const tdgSysRd: GuestLeaf = {
  number: 11,
  name: 'TDG.SYS.RD',
  versions: [0],
  run({ module, p, rdx, out }) {
    out.rdx = NO_FIELD_ID;
    out.r8 = 0n;
    const context = new SysContext(module, p);
    if (asksForFirst(rdx)) {
      out.rdx = context.next(undefined, 'guest');
      return status(STATUS.METADATA_FIRST_FIELD_ID_IN_CONTEXT);
    }
    const element = elementOf(context, rdx);
    if (typeof element === 'bigint') return element;
    const read = readElement(context, element, 'guest');
    if ('error' in read) return read.error;
    // all checks passed
    out.r8 = read.value;
    out.rdx = followingId(context, element, rdx, 'guest');
    return status(STATUS.SUCCESS);
  },
};
