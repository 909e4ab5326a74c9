import { keyIdOf, stripKeyId } from '../../machine/seam/key-id.ts';
import { dumpList } from '../metadata/list.ts';
import { asksForFirst, NO_FIELD_ID } from '../metadata/metadata-table.ts';
import { elementOf } from '../metadata/read-element.ts';
import { SYS_TABLE, SysContext } from '../metadata/sys-context.ts';
import type { HostLeaf } from '../objects/call.ts';
import { sharedPa } from '../objects/checks.ts';
import { OPERAND, STATUS, status } from '../status.ts';

const PAGE = 4096;

/**
 * Reads global fields into a page, as a metadata list. RDX: page, R8: identifier of the first, all ones for the very first.
 * Out: R8 the identifier to go on with, all ones at the end.
 *
 * @tdx "TDH.SYS.RDALL"
 */
export const tdhSysRdall: HostLeaf = {
  number: 37,
  name: 'TDH.SYS.RDALL',
  versions: [0],
  run({ module, p, rdx, r8, out }) {
    out.r8 = NO_FIELD_ID;
    if (!module.system.lps.has(p.index)) return status(STATUS.SYS_LP_INIT_NOT_DONE);
    const pa = sharedPa(rdx, OPERAND.RDX, PAGE);
    if (typeof pa === 'bigint') return pa;
    const context = new SysContext(module, p);
    const start = asksForFirst(r8) ? SYS_TABLE.firstReadable('host')! : elementOf(context, r8);
    if (typeof start === 'bigint') return start;
    if (start.index % start.field.elements !== 0) return status(STATUS.METADATA_FIELD_ID_INCORRECT);
    // all checks passed
    const { page, next } = dumpList(SYS_TABLE, context, start, PAGE, 'host');
    module.platform.keyed.writeBytes(stripKeyId(pa), keyIdOf(pa), page);
    out.r8 = next;
    return status(STATUS.SUCCESS);
  },
};
