/** Loading the guest-state area and the controls at VM entry. @sdm "Loading Guest State" */
import { CS, FS, SS } from '../engine/layout.ts';
import {
  AR_DB,
  AR_UNUSABLE,
  BLOCKED_BY_MOV_SS,
  BLOCKED_BY_STI,
  CR0_CD,
  CR0_ET,
  CR0_NW,
  CR0_PG,
  dplOf,
  EFER_LMA,
  EFER_LME,
  FLAG_VM,
  type Processor,
  type Segment,
} from '../processor.ts';
import { TIMER_SHIFT } from './capabilities.ts';
import { ENTRY_CONTROL, PIN, PRIMARY, SECONDARY } from './controls.ts';
import { secondaryOf, tertiaryOf } from './entry-controls.ts';
import { guestUsesPdptes, pdpteTable } from './entry-guest.ts';
import { EPTP_ACCESSED_DIRTY } from './ept-pointer.ts';
import { F } from './field-slots.ts';
import { DEBUGCTL, PAT, SYSENTER_CS, SYSENTER_EIP, SYSENTER_ESP, setMsr } from './msr-values.ts';
import { loadTdControls } from './td-controls.ts';
import { enterVirtualApic } from './virtual-apic.ts';
import type { Vmcs } from './vmcs.ts';
import type { Vtx } from './vtx.ts';

/** CR0 bits that entries and exits leave alone: ET, CD, NW and the reserved ones. */
export const CR0_KEPT: number = CR0_ET | CR0_NW | CR0_CD | 0x1ffa_ffc0;
const DR7_CLEARED = 0xd000;
const DR7_SET = 0x400;

/** Publishes the control words for the cheap tests of non-root operation. */
export function loadControls(v: Vtx, vmcs: Vmcs): void {
  const primary = vmcs.low(F.PRIMARY_CONTROLS);
  const secondary = secondaryOf(vmcs);
  v.pin = vmcs.low(F.PIN_CONTROLS);
  v.primary = primary;
  v.secondary = secondary;
  v.tertiary = tertiaryOf(v, vmcs);
  v.entryControls = vmcs.low(F.ENTRY_CONTROLS);
  v.exitControls = vmcs.low(F.EXIT_CONTROLS);
  v.exceptionBitmap = vmcs.low(F.EXCEPTION_BITMAP);
  v.pageFaultMask = vmcs.low(F.PAGE_FAULT_MASK);
  v.pageFaultMatch = vmcs.low(F.PAGE_FAULT_MATCH);
  v.cr0Mask = vmcs.low(F.CR0_MASK);
  v.cr0Shadow = vmcs.low(F.CR0_READ_SHADOW);
  v.cr4Mask = vmcs.low(F.CR4_MASK);
  v.cr4Shadow = vmcs.low(F.CR4_READ_SHADOW);
  if (primary & PRIMARY.MSR_BITMAPS) v.msrBitmap = vmcs.address(F.MSR_BITMAP);
  if (primary & PRIMARY.IO_BITMAPS) {
    v.ioBitmapA = vmcs.address(F.IO_BITMAP_A);
    v.ioBitmapB = vmcs.address(F.IO_BITMAP_B);
  }
  if (primary & PRIMARY.TPR_SHADOW) {
    v.virtualApicPage = vmcs.address(F.VIRTUAL_APIC_ADDRESS);
    v.tprThreshold = vmcs.low(F.TPR_THRESHOLD);
  }
  v.apicAccessPage = secondary & SECONDARY.VIRTUALIZE_APIC_ACCESSES ? vmcs.address(F.APIC_ACCESS_ADDRESS) : -1;
  v.tscOffset = primary & PRIMARY.TSC_OFFSETTING ? vmcs.get64(F.TSC_OFFSET) : 0n;
  if (secondary & SECONDARY.TSC_SCALING) v.tscMultiplier = vmcs.get64(F.TSC_MULTIPLIER);
  if (secondary & SECONDARY.PAUSE_LOOP) {
    v.pauseGap = vmcs.low(F.PLE_GAP);
    v.pauseWindow = vmcs.low(F.PLE_WINDOW);
    v.pauseLast = -1;
  }
  v.vpid = secondary & SECONDARY.VPID ? vmcs.low(F.VPID) : 0;
  v.pml = (secondary & SECONDARY.PML) !== 0;
  v.ept = (secondary & SECONDARY.EPT) !== 0;
  if (v.ept) loadEptPointer(v, vmcs);
  if (v.tdGuest) loadTdControls(v, vmcs);
}

