/** TDG.MR.RTMR.EXTEND: the TD measures something at run time. */
import { sha384Of } from '../../util/crypto/hash.ts';
import type { GuestLeaf } from '../objects/call.ts';
import { operandBusy, operandInvalid } from '../objects/checks.ts';
import { OPERAND, STATUS, status } from '../status.ts';
import { isAlignedPrivateGpa, placeOfPrivate, READ } from './guest-memory.ts';
import type { TdCall } from './td-call.ts';

const RTMRS = 4n;
const MEASUREMENT_BYTES = 48;
const ALIGNMENT = 64n;

/**
 * RCX: GPA of 48 bytes. RDX: which register. It becomes the hash of itself and the bytes.
 * @tdx "TDG.MR.RTMR.EXTEND Leaf"
 */
export const tdgMrRtmrExtend: GuestLeaf = {
  number: 2,
  name: 'TDG.MR.RTMR.EXTEND',
  versions: [0],
  run(call: TdCall) {
    const { guest, tdcs, rcx, rdx, module } = call;
    if (!isAlignedPrivateGpa(guest, rcx, ALIGNMENT)) return operandInvalid(OPERAND.RCX);
    const place = placeOfPrivate(call, rcx, READ);
    if (place === null) return null;
    if (rdx >= RTMRS) return operandInvalid(OPERAND.RDX);
    if (!call.lock('rtmr', tdcs.tdr.pa, 'exclusive')) return operandBusy(OPERAND.RTMR);

    // all checks passed
    const index = Number(rdx);
    const both = new Uint8Array(2 * MEASUREMENT_BYTES);
    both.set(tdcs.bytes('RTMR', index));
    both.set(module.platform.keyed.readBytes(place.hpa, place.keyId, MEASUREMENT_BYTES), MEASUREMENT_BYTES);
    tdcs.setBytes('RTMR', sha384Of(both), index);
    tdcs.infoHash = null;
    return status(STATUS.SUCCESS);
  },
};
