import { asksForFirst, NO_FIELD_ID, type Party } from '../metadata/metadata-table.ts';
import { elementOf, followingId, readElement } from '../metadata/read-element.ts';
import { TdContext } from '../metadata/td-context.ts';
import type { HostLeaf } from '../objects/call.ts';
import { lockTdr, operandInvalid, tdInState } from '../objects/checks.ts';
import { ATTRIBUTES, type Tdcs } from '../objects/tdcs.ts';
import { OPERAND, STATUS, status } from '../status.ts';

/** As whom the host accesses a TD: it may see much more of one under debug. */
export const hostOf = (tdcs: Tdcs): Party => (tdcs.hasAttribute(ATTRIBUTES.DEBUG) ? 'debug' : 'host');

/**
 * Reads a field of a TD. RCX: TDR, RDX: identifier. Out: R8 the value; RDX the next identifier, in version 1.
 *
 * @tdx "TDH.MNG.RD"
 */
export const tdhMngRd: HostLeaf = {
  number: 11,
  name: 'TDH.MNG.RD',
  versions: [0, 1],
  refusesVersions: true,
  run(call) {
    const { rcx, rdx, out, version } = call;
    if (version > 0) out.rdx = NO_FIELD_ID;
    out.r8 = 0n;
    if (version > 1) return operandInvalid(OPERAND.RAX);
    const tdr = lockTdr(call, rcx, OPERAND.RCX, 'shared');
    if (typeof tdr === 'bigint') return tdr;
    const tdcs = tdInState(call, tdr);
    if (typeof tdcs === 'bigint') return tdcs;
    const context = new TdContext(tdcs);
    const party = hostOf(tdcs);
    if (version > 0 && asksForFirst(rdx)) {
      out.rdx = context.next(undefined, party);
      return status(STATUS.METADATA_FIRST_FIELD_ID_IN_CONTEXT);
    }
    const element = elementOf(context, rdx);
    if (typeof element === 'bigint') return element;
    const read = readElement(context, element, party);
    if ('error' in read) return read.error;
    // all checks passed
    out.r8 = read.value;
    if (version > 0) out.rdx = followingId(context, element, rdx, party);
    return status(STATUS.SUCCESS);
  },
};