/** Makes the EPT pointer field the one in force. */
export function loadEptPointer(v: Vtx, vmcs: Vmcs): void {
  const low = vmcs.low(F.EPT_POINTER);
  // perf: the same bigint object spares the MMU a decode.
  const eptp = vmcs.get64(F.EPT_POINTER);
  if (v.eptp !== eptp) v.eptp = eptp;
  v.eptRoot = vmcs.address(F.EPT_POINTER) - (low & 0xfff);
  v.eptLevels = ((low >>> 3) & 7) + 1;
  v.eptAccessedDirty = (low & EPTP_ACCESSED_DIRTY) !== 0;
}

function loadSegment(vmcs: Vmcs, n: number, segment: Segment): void {
  const { u32 } = vmcs;
  const rights = u32[2 * (F.GUEST_ES_ACCESS_RIGHTS + n)]!;
  segment.selector = u32[2 * (F.GUEST_ES_SELECTOR + n)]!;
  segment.limit = u32[2 * (F.GUEST_ES_LIMIT + n)]!;
  segment.attributes = rights;
  if (rights & AR_UNUSABLE && n !== CS && n < FS) {
    // ES, SS and DS have 32-bit bases; an unusable SS keeps its DPL, which is the CPL.
    segment.base = BigInt(n === SS ? (vmcs.low(F.GUEST_SS_BASE) & ~15) >>> 0 : vmcs.low(F.GUEST_ES_BASE + n));
    if (n === SS) segment.attributes |= AR_DB;
  } else {
    segment.base = vmcs.get64(F.GUEST_ES_BASE + n);
  }
}

const LDTR = 6;
const TR = 7;

function loadSegments(p: Processor, vmcs: Vmcs): void {
  for (let n = 0; n < 6; n++) loadSegment(vmcs, n, p.segments[n]!);
  loadSegment(vmcs, LDTR, p.ldtr);
  loadSegment(vmcs, TR, p.tr);
  p.gdtr.base = vmcs.get64(F.GUEST_GDTR_BASE);
  p.gdtr.limit = vmcs.low(F.GUEST_GDTR_LIMIT);
  p.idtr.base = vmcs.get64(F.GUEST_IDTR_BASE);
  p.idtr.limit = vmcs.low(F.GUEST_IDTR_LIMIT);
  p.cpl = vmcs.low(F.GUEST_RFLAGS) & FLAG_VM ? 3 : dplOf(vmcs.low(F.GUEST_SS_ACCESS_RIGHTS));
}

function guestEfer(p: Processor, vmcs: Vmcs, entry: number): number {
  if (entry & ENTRY_CONTROL.LOAD_EFER) return vmcs.low(F.GUEST_EFER);
  const long = (entry & ENTRY_CONTROL.IA32E_GUEST) !== 0;
  let efer = long ? p.efer | EFER_LMA : p.efer & ~EFER_LMA;
  if (vmcs.low(F.GUEST_CR0) & CR0_PG) efer = long ? efer | EFER_LME : efer & ~EFER_LME;
  return efer;
}

function loadPdptes(v: Vtx, vmcs: Vmcs): void {
  if (!guestUsesPdptes(vmcs)) return;
  const { p } = v;
  const table = pdpteTable(vmcs.low(F.GUEST_CR3));
  for (let i = 0; i < 4; i++) {
    p.pdpte[i] = v.ept ? vmcs.get64(F.GUEST_PDPTE0 + i) : p.machine.memory.read64(table + i * 8);
  }
}

