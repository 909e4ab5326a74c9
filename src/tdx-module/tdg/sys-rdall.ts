/** TDG.SYS.RDALL: the TD reads all global fields that it may see, as a metadata list. */
import { R8 } from '../../machine/engine/layout.ts';
import { dumpList, listStart } from '../metadata/list.ts';
import { NO_FIELD_ID } from '../metadata/metadata-table.ts';
import { SYS_TABLE, SysContext } from '../metadata/sys-context.ts';
import type { GuestLeaf } from '../objects/call.ts';
import { operandInvalid } from '../objects/checks.ts';
import { PAGE } from '../platform.ts';
import { OPERAND, STATUS, status } from '../status.ts';
import { isAlignedPrivateGpa, placeOfPrivate, READ, WRITE } from './guest-memory.ts';
import type { TdCall } from './td-call.ts';

/**
 * RDX: GPA of a page, R8: identifier of the first field, all ones for the very first. Out: R8 the identifier to go on
 * with, all ones at the end.
 * @tdx "TDG.SYS.RDALL Leaf"
 */
export const tdgSysRdall: GuestLeaf = {
  number: 12,
  name: 'TDG.SYS.RDALL',
  versions: [0],
  run(call: TdCall) {
    const { guest, module, p, rdx, r8, out } = call;
    out.r8 = NO_FIELD_ID;
    // Also where the page is not there: the call that follows begins at the first field.
    p.setGpr(R8, NO_FIELD_ID);
    if (!isAlignedPrivateGpa(guest, rdx, BigInt(PAGE))) return operandInvalid(OPERAND.RDX);
    const place = placeOfPrivate(call, rdx, READ | WRITE);
    if (place === null) return null;
    const context = new SysContext(module, p);
    const start = listStart(SYS_TABLE, r8, 'guest');
    if (start === null) return status(STATUS.METADATA_FIELD_ID_INCORRECT);
    // all checks passed
    const { list, next } = dumpList(SYS_TABLE, context, start, PAGE, 'guest');
    module.platform.keyed.writeBytes(place.hpa, place.keyId, list);
    out.r8 = next;
    return status(STATUS.SUCCESS);
  },
};
