/** TDH.VP.ENTER: runs a virtual processor. */
import { RAX, RCX, RSP } from '../../machine/engine/layout.ts';
import { IA32_MISC_ENABLE } from '../../machine/msr/platform.ts';
import { IA32_TSC_ADJUST } from '../../machine/msr/time.ts';
import type { Processor } from '../../machine/processor.ts';
import { flushTd } from '../../machine/seam/td-run.ts';
import type { Call, HostLeaf } from '../objects/call.ts';
import { associate, lockTdvpr, operandBusy, operandInvalid, tdInState } from '../objects/checks.ts';
import type { Tdcs } from '../objects/tdcs.ts';
import { LAST_TD_EXIT, TDVPS_BASE_PAGES, type Tdvps, VCPU_STATE } from '../objects/tdvps.ts';
import { OPERAND, STATUS, status } from '../status.ts';
import { eptViolationExit } from '../td-exit/ept-exit.ts';
import { exitWithoutEntry, leaveTd } from '../td-exit/leave.ts';
import { runUntilExit } from '../td-exit/run.ts';
import { loadGuestState } from '../td-exit/switch.ts';
import { mustBeMapped, notMapped, wantsNotice } from '../td-exit/zero-step.ts';
import { hasVirtualFeature, viewOf } from '../virtualization/td-view.ts';

/**
 * RCX TDVPR; bit 52: after an exit as a trap, what RAX bit 60 tells the TD; bit 53 resumes an L1, which is never here.
 * @tdx "TDH.VP.ENTER Leaf"
 */
export const tdhVpEnter: HostLeaf = { number: 0, name: 'TDH.VP.ENTER', versions: [0], run };

const TRAP_HINT = 1n << 52n;
const RESUME_L1 = 1n << 53n;
const TDVPR_MASK = TRAP_HINT - 1n;
const LIMIT_CPUID = 1n << 22n;
const MONITOR_FSM = 1n << 18n;

/** Checks of the logical processor and the virtual processor's time, after it belongs to this processor. */
function processorFails({ module, p }: Call, tdcs: Tdcs, tdvps: Tdvps): bigint | null {
  const { platform, system } = module;
  if (platform.msr(p, IA32_TSC_ADJUST) !== system.tscAdjust) return status(STATUS.INCONSISTENT_MSR, IA32_TSC_ADJUST);
  if (platform.tsc(p) < tdvps.get('LAST_EXIT_TSC')) return status(STATUS.TSC_ROLLBACK);
  // perf: the TD's CPUID is the dearer question.
  if (platform.msr(p, IA32_MISC_ENABLE) & MONITOR_FSM || !hasVirtualFeature(viewOf(tdcs), 'monitor')) return null;
  return status(STATUS.INCORRECT_MSR_VALUE, IA32_MISC_ENABLE);
}

/** The virtual processor is in the present epoch, and holds no translation of an earlier one. */
function enterEpoch(p: Processor, tdcs: Tdcs, tdvps: Tdvps): number {
  const epoch = tdcs.get('TD_EPOCH');
  if (tdvps.get('VCPU_EPOCH') !== epoch) {
    tdvps.set('VCPU_EPOCH', epoch);
    flushTd(p, tdvps.vmcs);
  }
  const parity = Number(epoch & 1n);
  tdcs.set('REFCOUNT', tdcs.num('REFCOUNT', parity) + 1, parity);
  return parity;
}

const leaveEpoch = (tdcs: Tdcs, parity: number): void => tdcs.set('REFCOUNT', tdcs.num('REFCOUNT', parity) - 1, parity);

const WRITE = 2n;

/** A TD that faults at one instruction only goes on with all that memory. @returns what the host gets instead, or null */
function zeroStepped(call: Call, tdvps: Tdvps): bigint | null {
  const tree = tdvps.tdr.pa;
  if (!call.lock('sept_tree', tree, 'exclusive')) return operandBusy(OPERAND.SEPT_TREE);
  const gpa = notMapped(tdvps);
  call.unlock('sept_tree', tree);
  return gpa === null ? null : exitWithoutEntry(call.p, tdvps, eptViolationExit(gpa, WRITE, 0n));
}

/** RAX bit 60 of the TD is the host's hint. */
const withHint = (rax: bigint, rcx: bigint): bigint => (rax & ~(1n << 60n)) | (rcx & TRAP_HINT ? 1n << 60n : 0n);

/** RAX and RCX are no answer's, RSP is the TD's own. */
const NEVER_ANSWERED: number = (1 << RAX) | (1 << RCX) | (1 << RSP);

/** Registers that the host gives the TD in answer to a TDVMCALL: those of the mask in the TD's RCX. */
const answerMask = (tdvps: Tdvps): number => Number(tdvps.get('RCX') & 0xffff_ffffn) & ~NEVER_ANSWERED;

function run(call: Call): bigint {
  const { module, p } = call;
  const { keyed } = module.platform;
  // A machine check from here on is of this TD's memory.
  keyed.machineCheck = -1;
  if (module.platform.msr(p, IA32_MISC_ENABLE) & LIMIT_CPUID) return status(STATUS.LIMIT_CPUID_MAXVAL_SET);
  if (call.rcx >> 54n !== 0n) return operandInvalid(OPERAND.RCX);
  const tdvps = lockTdvpr(call, call.rcx & TDVPR_MASK, OPERAND.RCX, 'shared');
  if (typeof tdvps === 'bigint') return tdvps;
  const tdcs = tdInState(call, tdvps.tdr);
  if (typeof tdcs === 'bigint') return tdcs;
  if (tdvps.num('NUM_TDVPS_PAGES') < TDVPS_BASE_PAGES) return status(STATUS.TDCX_NUM_INCORRECT);
  if (tdvps.state !== VCPU_STATE.READY) return status(STATUS.VCPU_STATE_INCORRECT);
  const busy = associate(call, tdvps);
  if (busy !== null) return busy;
  const lastExit = tdvps.num('LAST_TD_EXIT');
  if (call.rcx & RESUME_L1) return operandInvalid(OPERAND.RCX);
  if (call.rcx & TRAP_HINT && lastExit !== LAST_TD_EXIT.ASYNC_TRAP) return operandInvalid(OPERAND.RCX);
  const failed = processorFails(call, tdcs, tdvps);
  if (failed !== null) return failed;
  if (!call.lock('td_epoch', tdvps.tdr.pa, 'shared')) return operandBusy(OPERAND.TD_EPOCH);

  // all checks passed
  const parity = enterEpoch(p, tdcs, tdvps);
  const suspected = mustBeMapped(tdvps);
  const refused = suspected ? zeroStepped(call, tdvps) : null;
  if (refused !== null) {
    leaveEpoch(tdcs, parity);
    return refused;
  }
  const tdvmcall = lastExit === LAST_TD_EXIT.TDVMCALL;
  const host = loadGuestState(p, tdvps, tdvmcall ? answerMask(tdvps) : 0);
  // TDCALL itself succeeded.
  if (tdvmcall) p.setGpr(RAX, 0n);
  if (lastExit === LAST_TD_EXIT.ASYNC_TRAP) p.setGpr(RAX, withHint(p.gpr(RAX), call.rcx));
  tdvps.set('VCPU_STATE', VCPU_STATE.ACTIVE);
  const exit = runUntilExit(module, p, tdvps, suspected && wantsNotice(tdvps));
  leaveEpoch(tdcs, parity);
  return leaveTd(p, tdvps, exit, host);
}
