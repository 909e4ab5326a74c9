/** TDG.SYS.RDALL: the TD reads all global fields that it may see, as a metadata list. */
import { dumpList } from '../metadata/list.ts';
import { asksForFirst, NO_FIELD_ID } from '../metadata/metadata-table.ts';
import { elementOf } from '../metadata/read-element.ts';
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
    if (!isAlignedPrivateGpa(guest, rdx, BigInt(PAGE))) return operandInvalid(OPERAND.RDX);
    const place = placeOfPrivate(guest, rdx, READ | WRITE);
    if ('exit' in place) return call.exitTd(place.exit);
    const context = new SysContext(module, p);
    const start = asksForFirst(r8) ? SYS_TABLE.firstReadable('guest')! : elementOf(context, r8);
    if (typeof start === 'bigint') return start;
    if (start.index % start.field.elements !== 0) return status(STATUS.METADATA_FIELD_ID_INCORRECT);
    // all checks passed
    const { page, next } = dumpList(SYS_TABLE, context, start, PAGE, 'guest');
    module.platform.keyed.writeBytes(place.hpa, place.keyId, page);
    out.r8 = next;
    return status(STATUS.SUCCESS);
  },
};
