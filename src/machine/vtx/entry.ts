/** VM entry, after the checks that VMLAUNCH and VMRESUME make themselves. @sdm "VM Entries" */
import { flushVpid } from '../mmu/tlb.ts';
import { FAULT, NO_ERROR, VMEXIT } from '../outcome.ts';
import { deliverEvent, deliverFault } from '../processor/events/deliver.ts';
import { ACTIVE, EFER_LMA, SHUTDOWN, WAIT_SIPI } from '../processor.ts';
import { PIN, PRIMARY, SECONDARY } from './controls.ts';
import { controlsValid, injectionValid, tprThresholdValid } from './entry-controls.ts';
import { checkGuest, GUEST_VALID } from './entry-guest.ts';
import { hostValid } from './entry-host.ts';
import { contextSwitched, failEntry, releaseGuest, takeVmExit } from './exit.ts';
import { F } from './field-slots.ts';
import { loadControls, loadNonRegisterState, loadProgress, loadRegisters } from './load-guest.ts';
import { loadMsrs } from './msr-lists.ts';
import { NON_ROOT, VM_SUCCEED } from './operation.ts';
import { vmFail } from './operations.ts';
import { EVENT, INFO_ERROR_CODE, INFO_VALID, REASON, VM_ERROR } from './reasons.ts';
import { saveDeferred } from './save-guest.ts';
import { DIRTY_CONTROLS, DIRTY_GUEST, DIRTY_HOST, DIRTY_SEGMENTS, type Vmcs } from './vmcs.ts';
import type { Vtx } from './vtx.ts';

/** perf: the checks of a group are made again only when one of its fields has been written. */
function controlsPass(v: Vtx, vmcs: Vmcs): boolean {
  if (vmcs.dirty & DIRTY_CONTROLS) {
    if (!controlsValid(v, vmcs)) return false;
    vmcs.dirty &= ~DIRTY_CONTROLS;
  }
  return tprThresholdValid(v, vmcs) && injectionValid(vmcs);
}

function hostPasses(v: Vtx, vmcs: Vmcs): boolean {
  // The processor may have the guest's EFER: whoever keeps it does not change what the checks were made with.
  const lma = v.resident === vmcs ? vmcs.hostCheckedLma : v.p.efer & EFER_LMA;
  if (vmcs.dirty & DIRTY_HOST || vmcs.hostCheckedLma !== lma) {
    if (!hostValid(v, vmcs)) return false;
    vmcs.dirty &= ~DIRTY_HOST;
    vmcs.hostCheckedLma = lma;
  }
  return true;
}

/** Pending debug exceptions that the injected event, or the activity state, makes disappear. */
function discardsPendingDebug(info: number, shadowMovSs: boolean, activity: number): boolean {
  if ((info & INFO_VALID) === 0) return activity === SHUTDOWN || activity === WAIT_SIPI;
  switch ((info >>> 8) & 7) {
    case EVENT.SOFTWARE_INTERRUPT:
    case EVENT.SOFTWARE_EXCEPTION:
      return !shadowMovSs;
    case EVENT.OTHER:
      return false;
    default:
      return true;
  }
}

const MOV_SS = 2;

/** Event injection; an exit that delivery causes is taken. @sdm "Event Injection" */
function inject(v: Vtx, vmcs: Vmcs, info: number): void {
  const { p } = v;
  const type = (info >>> 8) & 7;
  if (type === EVENT.OTHER) {
    v.monitorTrapPending = true;
    return;
  }
  if (type === EVENT.NMI) {
    if (v.pin & PIN.VIRTUAL_NMIS) v.virtualNmiBlocked = true;
    else p.nmiBlocked = true;
  }
  p.activity = ACTIVE;
  p.interruptShadow = 0;
  let outcome = deliverEvent(p, {
    vector: info & 0xff,
    type,
    errorCode: info & INFO_ERROR_CODE ? vmcs.low(F.ENTRY_EXCEPTION_ERROR_CODE) : NO_ERROR,
    instructionLength:
      type >= EVENT.SOFTWARE_INTERRUPT && type <= EVENT.SOFTWARE_EXCEPTION ? vmcs.low(F.ENTRY_INSTRUCTION_LENGTH) : 0,
  });
  if (outcome === FAULT) outcome = deliverFault(p);
  if (outcome === VMEXIT) takeVmExit(v);
  else if (v.primary & PRIMARY.MONITOR_TRAP_FLAG) v.monitorTrapPending = true;
}

/**
 * Enters the guest of the current VMCS, or fails.
 *
 * VM_SUCCEED with `operation` NON_ROOT: the guest is next. VM_SUCCEED with ROOT: the entry failed late, or the injected
 * event's delivery caused an exit; the host's state is loaded. Else the VMfail result, and nothing has changed.
 */
export function enter(v: Vtx, launch: boolean, byMethod: boolean): number {
  const { p } = v;
  const vmcs = v.current!;
  if (v.resident !== null) {
    // The host area is checked by what the software that makes the entry is.
    if (v.resident !== vmcs || vmcs.dirty & DIRTY_HOST) releaseGuest(v);
    else if (vmcs.dirty & (DIRTY_GUEST | DIRTY_SEGMENTS)) saveDeferred(v);
  }
  if (!controlsPass(v, vmcs)) return vmFail(v, VM_ERROR.ENTRY_CONTROLS);
  if (!hostPasses(v, vmcs)) return vmFail(v, VM_ERROR.ENTRY_HOST_STATE);
  // all checks passed that leave the host running as it is
  v.launchedByMethod = byMethod;
  const guest = checkGuest(v, vmcs);
  if (guest !== GUEST_VALID) {
    failEntry(v, vmcs, REASON.INVALID_GUEST_STATE, guest);
    return VM_SUCCEED;
  }
  loadControls(v, vmcs);
  if (v.resident === vmcs && (vmcs.dirty & DIRTY_GUEST) === 0) loadProgress(p, vmcs);
  else loadRegisters(v, vmcs);
  v.resident = null;
  v.saveDue = false;
  const failed = loadMsrs(v, vmcs, F.ENTRY_MSR_LOAD_ADDRESS, F.ENTRY_MSR_LOAD_COUNT);
  if (failed !== 0) {
    failEntry(v, vmcs, REASON.MSR_LOADING, failed);
    return VM_SUCCEED;
  }
  if (launch) vmcs.launched = true;
  v.operation = NON_ROOT;
  loadNonRegisterState(v, vmcs);
  if ((v.secondary & SECONDARY.VPID) === 0) flushVpid(p, 0);
  // perf: after an exit to TypeScript generated code still has this guest's segments.
  contextSwitched(v, (vmcs.dirty & DIRTY_SEGMENTS) !== 0 || v.publishedSegments !== vmcs);
  vmcs.dirty &= ~(DIRTY_SEGMENTS | DIRTY_GUEST);
  const info = vmcs.low(F.ENTRY_INTERRUPTION_INFO);
  if (discardsPendingDebug(info, (p.interruptShadow & MOV_SS) !== 0, p.activity)) p.pendingDebug = 0;
  if (info & INFO_VALID) inject(v, vmcs, info);
  return VM_SUCCEED;
}
