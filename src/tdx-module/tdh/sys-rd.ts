import { asksForFirst, NO_FIELD_ID } from '../metadata/metadata-table.ts';
import { elementOf, followingId, readElement } from '../metadata/read-element.ts';
import { SysContext } from '../metadata/sys-context.ts';
import type { HostLeaf } from '../objects/call.ts';
import { STATUS, status } from '../status.ts';

/**
 * Reads one global field. RDX: identifier, all ones for the first. Out: RDX the next identifier, R8 the value.
 *
 * @tdx "TDH.SYS.RD"
 */
export const tdhSysRd: HostLeaf = {
  number: 34,
  name: 'TDH.SYS.RD',
  versions: [0],
  run({ module, p, rdx, out }) {
    out.rdx = NO_FIELD_ID;
    out.r8 = 0n;
    if (!module.system.lps.has(p.index)) return status(STATUS.SYS_LP_INIT_NOT_DONE);
    const context = new SysContext(module, p);
    if (asksForFirst(rdx)) {
      out.rdx = context.next(undefined, 'host');
      return status(STATUS.METADATA_FIRST_FIELD_ID_IN_CONTEXT);
    }
    const element = elementOf(context, rdx);
    if (typeof element === 'bigint') return element;
    const read = readElement(context, element, 'host');
    if ('error' in read) return read.error;
    // all checks passed
    out.r8 = read.value;
    out.rdx = followingId(context, element, rdx, 'host');
    return status(STATUS.SUCCESS);
  },
};
