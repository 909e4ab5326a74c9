import type { HostLeaf } from '../objects/call.ts';
import { newPage, operandBusy, operandInvalid } from '../objects/checks.ts';
import { HKID } from '../objects/kot.ts';
import { PT } from '../objects/pamt.ts';
import { randomBytes } from '../objects/random.ts';
import { LIFECYCLE } from '../objects/tdr.ts';
import { OPERAND, STATUS, status } from '../status.ts';

const MAX_HKID = 0xffffn;
const UUID_BYTES = 32;

/**
 * Creates a TD: a free page becomes its TDR, a free HKID its own. RCX: page, RDX: HKID.
 *
 * @tdx "TDH.MNG.CREATE"
 */
export const tdhMngCreate: HostLeaf = {
  number: 9,
  name: 'TDH.MNG.CREATE',
  versions: [0],
  run(call) {
    const { module, rcx, rdx } = call;
    const { kot, platform } = module;
    if (rdx > MAX_HKID || !kot.isPrivate(Number(rdx))) return operandInvalid(OPERAND.RDX);
    const page = newPage(call, rcx, OPERAND.RCX);
    if (typeof page === 'bigint') return page;
    if (!call.lock('kot', 0, 'exclusive')) return operandBusy(OPERAND.KOT);
    const entry = kot.entries[Number(rdx)]!;
    if (entry.state !== HKID.FREE) return status(STATUS.HKID_NOT_FREE);
    // Zero before it is certain that the page becomes a TDR.
    platform.keyed.take(page.page, module.globalKeyId);
    const uuid = randomBytes(call, UUID_BYTES);
    if (uuid === null) return status(STATUS.RND_NO_ENTROPY);
    // all checks passed
    entry.state = HKID.ASSIGNED;
    page.assign(PT.TDR, 0);
    const tdr = module.addTdr(page.page);
    call.td = tdr;
    tdr.set('HKID', rdx);
    tdr.set('LIFECYCLE_STATE', LIFECYCLE.HKID_ASSIGNED);
    tdr.setBytes('TD_UUID', uuid);
    return status(STATUS.SUCCESS);
  },
};
