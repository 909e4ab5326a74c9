/**
 * The registers that the host has when TDH.VP.ENTER returns.
 *
 * @tdx "TDH.VP.ENTER", Output Operands
 */
import { R8, R9, RAX, RBP, RCX, RDX, RSP } from '../../machine/engine/layout.ts';
import type { Processor } from '../../machine/processor.ts';
import { REASON } from '../../machine/vtx/reasons.ts';
import { CONFIG_FLAGS } from '../objects/tdcs.ts';
import { LAST_TD_EXIT, type Tdvps, VCPU_STATE } from '../objects/tdvps.ts';
import { status } from '../status.ts';
import { type HostState, saveGuestState, scrub } from './switch.ts';
import type { AsyncExit, TdExit } from './td-exit.ts';

const GPRS = 16;
/** Bit 29 of a status code: the TD is dead. */
const FATAL = 0x2000_0000;
const MASKS = 0xffff_ffffn;

/** Exits that leave RIP at an instruction that will be executed again. */
const FAULT_LIKE: ReadonlySet<number> = new Set([REASON.EPT_VIOLATION, REASON.EPT_MISCONFIGURATION]);

/** Zeroes every register that is no output; RBP stays the host's if the TD was configured so. */
function clearGprs(p: Processor, keepRbp: boolean, host: HostState): void {
  for (let n = 0; n < GPRS; n++) if (n !== RSP) p.setGpr(n, 0n);
  if (keepRbp) p.setGpr(RBP, host.rbp);
}

function asyncImage(p: Processor, exit: AsyncExit): bigint {
  p.setGpr(RCX, exit.qualification & MASKS);
  p.setGpr(RDX, exit.extended);
  p.setGpr(R8, exit.gpa);
  p.setGpr(R9, BigInt(exit.interruption));
  return status(exit.code, exit.reason);
}

/** TDVMCALL: the registers that the TD's mask selects pass. @param guestGprs the TD's registers */
function tdvmcallImage(p: Processor, guestGprs: readonly bigint[]): bigint {
  const mask = guestGprs[RCX]!;
  p.setGpr(RCX, mask & MASKS);
  for (let n = 0; n < GPRS; n++) {
    if (n !== RAX && n !== RCX && n !== RSP && (mask >> BigInt(n)) & 1n) p.setGpr(n, guestGprs[n]!);
  }
  return BigInt(REASON.TDCALL);
}

/** Leaves the TD: its state saved and scrubbed, outputs in the host's registers. Gives RAX. */
export function leaveTd(p: Processor, tdvps: Tdvps, exit: TdExit, host: HostState): bigint {
  const { tdcs, tdr } = tdvps;
  const guestGprs = Array.from({ length: GPRS }, (_, n) => p.gpr(n));
  saveGuestState(p, tdvps);
  const tdvmcall = exit.kind === 'tdvmcall';
  scrub(p, tdcs.get('XFAM'), host, tdvmcall ? Number((guestGprs[RCX]! >> 16n) & 0xffffn) : 0);
  clearGprs(p, (tdcs.get('CONFIG_FLAGS') & CONFIG_FLAGS.NO_RBP_MOD) !== 0n, host);
  tdvps.set('LAST_EXIT_TSC', tdr.module.platform.tsc(p));
  if (tdvps.state === VCPU_STATE.ACTIVE) tdvps.set('VCPU_STATE', VCPU_STATE.READY);
  if (exit.kind === 'tdvmcall') {
    tdvps.set('LAST_TD_EXIT', LAST_TD_EXIT.TDVMCALL);
    return tdvmcallImage(p, guestGprs);
  }
  tdvps.set('LAST_TD_EXIT', FAULT_LIKE.has(exit.reason) ? LAST_TD_EXIT.ASYNC_FAULT : LAST_TD_EXIT.ASYNC_TRAP);
  if (exit.code & FATAL) tdr.setFatal();
  return asyncImage(p, exit);
}
