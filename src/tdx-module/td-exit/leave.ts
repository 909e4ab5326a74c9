/**
 * The registers that the host has when TDH.VP.ENTER returns.
 *
 * @tdx "TDH.VP.ENTER", Output Operands
 */
import { R8, R9, RAX, RBP, RCX, RDX, RSP } from '../../machine/engine/layout.ts';
import type { Processor } from '../../machine/processor.ts';
import { REASON } from '../../machine/vtx/reasons.ts';
import { CONFIG_FLAGS, type Tdcs } from '../objects/tdcs.ts';
import { LAST_TD_EXIT, type Tdvps, VCPU_STATE } from '../objects/tdvps.ts';
import { status } from '../status.ts';
import { type HostState, saveGuestState, scrub } from './switch.ts';
import type { AsyncExit, TdExit } from './td-exit.ts';

const GPRS = 16;
/** Bit 29 of a status code: the TD is dead. */
const FATAL = 0x2000_0000;
/** Bit 28: the instruction at which the TD exited is complete. */
const TRAP = 0x1000_0000;
const MASKS = 0xffff_ffffn;
const TDVMCALL_STATUS = BigInt(REASON.TDCALL);

/** Zeroes every register that is no output; RBP stays the host's if the TD was configured so. */
function clearGprs(p: Processor, keepRbp: boolean, host: Pick<HostState, 'rbp'>, passed = 0): void {
  for (let n = 0; n < GPRS; n++) if (n !== RSP && !((passed >>> n) & 1)) p.setGpr32(n, 0);
  if (keepRbp) p.setGpr(RBP, host.rbp);
}

function asyncImage(p: Processor, exit: AsyncExit): bigint {
  p.setGpr(RCX, exit.qualification & MASKS);
  p.setGpr(RDX, exit.extended);
  p.setGpr(R8, exit.gpa);
  p.setGpr(R9, BigInt(exit.interruption));
  return status(exit.code, exit.reason);
}

/** RAX and RCX are outputs of their own, RSP is the host's. */
const NEVER_PASSED: number = (1 << RAX) | (1 << RCX) | (1 << RSP);

const keepsRbp = (tdcs: Tdcs): boolean => (tdcs.get('CONFIG_FLAGS') & CONFIG_FLAGS.NO_RBP_MOD) !== 0n;

/** What looks to the host like an exit, of a TD that was not entered. Gives RAX. */
export function exitWithoutEntry(p: Processor, tdvps: Tdvps, exit: AsyncExit): bigint {
  clearGprs(p, keepsRbp(tdvps.tdcs), { rbp: p.gpr(RBP) });
  tdvps.set('LAST_TD_EXIT', LAST_TD_EXIT.ASYNC_FAULT);
  return asyncImage(p, exit);
}

/** Leaves the TD: its state saved and scrubbed, outputs in the host's registers. Gives RAX. */
export function leaveTd(p: Processor, tdvps: Tdvps, exit: TdExit, host: HostState): bigint {
  const { tdcs, tdr } = tdvps;
  const keepRbp = keepsRbp(tdcs);
  if (exit.kind === 'async' && exit.code & FATAL) {
    // The TD's memory is not touched any more.
    tdr.setFatal();
    scrub(p, tdcs.get('XFAM'), host);
    clearGprs(p, keepRbp, host);
    return asyncImage(p, exit);
  }
  saveGuestState(p, tdvps);
  tdvps.set('LAST_EXIT_TSC', tdr.module.platform.tsc(p));
  if (tdvps.state === VCPU_STATE.ACTIVE) tdvps.set('VCPU_STATE', VCPU_STATE.READY);
  if (exit.kind === 'tdvmcall') {
    // The registers that the TD's mask selects pass.
    const mask = p.gpr32(RCX);
    scrub(p, tdcs.get('XFAM'), host, mask >>> 16);
    clearGprs(p, keepRbp, host, mask & 0xffff & ~NEVER_PASSED);
    tdvps.set('LAST_TD_EXIT', LAST_TD_EXIT.TDVMCALL);
    p.setGpr32(RCX, mask);
    return TDVMCALL_STATUS;
  }
  scrub(p, tdcs.get('XFAM'), host);
  clearGprs(p, keepRbp, host);
  tdvps.set('LAST_TD_EXIT', exit.code & TRAP ? LAST_TD_EXIT.ASYNC_TRAP : LAST_TD_EXIT.ASYNC_FAULT);
  return asyncImage(p, exit);
}
