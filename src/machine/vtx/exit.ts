/** Taking a VM exit. @sdm "VM Exits": recording, saving guest state, saving MSRs, loading host state, loading MSRs, aborts */
import { flushVpid, tlbContextChanged } from '../mmu/tlb.ts';
import { updateSlowFlags } from '../processor/slow-flags.ts';
import { EFER_LMA, SHUTDOWN } from '../processor.ts';
import { ENTRY_CONTROL, EXIT_CONTROL, SECONDARY } from './controls.ts';
import { F } from './field-slots.ts';
import { loadHost, loadHostActivity } from './load-host.ts';
import { loadMsrs, storeMsrs } from './msr-lists.ts';
import { ROOT } from './operation.ts';
import { ENTRY_FAILURE, EVENT, INFO_VALID, REASON, VMX_ABORT } from './reasons.ts';
import { canDefer, saveDeferred, saveGuest, saveProgress } from './save-guest.ts';
import { ABORT_OFFSET, type Vmcs } from './vmcs.ts';
import type { Vtx } from './vtx.ts';

function recordInformation(v: Vtx, vmcs: Vmcs): void {
  const { exit } = v;
  vmcs.setLow(F.EXIT_REASON, exit.reason);
  vmcs.set64(F.EXIT_QUALIFICATION, exit.qualification);
  vmcs.setLow(F.EXIT_INTERRUPTION_INFO, exit.interruptionInfo);
  vmcs.setLow(F.EXIT_INTERRUPTION_ERROR_CODE, exit.interruptionErrorCode);
  vmcs.setLow(F.IDT_VECTORING_INFO, exit.idtVectoringInfo);
  vmcs.setLow(F.IDT_VECTORING_ERROR_CODE, exit.idtVectoringErrorCode);
  vmcs.setLow(F.EXIT_INSTRUCTION_LENGTH, exit.instructionLength);
  vmcs.setLow(F.EXIT_INSTRUCTION_INFO, exit.instructionInfo);
  vmcs.set64(F.GUEST_LINEAR_ADDRESS, exit.guestLinear);
  if (exit.reason === REASON.EPT_VIOLATION || exit.reason === REASON.EPT_MISCONFIGURATION) {
    vmcs.set64(F.GUEST_PHYSICAL_ADDRESS, BigInt(exit.guestPhysical));
  }
  vmcs.setLow(F.ENTRY_INTERRUPTION_INFO, vmcs.low(F.ENTRY_INTERRUPTION_INFO) & ~INFO_VALID);
  // The entry control "IA-32e mode guest" follows EFER.LMA, so that the guest can be resumed as it is.
  const entry = vmcs.low(F.ENTRY_CONTROLS);
  const now = v.p.efer & EFER_LMA ? entry | ENTRY_CONTROL.IA32E_GUEST : entry & ~ENTRY_CONTROL.IA32E_GUEST;
  if (now !== entry) {
    vmcs.setLow(F.ENTRY_CONTROLS, now);
    vmcs.touch(F.ENTRY_CONTROLS);
  }
}

/** Everything that holds only in non-root operation is off. */
export function leaveNonRoot(v: Vtx): void {
  v.operation = ROOT;
  v.pin = 0;
  v.primary = 0;
  v.secondary = 0;
  v.tertiary = 0;
  v.entryControls = 0;
  v.exitControls = 0;
  v.exceptionBitmap = 0;
  v.cr0Mask = 0;
  v.cr4Mask = 0;
  v.tscOffset = 0n;
  v.vpid = 0;
  v.ept = false;
  v.pml = false;
  v.stopTimer();
  v.virtualNmiBlocked = false;
  v.nmiUnblockedByIret = false;
  v.monitorTrapPending = false;
  v.apicTrap = 0;
  v.apicAccessPage = -1;
  v.apicWrite = -1;
  v.virtualInterruptPending = false;
  v.p.delivering = null;
}

/** A VMX abort: the processor stops until reset. @sdm "VMX Aborts" */
function abort(v: Vtx, vmcs: Vmcs, indicator: number): void {
  const { p } = v;
  p.machine.memory.write32(vmcs.region + ABORT_OFFSET, indicator);
  v.abort = indicator;
  p.activity = SHUTDOWN;
}

