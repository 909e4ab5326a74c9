/** TDG.MR.REPORT: the TD asks for its report. */
import type { GuestLeaf } from '../objects/call.ts';
import { operandBusy, operandInvalid } from '../objects/checks.ts';
import { buildReport, hashTdInfo, REPORT_BYTES, REPORT_DATA_BYTES } from '../report/tdreport.ts';
import { OPERAND, STATUS, status } from '../status.ts';
import { isGpa, placeOf, READ, WRITE } from './guest-memory.ts';
import type { TdCall } from './td-call.ts';

/**
 * RCX: GPA of 1024 bytes for the report. RDX: GPA of 64 bytes of the TD's choice. R8: subtype 0.
 * @tdx "TDG.MR.REPORT Leaf"
 */
export const tdgMrReport: GuestLeaf = {
  number: 4,
  name: 'TDG.MR.REPORT',
  versions: [0],
  run(call: TdCall) {
    const { guest, tdcs, rcx, rdx, r8, module } = call;
    if (rcx % BigInt(REPORT_BYTES) !== 0n) return operandInvalid(OPERAND.RCX);
    if (!isGpa(guest, rdx, BigInt(REPORT_DATA_BYTES))) return operandInvalid(OPERAND.RDX);
    const source = placeOf(call, rdx, READ);
    if (source === null) return null;
    if (r8 !== 0n) return operandInvalid(OPERAND.R8);
    if (!call.lock('rtmr', tdcs.tdr.pa, 'shared')) return operandBusy(OPERAND.RTMR);
    // The hash takes long; whoever is interrupted finds it made the next time.
    if (hashTdInfo(tdcs) && call.interruptPending) return null;
    if (!isGpa(guest, rcx, BigInt(REPORT_BYTES))) return operandInvalid(OPERAND.RCX);
    const target = placeOf(call, rcx, READ | WRITE);
    if (target === null) return null;

    // all checks passed
    const { keyed } = module.platform;
    const data = keyed.readBytes(source.hpa, source.keyId, REPORT_DATA_BYTES);
    keyed.writeBytes(target.hpa, target.keyId, buildReport(module.machine, tdcs, data));
    return status(STATUS.SUCCESS);
  },
};
