import { withKeyId } from '../../machine/seam/key-id.ts';
import type { HostLeaf } from '../objects/call.ts';
import { lockTdr, newPage } from '../objects/checks.ts';
import { leafAllowedIn } from '../objects/op-state.ts';
import { PT } from '../objects/pamt.ts';
import { randomBytes } from '../objects/random.ts';
import { SEPT_FREE_ENTRY } from '../objects/sept-entry.ts';
import { MSR_BITMAP_PAGE, SEPT_ROOT_PAGE } from '../objects/tdcs.ts';
import { LIFECYCLE, TDCS_BASE_PAGES } from '../objects/tdr.ts';
import { OPERAND, STATUS, status } from '../status.ts';

/** Pages of a TDCS with three L2 virtual machines. */
const MAX_PAGES = 9;
const PAGE = 4096;
const KEY_BYTES = 32;

/** What a page of the TDCS holds at first: no MSR is the TD's own, no S-EPT entry maps anything, else zeros. */
function initialContent(index: number): Uint8Array {
  const page = new Uint8Array(PAGE);
  if (index === MSR_BITMAP_PAGE) page.fill(0xff);
  if (index === SEPT_ROOT_PAGE) new BigUint64Array(page.buffer).fill(SEPT_FREE_ENTRY);
  return page;
}

/**
 * Gives a TD a page for its TDCS. RCX: page, RDX: TDR.
 *
 * @tdx "TDH.MNG.ADDCX"
 */
export const tdhMngAddcx: HostLeaf = {
  number: 1,
  name: 'TDH.MNG.ADDCX',
  versions: [0],
  run(call) {
    const { module, rcx, rdx, leaf } = call;
    const tdr = lockTdr(call, rdx, OPERAND.RDX, 'exclusive');
    if (typeof tdr === 'bigint') return tdr;
    if (tdr.fatal) return status(STATUS.TD_FATAL);
    if (tdr.lifecycle !== LIFECYCLE.KEYS_CONFIGURED) return status(STATUS.TD_KEYS_NOT_CONFIGURED);
    const index = tdr.num('NUM_TDCX');
    if (index >= MAX_PAGES) return status(STATUS.TDCX_NUM_INCORRECT);
    const page = newPage(call, rcx, OPERAND.RCX);
    if (typeof page === 'bigint') return page;
    // The TD's before it is certain that the page becomes part of its TDCS.
    const { keyed } = module.platform;
    keyed.take(page.page, tdr.hkid);
    keyed.writeBytes(page.page, tdr.hkid, initialContent(index));
    // Before the last basic page there is no OP_STATE that could forbid.
    if (tdr.hasTdcs && !leafAllowedIn(leaf, tdr.tdcs.opState)) return status(STATUS.OP_STATE_INCORRECT);
    const lastBasicPage = index + 1 === TDCS_BASE_PAGES;
    const key = lastBasicPage ? randomBytes(call, KEY_BYTES) : undefined;
    if (key === null) return status(STATUS.RND_NO_ENTROPY);
    // all checks passed
    tdr.set('TDCX_PA', withKeyId(page.page, tdr.hkid), index);
    tdr.set('NUM_TDCX', index + 1);
    tdr.tdcs.pages.push(page.page);
    if (key !== undefined) tdr.tdcs.setBytes('MIG_ENC_KEY', key);
    tdr.addChildren(1);
    page.assign(PT.TDCX, tdr.pa);
    return status(STATUS.SUCCESS);
  },
};
