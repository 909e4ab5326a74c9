import type { HostLeaf } from '../objects/call.ts';
import { operandBusy, operandInvalid, privatePa } from '../objects/checks.ts';
import { GIB } from '../objects/tdmr.ts';
import { OPERAND, STATUS, status } from '../status.ts';

/** 4 KiB pages whose PAMT entries one call makes. */
const PAGES_PER_CALL = 1024;

/**
 * Makes a part of a TDMR's PAMT; the host repeats it. RCX: base of the TDMR. Out: RDX, below this its memory can be used.
 *
 * @tdx "TDH.SYS.TDMR.INIT"
 */
export const tdhSysTdmrInit: HostLeaf = {
  number: 36,
  name: 'TDH.SYS.TDMR.INIT',
  versions: [0],
  run(call) {
    const { module, rcx, out } = call;
    out.rdx = 0n;
    const base = privatePa(rcx, OPERAND.RCX, GIB);
    if (typeof base === 'bigint') return base;
    const index = module.tdmrs.findIndex((tdmr) => tdmr.base === base);
    if (index < 0) return operandInvalid(OPERAND.RCX);
    const tdmr = module.tdmrs[index]!;
    if (!call.lock('tdmr', index, 'exclusive')) return operandBusy(OPERAND.RCX);
    if (tdmr.next >= tdmr.end) return status(STATUS.TDMR_ALREADY_INITIALIZED);
    // all checks passed
    module.pamt.initialize(tdmr, PAGES_PER_CALL);
    out.rdx = BigInt(tdmr.initialized);
    return status(STATUS.SUCCESS);
  },
};
