/**
 * Checks of VM entry on the guest-state area; a failure is a VM exit with reason 33 and a qualification.
 * @sdm "Checking and Loading Guest State"
 */
import {
  ACTIVE,
  BLOCKED_BY_MOV_SS,
  BLOCKED_BY_STI,
  CR0_PE,
  CR0_PG,
  CR4_PAE,
  CR4_PCIDE,
  dplOf,
  EFER_LMA,
  EFER_LME,
  FLAG_IF,
  FLAG_TF,
  FLAG_VM,
  HLT,
  SHUTDOWN,
  WAIT_SIPI,
} from '../processor.ts';
import { VMCS_REVISION } from './capabilities.ts';
import { ENTRY_CONTROL, PIN, SECONDARY } from './controls.ts';
import { secondaryOf } from './entry-controls.ts';
import { descriptorTablesValid, segmentsValid } from './entry-segments.ts';
import { F } from './field-slots.ts';
import { EVENT, INFO_VALID } from './reasons.ts';
import { isCanonicalField, isEfer, isPageAddress, isPat, isPhysical, noLinkPointer } from './value-checks.ts';
import { DIRTY_GUEST, DIRTY_SEGMENTS, type Vmcs } from './vmcs.ts';
import type { Vtx } from './vtx.ts';

/** All checks passed. */
export const GUEST_VALID = -1;
const INVALID = 0;
const INVALID_PDPTE = 2;
const INVALID_LINK_POINTER = 4;

/** LBR and BTF. */
const DEBUGCTL_DEFINED = 3;
const DEBUGCTL_BTF = 2;

function controlRegistersValid(v: Vtx, vmcs: Vmcs, entry: number, unrestricted: boolean): boolean {
  const cr0 = vmcs.low(F.GUEST_CR0);
  const cr4 = vmcs.low(F.GUEST_CR4);
  if (vmcs.high(F.GUEST_CR0) !== 0 || !v.capabilities.cr0Allowed(cr0, unrestricted)) return false;
  if (cr0 & CR0_PG && !(cr0 & CR0_PE)) return false;
  if (vmcs.high(F.GUEST_CR4) !== 0 || !v.capabilities.cr4Allowed(cr4)) return false;
  if (entry & ENTRY_CONTROL.IA32E_GUEST) {
    if (!(cr0 & CR0_PG) || !(cr4 & CR4_PAE)) return false;
  } else if (cr4 & CR4_PCIDE) return false;
  return isPhysical(v, vmcs, F.GUEST_CR3);
}

function msrsValid(v: Vtx, vmcs: Vmcs, entry: number): boolean {
  if (entry & ENTRY_CONTROL.LOAD_DEBUG) {
    if (vmcs.low(F.GUEST_DEBUGCTL) & ~DEBUGCTL_DEFINED || vmcs.high(F.GUEST_DEBUGCTL) !== 0) return false;
    if (vmcs.high(F.GUEST_DR7) !== 0) return false;
  }
  if (!isCanonicalField(v, vmcs, F.GUEST_SYSENTER_ESP) || !isCanonicalField(v, vmcs, F.GUEST_SYSENTER_EIP))
    return false;
  if (entry & ENTRY_CONTROL.LOAD_PAT && !isPat(vmcs, F.GUEST_PAT)) return false;
  if (!(entry & ENTRY_CONTROL.LOAD_EFER)) return true;
  if (!isEfer(vmcs, F.GUEST_EFER, (entry & ENTRY_CONTROL.IA32E_GUEST) !== 0)) return false;
  const efer = vmcs.low(F.GUEST_EFER);
  return !(vmcs.low(F.GUEST_CR0) & CR0_PG) || ((efer & EFER_LMA) !== 0) === ((efer & EFER_LME) !== 0);
}

const FLAGS_RESERVED = 0xffc0_8028;

/** The event to inject: its type, or -1. */
function injectedType(vmcs: Vmcs): number {
  const info = vmcs.low(F.ENTRY_INTERRUPTION_INFO);
  return info & INFO_VALID ? (info >>> 8) & 7 : -1;
}

