import type { HostLeaf } from '../objects/call.ts';
import { lockPage } from '../objects/checks.ts';
import { PT } from '../objects/pamt.ts';
import { OPERAND, STATUS, status } from '../status.ts';

/**
 * Reads what a page is used for. RCX: page. Out: RCX page type, RDX address of the owner's TDR, R8 size (0: 4 KiB, 1: 2 MiB,
 * 2: 1 GiB), R9 BEPOCH.
 *
 * @tdx "TDH.PHYMEM.PAGE.RDMD"
 */
export const tdhPhymemPageRdmd: HostLeaf = {
  number: 24,
  name: 'TDH.PHYMEM.PAGE.RDMD',
  versions: [0],
  run(call) {
    const { out, rcx } = call;
    out.rcx = out.rdx = out.r8 = out.r9 = out.r10 = out.r11 = 0n;
    const entry = lockPage(call, rcx, OPERAND.RCX, 'shared');
    if (typeof entry === 'bigint') return entry;
    // all checks passed
    const { pageType } = entry;
    out.rcx = BigInt(pageType);
    out.rdx = BigInt(entry.owner);
    out.r8 = BigInt(entry.size);
    if (pageType === PT.REG || pageType === PT.EPT) out.r9 = entry.bepoch;
    return status(STATUS.SUCCESS);
  },
};