/** Publishes what changed to the MMU and to generated code. @param segments they may differ from what generated code has */
export function contextSwitched(v: Vtx, segments: boolean): void {
  const { p } = v;
  if (segments) p.syncSegments();
  updateSlowFlags(p);
  tlbContextChanged(p);
  p.eventsPending = true;
}

/** Loads host state and MSRs; then the processor is in root operation, or shut down by an abort. */
function enterHost(v: Vtx, vmcs: Vmcs, guestWasLong: boolean, vpidOff: boolean): void {
  const hostLong = (vmcs.low(F.EXIT_CONTROLS) & EXIT_CONTROL.HOST_64) !== 0;
  if (guestWasLong && !hostLong) return abort(v, vmcs, VMX_ABORT.HOST_NOT_LONG);
  if (!loadHost(v, vmcs)) return abort(v, vmcs, VMX_ABORT.HOST_PDPTE);
  if (loadMsrs(v, vmcs, F.EXIT_MSR_LOAD_ADDRESS, F.EXIT_MSR_LOAD_COUNT) !== 0)
    return abort(v, vmcs, VMX_ABORT.MSR_LOAD);
  if (vpidOff) flushVpid(v.p, 0);
  // perf: root software in TypeScript runs no generated code; the next entry publishes again what has changed.
  v.publishedSegments = v.launchedByMethod ? vmcs : null;
  if (!v.launchedByMethod) contextSwitched(v, true);
}

const isNmi = (info: number): boolean => (info & INFO_VALID) !== 0 && ((info >>> 8) & 7) === EVENT.NMI;

/** Takes the exit in v.exit. */
export function takeVmExit(v: Vtx): void {
  const { p, exit } = v;
  const vmcs = v.current!;
  const guestWasLong = (p.efer & EFER_LMA) !== 0;
  const vpidOff = (v.secondary & SECONDARY.VPID) === 0;
  v.exitCounts[exit.reason & 0x7f]!++;
  // perf: who enters the guest again at once does not need the host's state, and seldom all of the guest's.
  const stays = v.keepsGuest && !vpidOff && vmcs.low(F.EXIT_MSR_LOAD_COUNT) === 0;
  const defers = stays && canDefer(v);
  recordInformation(v, vmcs);
  if (defers) saveProgress(v, vmcs);
  else saveGuest(v, vmcs);
  leaveNonRoot(v);
  // Only now: the TSC is stored without the guest's offset.
  if (!storeMsrs(v, vmcs)) return abort(v, vmcs, VMX_ABORT.MSR_STORE);
  if (defers || (stays && v.tdGuest)) {
    v.resident = vmcs;
    v.saveDue = defers;
    v.publishedSegments = vmcs;
    if (defers) loadHostActivity(p);
  } else enterHost(v, vmcs, guestWasLong, vpidOff);
  if (exit.reason === REASON.EXCEPTION_OR_NMI && isNmi(exit.interruptionInfo)) p.nmiBlocked = true;
}

/** Does what an exit with `keepsGuest` has left out. */
export function releaseGuest(v: Vtx): void {
  const vmcs = v.resident;
  saveDeferred(v);
  v.resident = null;
  if (vmcs !== null) enterHost(v, vmcs, false, false);
}

/** The same for who brings registers and MSRs back from elsewhere. */
export function leaveGuest(v: Vtx): void {
  if (v.resident === null) return;
  v.resident = null;
  loadHostActivity(v.p);
}

/**
 * A VM entry that failed after the checks on controls and host state: reason and qualification are all that is written.
 * @sdm "VM-Entry Failures During or After Loading Guest State"
 */
export function failEntry(v: Vtx, vmcs: Vmcs, reason: number, qualification: number): void {
  const vpidOff = (v.secondary & SECONDARY.VPID) === 0;
  vmcs.setLow(F.EXIT_REASON, (reason | ENTRY_FAILURE) >>> 0);
  vmcs.setNumber(F.EXIT_QUALIFICATION, qualification);
  leaveNonRoot(v);
  saveDeferred(v);
  v.resident = null;
  enterHost(v, vmcs, false, vpidOff);
  v.publishedSegments = null;
}