function ripAndFlagsValid(v: Vtx, vmcs: Vmcs, entry: number): boolean {
  const long = (entry & ENTRY_CONTROL.IA32E_GUEST) !== 0;
  const longCode = long && (vmcs.low(F.GUEST_CS_ACCESS_RIGHTS) & 0x2000) !== 0;
  if (longCode) {
    // Bits from the linear width up are equal; the bit below them may differ.
    const top = (vmcs.high(F.GUEST_RIP) | 0) >> (v.capabilities.linearAddressBits - 32);
    if (top !== 0 && top !== -1) return false;
  } else if (vmcs.high(F.GUEST_RIP) !== 0) return false;
  const flags = vmcs.low(F.GUEST_RFLAGS);
  if (vmcs.high(F.GUEST_RFLAGS) !== 0 || flags & FLAGS_RESERVED || !(flags & 2)) return false;
  if (flags & FLAG_VM && (long || !(vmcs.low(F.GUEST_CR0) & CR0_PE))) return false;
  return injectedType(vmcs) !== EVENT.EXTERNAL_INTERRUPT || (flags & FLAG_IF) !== 0;
}

const DB_VECTOR = 1;
const MC_VECTOR = 18;

/** Whether the event may be injected into the activity state. */
function injectionFits(activity: number, type: number, vector: number): boolean {
  switch (activity) {
    case ACTIVE:
      return true;
    case HLT:
      if (type === EVENT.HARDWARE_EXCEPTION) return vector === DB_VECTOR || vector === MC_VECTOR;
      return type === EVENT.EXTERNAL_INTERRUPT || type === EVENT.NMI || type === EVENT.OTHER;
    case SHUTDOWN:
      return type === EVENT.NMI || (type === EVENT.HARDWARE_EXCEPTION && vector === MC_VECTOR);
    default:
      return false;
  }
}

function activityValid(vmcs: Vmcs): boolean {
  const activity = vmcs.low(F.GUEST_ACTIVITY);
  if (activity > WAIT_SIPI) return false;
  if (activity === HLT && dplOf(vmcs.low(F.GUEST_SS_ACCESS_RIGHTS)) !== 0) return false;
  const blocking = vmcs.low(F.GUEST_INTERRUPTIBILITY) & (BLOCKED_BY_STI | BLOCKED_BY_MOV_SS);
  if (blocking !== 0 && activity !== ACTIVE) return false;
  const type = injectedType(vmcs);
  return type < 0 || injectionFits(activity, type, vmcs.low(F.ENTRY_INTERRUPTION_INFO) & 0xff);
}

const BLOCKED_BY_NMI = 8;
/** STI, MOV SS, NMI; SMI and enclave do not exist here. */
const INTERRUPTIBILITY_DEFINED = BLOCKED_BY_STI | BLOCKED_BY_MOV_SS | BLOCKED_BY_NMI;

function interruptibilityValid(vmcs: Vmcs): boolean {
  const state = vmcs.low(F.GUEST_INTERRUPTIBILITY);
  const shadow = state & (BLOCKED_BY_STI | BLOCKED_BY_MOV_SS);
  if (state & ~INTERRUPTIBILITY_DEFINED || shadow === (BLOCKED_BY_STI | BLOCKED_BY_MOV_SS)) return false;
  if (state & BLOCKED_BY_STI && !(vmcs.low(F.GUEST_RFLAGS) & FLAG_IF)) return false;
  switch (injectedType(vmcs)) {
    case EVENT.EXTERNAL_INTERRUPT:
      return shadow === 0;
    case EVENT.NMI:
      if (state & BLOCKED_BY_MOV_SS) return false;
      return !(vmcs.low(F.PIN_CONTROLS) & PIN.VIRTUAL_NMIS) || !(state & BLOCKED_BY_NMI);
    default:
      return true;
  }
}

/** B0 to B3, bit 12 (enabled breakpoint), BS (14). */
const PENDING_DEBUG_DEFINED = 0x500f;
const PENDING_BS = 0x4000;

