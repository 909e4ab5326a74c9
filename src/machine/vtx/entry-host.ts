/**
 * Checks of VM entry on the host-state area; a failure is VMfailValid(8).
 * @sdm "Checks on Host Control Registers, MSRs, and SSP" and following
 */
import { isCanonicalIn } from '../processor/canonical.ts';
import { CR4_LA57, CR4_PAE, CR4_PCIDE, EFER_LMA, EFER_LME } from '../processor.ts';
import { ENTRY_CONTROL, EXIT_CONTROL } from './controls.ts';
import { F } from './field-slots.ts';
import { isCanonicalField, isEfer, isPat, isPhysical } from './value-checks.ts';
import type { Vmcs } from './vmcs.ts';
import type { Vtx } from './vtx.ts';

function registersValid(v: Vtx, vmcs: Vmcs, exit: number, host64: boolean): boolean {
  if (vmcs.high(F.HOST_CR0) !== 0 || !v.capabilities.cr0Allowed(vmcs.low(F.HOST_CR0), false)) return false;
  if (vmcs.high(F.HOST_CR4) !== 0 || !v.capabilities.cr4Allowed(vmcs.low(F.HOST_CR4))) return false;
  if (!isPhysical(v, vmcs, F.HOST_CR3)) return false;
  if (!isCanonicalField(v, vmcs, F.HOST_SYSENTER_ESP) || !isCanonicalField(v, vmcs, F.HOST_SYSENTER_EIP)) return false;
  if (exit & EXIT_CONTROL.LOAD_PAT && !isPat(vmcs, F.HOST_PAT)) return false;
  if (!(exit & EXIT_CONTROL.LOAD_EFER)) return true;
  return isEfer(vmcs, F.HOST_EFER, host64) && ((vmcs.low(F.HOST_EFER) & EFER_LME) !== 0) === host64;
}

const RPL_TI = 7;
const SELECTORS: readonly number[] = [
  F.HOST_ES_SELECTOR,
  F.HOST_CS_SELECTOR,
  F.HOST_SS_SELECTOR,
  F.HOST_DS_SELECTOR,
  F.HOST_FS_SELECTOR,
  F.HOST_GS_SELECTOR,
  F.HOST_TR_SELECTOR,
];
const BASES: readonly number[] = [F.HOST_FS_BASE, F.HOST_GS_BASE, F.HOST_GDTR_BASE, F.HOST_IDTR_BASE, F.HOST_TR_BASE];

function segmentsValid(v: Vtx, vmcs: Vmcs, host64: boolean): boolean {
  for (const slot of SELECTORS) if (vmcs.low(slot) & RPL_TI) return false;
  if (vmcs.low(F.HOST_CS_SELECTOR) === 0 || vmcs.low(F.HOST_TR_SELECTOR) === 0) return false;
  if (!host64 && vmcs.low(F.HOST_SS_SELECTOR) === 0) return false;
  for (const slot of BASES) if (!isCanonicalField(v, vmcs, slot)) return false;
  return true;
}

/** The rules of the address-space size. @sdm "Checks Related to Address-Space Size" */
function addressSpaceValid(v: Vtx, vmcs: Vmcs, host64: boolean): boolean {
  const guest64 = (vmcs.low(F.ENTRY_CONTROLS) & ENTRY_CONTROL.IA32E_GUEST) !== 0;
  const cr4 = vmcs.low(F.HOST_CR4);
  if (v.p.efer & EFER_LMA)
    return host64 && (cr4 & CR4_PAE) !== 0 && isCanonicalIn(cr4 & CR4_LA57 ? 57 : 48, vmcs.get64(F.HOST_RIP));
  return !guest64 && !host64 && (cr4 & CR4_PCIDE) === 0 && vmcs.high(F.HOST_RIP) === 0;
}

/** All checks; the result holds until a host field or one of the two control words is written, or EFER.LMA changes. */
export function hostValid(v: Vtx, vmcs: Vmcs): boolean {
  const exit = vmcs.low(F.EXIT_CONTROLS);
  const host64 = (exit & EXIT_CONTROL.HOST_64) !== 0;
  return registersValid(v, vmcs, exit, host64) && segmentsValid(v, vmcs, host64) && addressSpaceValid(v, vmcs, host64);
}
