/** TDG.MR.VERIFYREPORT: whether a report was made on this platform. */
import type { GuestLeaf } from '../objects/call.ts';
import { operandInvalid } from '../objects/checks.ts';
import { REPORT_MAC_STRUCT_BYTES, verifyReportMac } from '../report/tdreport.ts';
import { OPERAND, STATUS, status } from '../status.ts';
import { isAlignedPrivateGpa, placeOfPrivate, READ } from './guest-memory.ts';
import type { TdCall } from './td-call.ts';

/**
 * RCX: GPA of a REPORTMACSTRUCT, the first 256 bytes of a TDREPORT.
 * @tdx "TDG.MR.VERIFYREPORT Leaf"
 */
export const tdgMrVerifyreport: GuestLeaf = {
  number: 22,
  name: 'TDG.MR.VERIFYREPORT',
  versions: [0],
  run(call: TdCall) {
    const { guest, rcx, module } = call;
    if (!isAlignedPrivateGpa(guest, rcx, BigInt(REPORT_MAC_STRUCT_BYTES))) return operandInvalid(OPERAND.RCX);
    const place = placeOfPrivate(call, rcx, READ);
    if (place === null) return null;
    // all checks passed
    const report = module.platform.keyed.readBytes(place.hpa, place.keyId, REPORT_MAC_STRUCT_BYTES);
    const verdict = verifyReportMac(module.machine, report);
    if (verdict === 'valid') return status(STATUS.SUCCESS);
    return status(verdict === 'invalid-cpusvn' ? STATUS.INVALID_CPUSVN : STATUS.INVALID_REPORTMACSTRUCT);
  },
};