function pendingDebugValid(vmcs: Vmcs): boolean {
  const pending = vmcs.low(F.GUEST_PENDING_DEBUG);
  if (vmcs.high(F.GUEST_PENDING_DEBUG) !== 0 || pending & ~PENDING_DEBUG_DEFINED) return false;
  const blocking = vmcs.low(F.GUEST_INTERRUPTIBILITY) & (BLOCKED_BY_STI | BLOCKED_BY_MOV_SS);
  if (blocking === 0 && vmcs.low(F.GUEST_ACTIVITY) !== HLT) return true;
  const steps = (vmcs.low(F.GUEST_RFLAGS) & FLAG_TF) !== 0 && !(vmcs.low(F.GUEST_DEBUGCTL) & DEBUGCTL_BTF);
  return ((pending & PENDING_BS) !== 0) === steps;
}

function linkPointerValid(v: Vtx, vmcs: Vmcs): boolean {
  if (noLinkPointer(vmcs)) return true;
  if (!isPageAddress(v, vmcs, F.VMCS_LINK_POINTER)) return false;
  const region = vmcs.address(F.VMCS_LINK_POINTER);
  // Without VMCS shadowing the link may not be a shadow VMCS: bit 31 is clear.
  return region !== vmcs.region && v.memory.read32(region) === VMCS_REVISION;
}

const PDPTE_RESERVED = 0x1e6;

/** A PDPTE by halves: reserved bits are clear if it is present. */
export const pdpteValid = (v: Vtx, low: number, high: number): boolean =>
  (low & 1) === 0 || ((low & PDPTE_RESERVED) === 0 && high >>> v.capabilities.addressShift === 0);

/** Whether the four PDPTEs at CR3 in memory are valid. */
export function memoryPdptesValid(v: Vtx, cr3: number): boolean {
  const { memory } = v.p.machine;
  for (let i = 0; i < 4; i++)
    if (!pdpteValid(v, memory.read32(cr3 + i * 8), memory.read32(cr3 + i * 8 + 4))) return false;
  return true;
}

/** Whether the guest will use PAE paging, with PDPTE registers. */
export const guestUsesPdptes = (vmcs: Vmcs): boolean =>
  (vmcs.low(F.GUEST_CR0) & CR0_PG) !== 0 &&
  (vmcs.low(F.GUEST_CR4) & CR4_PAE) !== 0 &&
  !(vmcs.low(F.ENTRY_CONTROLS) & ENTRY_CONTROL.IA32E_GUEST);

/** Address of the PDPTEs in a CR3 value of PAE paging. */
export const pdpteTable = (cr3Low: number): number => (cr3Low & ~31) >>> 0;

function pdptesValid(v: Vtx, vmcs: Vmcs, secondary: number): boolean {
  if (!guestUsesPdptes(vmcs)) return true;
  if (!(secondary & SECONDARY.EPT)) return memoryPdptesValid(v, pdpteTable(vmcs.low(F.GUEST_CR3)));
  for (let i = 0; i < 4; i++) {
    if (!pdpteValid(v, vmcs.low(F.GUEST_PDPTE0 + i), vmcs.high(F.GUEST_PDPTE0 + i))) return false;
  }
  return true;
}

/** GUEST_VALID, or the qualification of the failure. */
export function checkGuest(v: Vtx, vmcs: Vmcs): number {
  const entry = vmcs.low(F.ENTRY_CONTROLS);
  const secondary = secondaryOf(vmcs);
  const unrestricted = (secondary & SECONDARY.UNRESTRICTED_GUEST) !== 0;
  // perf: an exit saves what is valid, so only what software wrote since is checked.
  const valid =
    ((vmcs.dirty & DIRTY_GUEST) === 0 ||
      (controlRegistersValid(v, vmcs, entry, unrestricted) && msrsValid(v, vmcs, entry))) &&
    ((vmcs.dirty & DIRTY_SEGMENTS) === 0 || (segmentsValid(v, vmcs, unrestricted) && descriptorTablesValid(v, vmcs))) &&
    ripAndFlagsValid(v, vmcs, entry) &&
    activityValid(vmcs) &&
    interruptibilityValid(vmcs) &&
    pendingDebugValid(vmcs);
  if (!valid) return INVALID;
  if (!linkPointerValid(v, vmcs)) return INVALID_LINK_POINTER;
  return pdptesValid(v, vmcs, secondary) ? GUEST_VALID : INVALID_PDPTE;
}
