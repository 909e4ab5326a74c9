import type { HostLeaf } from '../objects/call.ts';
import { lockPage, operandBusy, operandInvalid } from '../objects/checks.ts';
import { PT } from '../objects/pamt.ts';
import { LEVEL_BYTES } from '../objects/tdmr.ts';
import { LIFECYCLE } from '../objects/tdr.ts';
import { OPERAND, STATUS, status } from '../status.ts';

/**
 * Takes a page back from a TD that is being torn down; its TDR last. The page is nobody's then, its content unreadable
 * until it is written again. RCX: page. Out: RCX page type, RDX address of the owner's TDR, R8 size.
 *
 * @tdx "TDH.PHYMEM.PAGE.RECLAIM"
 */
export const tdhPhymemPageReclaim: HostLeaf = {
  number: 28,
  name: 'TDH.PHYMEM.PAGE.RECLAIM',
  versions: [0],
  run(call) {
    const { module, out, rcx } = call;
    out.rcx = out.rdx = out.r8 = out.r9 = out.r10 = out.r11 = 0n;
    const entry = lockPage(call, rcx, OPERAND.RCX, 'exclusive');
    if (typeof entry === 'bigint') return entry;
    const { pageType, size, owner } = entry;
    if (pageType === PT.NDA || pageType === PT.RSVD) return status(STATUS.PAGE_METADATA_INCORRECT, OPERAND.RCX);
    out.rcx = BigInt(pageType);
    out.rdx = BigInt(owner);
    out.r8 = BigInt(size);
    if (Number(rcx) !== entry.page) return operandInvalid(OPERAND.RCX);
    const isTdr = pageType === PT.TDR;
    if (!isTdr && !call.lock('pamt4k', owner, 'shared')) return operandBusy(OPERAND.TDR);
    const tdr = module.tdrAt(isTdr ? entry.page : owner);
    if (tdr.lifecycle !== LIFECYCLE.TEARDOWN) return status(STATUS.LIFECYCLE_STATE_INCORRECT);
    if (isTdr && tdr.get('CHLDCNT') !== 0n) return status(STATUS.TD_ASSOCIATED_PAGES_EXIST);
    // all checks passed
    if (isTdr) module.removeTdr(entry.page);
    else tdr.addChildren(-LEVEL_BYTES[size]! / 4096);
    if (pageType === PT.TDVPR) module.removeTdvps(entry.page);
    entry.free();
    return status(STATUS.SUCCESS);
  },
};
