/**
 * The fields that only a TD's VMCS has: its KeyID, the EPT pointer for shared memory, the width of its addresses.
 * @tdx "TD VMCS" (control fields)
 */
import { isPrivate, keyIdOf, stripKeyId } from '../seam/key-id.ts';
import { PRIMARY, SECONDARY, TERTIARY } from './controls.ts';
import { F } from './field-slots.ts';
import { isPageAddress } from './value-checks.ts';
import type { Vmcs } from './vmcs.ts';
import type { Vtx } from './vtx.ts';

const SHARED_BIT_48 = 2 ** 47;
const SHARED_BIT_52 = 2 ** 51;

const tertiaryOf = (vmcs: Vmcs): number =>
  vmcs.low(F.PRIMARY_CONTROLS) & PRIMARY.TERTIARY ? vmcs.low(F.TERTIARY_CONTROLS) : 0;

/** The KeyID in an EPT pointer is the TD's, or none is there. */
function rootKeyValid(vmcs: Vmcs, hkid: number): boolean {
  const keyId = keyIdOf(vmcs.address(F.EPT_POINTER));
  return keyId === 0 || keyId === hkid;
}

/** Checks of the entry to a TD beside those of every VM entry. */
export function tdControlsValid(v: Vtx, vmcs: Vmcs): boolean {
  if (!isPrivate(v.p.machine, v.seamHkid)) return false;
  const tertiary = vmcs.low(F.PRIMARY_CONTROLS) & PRIMARY.TERTIARY;
  if (tertiary && (vmcs.low(F.TERTIARY_CONTROLS) & ~TERTIARY.GPAW || vmcs.high(F.TERTIARY_CONTROLS))) return false;
  const ept = vmcs.low(F.PRIMARY_CONTROLS) & PRIMARY.SECONDARY ? vmcs.low(F.SECONDARY_CONTROLS) & SECONDARY.EPT : 0;
  if (!ept || !rootKeyValid(vmcs, v.seamHkid)) return false;
  return isPageAddress(v, vmcs, F.SHARED_EPT_POINTER) && keyIdOf(vmcs.address(F.SHARED_EPT_POINTER)) === 0;
}

/** Publishes them. Call after the EPT pointer. */
export function loadTdControls(v: Vtx, vmcs: Vmcs): void {
  v.sharedBase = tertiaryOf(vmcs) & TERTIARY.GPAW ? SHARED_BIT_52 : SHARED_BIT_48;
  v.sharedEptRoot = vmcs.address(F.SHARED_EPT_POINTER);
  v.eptRoot = stripKeyId(v.eptRoot);
}