/** Registers and MSRs. Call loadControls before. */
export function loadRegisters(v: Vtx, vmcs: Vmcs): void {
  const { p } = v;
  const entry = v.entryControls;
  p.cr0 = ((vmcs.low(F.GUEST_CR0) & ~CR0_KEPT) | (p.cr0 & CR0_KEPT)) >>> 0;
  p.cr3 = vmcs.get64(F.GUEST_CR3);
  p.cr4 = vmcs.low(F.GUEST_CR4);
  p.efer = guestEfer(p, vmcs, entry);
  if (entry & ENTRY_CONTROL.LOAD_DEBUG) {
    p.dr7 = ((vmcs.low(F.GUEST_DR7) & ~DR7_CLEARED) | DR7_SET) >>> 0;
    setMsr(p, DEBUGCTL, vmcs.get64(F.GUEST_DEBUGCTL));
  }
  setMsr(p, SYSENTER_CS, BigInt(vmcs.low(F.GUEST_SYSENTER_CS)));
  setMsr(p, SYSENTER_ESP, vmcs.get64(F.GUEST_SYSENTER_ESP));
  setMsr(p, SYSENTER_EIP, vmcs.get64(F.GUEST_SYSENTER_EIP));
  if (entry & ENTRY_CONTROL.LOAD_PAT) setMsr(p, PAT, vmcs.get64(F.GUEST_PAT));
  loadPdptes(v, vmcs);
  loadSegments(p, vmcs);
  p.setGpr(4, vmcs.get64(F.GUEST_RSP));
  p.rip = vmcs.get64(F.GUEST_RIP);
  p.rflags = vmcs.low(F.GUEST_RFLAGS);
}

/** The same where the processor still has the rest since the exit, and nobody has written to it. */
export function loadProgress(p: Processor, vmcs: Vmcs): void {
  p.setGpr(4, vmcs.get64(F.GUEST_RSP));
  p.rip = vmcs.get64(F.GUEST_RIP);
  p.rflags = vmcs.low(F.GUEST_RFLAGS);
}

const BLOCKED_BY_NMI = 8;
const PENDING_ENABLED = 0x1000;
const PENDING_BS = 0x4000;
const BREAKPOINTS = 0xf;

/** Activity, blocking, pending debug exceptions, preemption timer, monitor trap flag. */
export function loadNonRegisterState(v: Vtx, vmcs: Vmcs): void {
  const { p } = v;
  const interruptibility = vmcs.low(F.GUEST_INTERRUPTIBILITY);
  const blockedByNmi = (interruptibility & BLOCKED_BY_NMI) !== 0;
  p.activity = vmcs.low(F.GUEST_ACTIVITY);
  p.interruptShadow = interruptibility & (BLOCKED_BY_STI | BLOCKED_BY_MOV_SS);
  v.virtualNmiBlocked = false;
  if (v.pin & PIN.VIRTUAL_NMIS) {
    v.virtualNmiBlocked = blockedByNmi;
    p.nmiBlocked = false;
  } else {
    p.nmiBlocked = blockedByNmi;
  }
  const pending = vmcs.low(F.GUEST_PENDING_DEBUG);
  p.pendingDebug = pending & (PENDING_ENABLED | PENDING_BS) ? pending & (BREAKPOINTS | PENDING_BS) : 0;
  p.monitor = null;
  v.nmiUnblockedByIret = false;
  v.monitorTrapPending = false;
  v.monitorTrapTime = p.machine.clock.now();
  v.monitorTrapRip = p.rip;
  enterVirtualApic(v);
  if (v.pin & PIN.PREEMPTION_TIMER) v.startTimer(timerDeadline(p, vmcs.low(F.PREEMPTION_TIMER_VALUE)));
}

const TICK = 2 ** TIMER_SHIFT;

/** Machine time of the last change of TSC bit TIMER_SHIFT, when the preemption timer last ticked. */
export function lastTick(p: Processor): number {
  const now = p.machine.clock.now();
  const phase = (now % TICK) + Number(BigInt.asUintN(TIMER_SHIFT, p.tscOffset));
  return now - (phase % TICK);
}

const timerDeadline = (p: Processor, value: number): number => lastTick(p) + value * TICK;

/** What the timer shows at present. */
export const timerValue = (p: Processor, deadline: number): number =>
  Math.min(0xffff_ffff, Math.max(0, Math.floor((deadline - lastTick(p)) / TICK)));
