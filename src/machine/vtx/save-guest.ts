/** Saving guest state at VM exit. @sdm "Saving Guest State" */
import { CS, FS, SS } from '../engine/layout.ts';
import {
  ACTIVE,
  AR_UNUSABLE,
  BLOCKED_BY_MOV_SS,
  CR0_PG,
  CR4_PAE,
  EFER_LMA,
  FLAG_RF,
  MWAITING,
  type Processor,
  type Segment,
} from '../processor.ts';
import { ENTRY_CONTROL, EXIT_CONTROL, PIN } from './controls.ts';
import { RF_CLEAR, RF_SET } from './exit-info.ts';
import { F } from './field-slots.ts';
import { FIELDS } from './fields.ts';
import { timerValue } from './load-guest.ts';
import { DEBUGCTL, msrOf, PAT, SYSENTER_CS, SYSENTER_EIP, SYSENTER_ESP } from './msr-values.ts';
import { REASON } from './reasons.ts';
import { saveVirtualApic } from './virtual-apic.ts';
import type { Vmcs } from './vmcs.ts';
import type { Vtx } from './vtx.ts';
import type { VtxState } from './vtx-state.ts';

const RIGHTS_DEFINED = 0x1_f0ff;

function saveSegment(vmcs: Vmcs, n: number, { selector, base, limit, attributes }: Segment): void {
  const { u32 } = vmcs;
  u32[2 * (F.GUEST_ES_SELECTOR + n)] = selector;
  u32[2 * (F.GUEST_ES_LIMIT + n)] = limit;
  u32[2 * (F.GUEST_ES_ACCESS_RIGHTS + n)] = attributes & RIGHTS_DEFINED;
  // Bases of ES, SS and DS have 32 bits; of unusable ones they are undefined, and must not stop the next entry.
  if (attributes & AR_UNUSABLE && n !== CS && n < FS) vmcs.setNumber(F.GUEST_ES_BASE + n, 0);
  else vmcs.set64(F.GUEST_ES_BASE + n, base);
}

const LDTR = 6;
const TR = 7;

function saveSegments(p: Processor, vmcs: Vmcs): void {
  for (let n = 0; n < 6; n++) saveSegment(vmcs, n, p.segments[n]!);
  saveSegment(vmcs, LDTR, p.ldtr);
  saveSegment(vmcs, TR, p.tr);
  vmcs.set64(F.GUEST_GDTR_BASE, p.gdtr.base);
  vmcs.setLow(F.GUEST_GDTR_LIMIT, p.gdtr.limit);
  vmcs.set64(F.GUEST_IDTR_BASE, p.idtr.base);
  vmcs.setLow(F.GUEST_IDTR_LIMIT, p.idtr.limit);
}

/** @param exitControls which of the MSRs an exit saves */
function saveMsrs(p: Processor, vmcs: Vmcs, exitControls: number): void {
  vmcs.setLow(F.GUEST_SYSENTER_CS, Number(msrOf(p, SYSENTER_CS)));
  vmcs.set64(F.GUEST_SYSENTER_ESP, msrOf(p, SYSENTER_ESP));
  vmcs.set64(F.GUEST_SYSENTER_EIP, msrOf(p, SYSENTER_EIP));
  if (exitControls & EXIT_CONTROL.SAVE_DEBUG) {
    vmcs.setNumber(F.GUEST_DR7, p.dr7);
    vmcs.set64(F.GUEST_DEBUGCTL, msrOf(p, DEBUGCTL));
  }
  if (exitControls & EXIT_CONTROL.SAVE_PAT) vmcs.set64(F.GUEST_PAT, msrOf(p, PAT));
  if (exitControls & EXIT_CONTROL.SAVE_EFER) vmcs.setNumber(F.GUEST_EFER, p.efer);
}

function flagsToSave({ p, exit }: Vtx): number {
  const flags = p.rflags;
  if (exit.resumeFlag === RF_SET) return (flags | FLAG_RF) >>> 0;
  return exit.resumeFlag === RF_CLEAR ? (flags & ~FLAG_RF) >>> 0 : flags;
}

const BLOCKED_BY_NMI = 8;
const BREAKPOINTS = 0xf;
const PENDING_ENABLED = 0x1000;
const PENDING_BS = 0x4000;
const DB_VECTOR = 1;

/** Bit 12 of the pending debug exceptions: a breakpoint that matched is enabled in DR7. */
function enabledBreakpoint(dr7: number, matches: number): boolean {
  for (let n = 0; n < 4; n++) if ((matches >> n) & 1 && (dr7 >> (2 * n)) & 3) return true;
  return false;
}

/** @sdm "Saving Non-Register State" */
function pendingDebugToSave({ p, exit }: Vtx): number {
  if (p.pendingDebug === 0) return 0;
  const { reason } = exit;
  const held =
    reason === REASON.INIT ||
    reason === REASON.TPR_BELOW_THRESHOLD ||
    reason === REASON.VIRTUALIZED_EOI ||
    reason === REASON.APIC_WRITE ||
    reason === REASON.MONITOR_TRAP_FLAG ||
    reason === REASON.MACHINE_CHECK;
  const isDebug = reason === REASON.EXCEPTION_OR_NMI && (exit.interruptionInfo & 0x7ff) === (0x300 | DB_VECTOR);
  if (!held && (!(p.interruptShadow & BLOCKED_BY_MOV_SS) || isDebug)) return 0;
  const matches = p.pendingDebug & BREAKPOINTS;
  return matches | (p.pendingDebug & PENDING_BS) | (enabledBreakpoint(p.dr7, matches) ? PENDING_ENABLED : 0);
}

