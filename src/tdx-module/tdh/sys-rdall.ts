import { keyIdOf, stripKeyId } from '../../machine/seam/key-id.ts';
import { dumpList, listStart } from '../metadata/list.ts';
import { NO_FIELD_ID } from '../metadata/metadata-table.ts';
import { SYS_TABLE, SysContext } from '../metadata/sys-context.ts';
import type { HostLeaf } from '../objects/call.ts';
import { sharedPa } from '../objects/checks.ts';
import { OPERAND, STATUS, status } from '../status.ts';

const PAGE = 4096;

/**
 * Reads global fields into a page, as a metadata list. RDX: page, R8: identifier of the first, all ones for the very first.
 * Out: R8 the identifier to go on with, all ones at the end. What the list does not need of the page stays.
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
    const start = listStart(SYS_TABLE, r8, 'host');
    if (start === null) return status(STATUS.METADATA_FIELD_ID_INCORRECT);
    // all checks passed
    const { list, next } = dumpList(SYS_TABLE, context, start, PAGE, 'host');
    module.platform.keyed.writeBytes(stripKeyId(pa), keyIdOf(pa), list);
    out.r8 = next;
    return status(STATUS.SUCCESS);
  },
};
