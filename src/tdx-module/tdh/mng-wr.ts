import { elementOf, writeElement } from '../metadata/read-element.ts';
import { TdContext } from '../metadata/td-context.ts';
import type { HostLeaf } from '../objects/call.ts';
import { lockTdr, tdInState } from '../objects/checks.ts';
import { OPERAND, STATUS, status } from '../status.ts';
import { hostOf } from './mng-rd.ts';

/**
 * Writes a field of a TD. RCX: TDR, RDX: identifier, R8: value, R9: which bits. Out: R8 the value before.
 *
 * @tdx "TDH.MNG.WR"
 */
export const tdhMngWr: HostLeaf = {
  number: 13,
  name: 'TDH.MNG.WR',
  versions: [0],
  run(call) {
    const { rcx, rdx, r8, r9, out } = call;
    out.r8 = 0n;
    const tdr = lockTdr(call, rcx, OPERAND.RCX, 'shared');
    if (typeof tdr === 'bigint') return tdr;
    const tdcs = tdInState(call, tdr);
    if (typeof tdcs === 'bigint') return tdcs;
    const context = new TdContext(tdcs);
    const element = elementOf(context, rdx);
    if (typeof element === 'bigint') return element;
    const written = writeElement(context, element, r8, r9, hostOf(tdcs));
    if ('error' in written) return written.error;
    // all checks passed
    out.r8 = written.value;
    return status(STATUS.SUCCESS);
  },
};
