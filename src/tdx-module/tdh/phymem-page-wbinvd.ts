import { stripKeyId } from '../../machine/seam/key-id.ts';
import type { HostLeaf } from '../objects/call.ts';
import { lockPage, operandInvalid } from '../objects/checks.ts';
import { PT } from '../objects/pamt.ts';
import { PHYSICAL_ADDRESS_BITS } from '../platform.ts';
import { OPERAND, STATUS, status } from '../status.ts';

/**
 * Writes back and invalidates the cache lines of a page that nobody has, under the key it was used with. RCX: page with
 * that HKID. The machine's memory has no caches, so nothing is left to be done after the checks.
 *
 * @tdx "TDH.PHYMEM.PAGE.WBINVD"
 */
export const tdhPhymemPageWbinvd: HostLeaf = {
  number: 41,
  name: 'TDH.PHYMEM.PAGE.WBINVD',
  versions: [0],
  run(call) {
    const { rcx } = call;
    if (rcx >> BigInt(PHYSICAL_ADDRESS_BITS) !== 0n) return operandInvalid(OPERAND.RCX);
    const entry = lockPage(call, BigInt(stripKeyId(Number(rcx))), OPERAND.RCX, 'shared');
    if (typeof entry === 'bigint') return entry;
    if (entry.pageType !== PT.NDA) return status(STATUS.PAGE_METADATA_INCORRECT, OPERAND.RCX);
    // all checks passed
    return status(STATUS.SUCCESS);
  },
};