function saveNonRegisterState(v: Vtx, vmcs: Vmcs): void {
  const { p } = v;
  const blockedByNmi = v.pin & PIN.VIRTUAL_NMIS ? v.virtualNmiBlocked : p.nmiBlocked;
  vmcs.setLow(F.GUEST_ACTIVITY, p.activity === MWAITING ? ACTIVE : p.activity);
  vmcs.setLow(F.GUEST_INTERRUPTIBILITY, p.interruptShadow | (blockedByNmi ? BLOCKED_BY_NMI : 0));
  vmcs.setNumber(F.GUEST_PENDING_DEBUG, pendingDebugToSave(v));
  saveVirtualApic(v);
  if (v.exitControls & EXIT_CONTROL.SAVE_PREEMPTION_TIMER) {
    vmcs.setLow(F.PREEMPTION_TIMER_VALUE, timerValue(p, v.timerDeadline));
  }
}

/** Everything that the guest-state area takes. */
export function saveGuest(v: Vtx, vmcs: Vmcs): void {
  const { p } = v;
  saveProgress(v, vmcs);
  saveMsrs(p, vmcs, v.exitControls);
  saveSegments(p, vmcs);
  if (v.ept && p.cr0 & CR0_PG && p.cr4 & CR4_PAE && !(p.efer & EFER_LMA)) {
    for (let i = 0; i < 4; i++) vmcs.set64(F.GUEST_PDPTE0 + i, p.pdpte[i]!);
  }
}

/** What changes from exit to exit, or what the next entry looks at in any case. */
export function saveProgress(v: Vtx, vmcs: Vmcs): void {
  const { p } = v;
  vmcs.setNumber(F.GUEST_CR0, p.cr0);
  vmcs.set64(F.GUEST_CR3, p.cr3);
  vmcs.setNumber(F.GUEST_CR4, p.cr4);
  vmcs.set64(F.GUEST_RSP, p.gpr(4));
  vmcs.set64(F.GUEST_RIP, p.rip);
  vmcs.setNumber(F.GUEST_RFLAGS, flagsToSave(v));
  vmcs.setLow(F.GUEST_CS_ACCESS_RIGHTS, p.segments[CS]!.attributes & RIGHTS_DEFINED);
  vmcs.setLow(F.GUEST_SS_ACCESS_RIGHTS, p.segments[SS]!.attributes & RIGHTS_DEFINED);
  saveNonRegisterState(v, vmcs);
}

const SAVES_ALL: number = EXIT_CONTROL.SAVE_DEBUG | EXIT_CONTROL.SAVE_PAT | EXIT_CONTROL.SAVE_EFER;
const LOADS_ALL: number = ENTRY_CONTROL.LOAD_DEBUG | ENTRY_CONTROL.LOAD_PAT | ENTRY_CONTROL.LOAD_EFER;

/**
 * Whether the rest may be saved later: a 64-bit guest, none of whose registers is left as root software has it. Call while the exit's
 * controls are in force.
 */
export const canDefer = ({ p, exitControls, entryControls, tdGuest }: Vtx): boolean =>
  !tdGuest &&
  (p.efer & EFER_LMA) !== 0 &&
  (exitControls & (SAVES_ALL | EXIT_CONTROL.HOST_64)) === (SAVES_ALL | EXIT_CONTROL.HOST_64) &&
  (entryControls & LOADS_ALL) === LOADS_ALL;

/** Saves what the exit has left in the processor. */
export function saveDeferred(v: VtxState): void {
  if (!v.saveDue) return;
  v.saveDue = false;
  saveMsrs(v.p, v.resident!, SAVES_ALL);
  saveSegments(v.p, v.resident!);
}

/** Reads wait for saveDeferred(), and so do writes, which must come after it; or writes alone, as saveProgress() has the field, too. */
export const DEFERRED_READS = 1;
export const DEFERRED_WRITES = 2;
/** By slot: DEFERRED_READS and DEFERRED_WRITES of the fields that saveDeferred() saves. */
export const DEFERRED: Uint8Array = new Uint8Array(FIELDS.length);
for (const slot of [
  F.GUEST_SYSENTER_CS,
  F.GUEST_SYSENTER_ESP,
  F.GUEST_SYSENTER_EIP,
  F.GUEST_DR7,
  F.GUEST_DEBUGCTL,
  F.GUEST_PAT,
  F.GUEST_EFER,
  F.GUEST_GDTR_BASE,
  F.GUEST_GDTR_LIMIT,
  F.GUEST_IDTR_BASE,
  F.GUEST_IDTR_LIMIT,
]) {
  DEFERRED[slot] = DEFERRED_READS | DEFERRED_WRITES;
}
for (let n = 0; n < 8; n++) {
  for (const slot of [F.GUEST_ES_SELECTOR, F.GUEST_ES_LIMIT, F.GUEST_ES_ACCESS_RIGHTS, F.GUEST_ES_BASE])
    DEFERRED[slot + n] = DEFERRED_READS | DEFERRED_WRITES;
}
for (const n of [CS, SS]) DEFERRED[F.GUEST_ES_ACCESS_RIGHTS + n] = DEFERRED_WRITES;
