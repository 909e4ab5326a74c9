/**
 * The VMX instructions without their operand fetch: checks in the SDM's order, then the change.
 *
 * Privilege, mode and VM-exit checks are the callers': methods of Vtx for root software in TypeScript, handlers.ts for
 * executed instructions. Results are VM_SUCCEED, VM_FAIL_INVALID, VM_FAIL_VALID (the number is in the VMCS), or
 * FAULTED | vector.
 *
 * @sdm "VMX Instructions"
 */
import { invept as dropEpt, invvpid as dropVpid } from '../mmu/tlb.ts';
import { GP, UD } from '../outcome.ts';
import { isCanonicalIn } from '../processor/canonical.ts';
import { BLOCKED_BY_MOV_SS, CR4_VMXE } from '../processor.ts';
import { VMCS_REVISION } from './capabilities.ts';
import { eptPointerValid } from './ept-pointer.ts';
import { releaseGuest } from './exit.ts';
import { F } from './field-slots.ts';
import { FIELDS } from './fields.ts';
import { FAULTED, OUTSIDE, ROOT, VM_FAIL_INVALID, VM_FAIL_VALID, VM_SUCCEED } from './operation.ts';
import { VM_ERROR } from './reasons.ts';
import { DEFERRED, DEFERRED_READS, DEFERRED_WRITES, saveDeferred } from './save-guest.ts';
import { clearLaunchState, Vmcs } from './vmcs.ts';
import type { Vtx } from './vtx.ts';

const NO_POINTER = 0xffff_ffff_ffff_ffffn;
const FEATURE_CONTROL = 0x3a;
const FEATURE_CONTROL_LOCKED = 1n;
const FEATURE_CONTROL_VMXON = 4n;

/** VMfail(n): VMfailValid where there is a current VMCS, else VMfailInvalid. */
export function vmFail(v: Vtx, error: number): number {
  if (v.current === null) return VM_FAIL_INVALID;
  v.current.setLow(F.INSTRUCTION_ERROR, error);
  return VM_FAIL_VALID;
}

const undefinedOutside = (v: Vtx): number => (v.operation === OUTSIDE ? FAULTED | UD : VM_SUCCEED);

/** A page-aligned physical address, or -1. */
function regionAddress(v: Vtx, pointer: bigint): number {
  return pointer & 0xfffn || pointer >> BigInt(32 + v.addressShift) ? -1 : Number(pointer);
}

/** What VMXON checks before it reads its operand; VM_SUCCEED to go on. */
export function vmxonFault(v: Vtx): number {
  const { p } = v;
  if (v.operation !== OUTSIDE) return vmFail(v, VM_ERROR.VMXON_IN_ROOT);
  if (!(p.cr4 & CR4_VMXE)) return FAULTED | UD;
  const feature = p.msrs.get(FEATURE_CONTROL) ?? 0n;
  if (!v.capabilities.cr0Allowed(p.cr0, false) || !v.capabilities.cr4Allowed(p.cr4)) return FAULTED | GP;
  return feature & FEATURE_CONTROL_LOCKED && feature & FEATURE_CONTROL_VMXON ? VM_SUCCEED : FAULTED | GP;
}

export function vmxon(v: Vtx, pointer: bigint): number {
  const early = vmxonFault(v);
  if (early !== VM_SUCCEED) return early;
  const region = regionAddress(v, pointer);
  if (region < 0 || v.p.machine.memory.read32(region) !== VMCS_REVISION) return VM_FAIL_INVALID;
  // all checks passed
  v.operation = ROOT;
  v.vmxonPointer = region;
  v.current = null;
  return VM_SUCCEED;
}

export function vmxoff(v: Vtx): number {
  if (v.operation === OUTSIDE) return FAULTED | UD;
  releaseGuest(v);
  // Software should have cleared its VMCSs; those it forgot survive in their regions.
  for (const vmcs of v.active.values()) vmcs.store(v.p.machine.memory);
  v.active.clear();
  v.current = null;
  v.vmxonPointer = -1;
  v.operation = OUTSIDE;
  v.p.eventsPending = true; // INIT is unblocked
  return VM_SUCCEED;
}

export function vmclear(v: Vtx, pointer: bigint): number {
  const fault = undefinedOutside(v);
  if (fault !== VM_SUCCEED) return fault;
  const region = regionAddress(v, pointer);
  if (region < 0) return vmFail(v, VM_ERROR.VMCLEAR_ADDRESS);
  if (region === v.vmxonPointer) return vmFail(v, VM_ERROR.VMCLEAR_VMXON_POINTER);
  // all checks passed
  releaseGuest(v);
  const { memory } = v.p.machine;
  const vmcs = v.active.get(region);
  if (vmcs === undefined) {
    clearLaunchState(memory, region);
    return VM_SUCCEED;
  }
  vmcs.launched = false;
  vmcs.store(memory);
  v.active.delete(region);
  if (v.current === vmcs) v.current = null;
  return VM_SUCCEED;
}

export function vmptrld(v: Vtx, pointer: bigint): number {
  const fault = undefinedOutside(v);
  if (fault !== VM_SUCCEED) return fault;
  const region = regionAddress(v, pointer);
  if (region < 0) return vmFail(v, VM_ERROR.VMPTRLD_ADDRESS);
  if (region === v.vmxonPointer) return vmFail(v, VM_ERROR.VMPTRLD_VMXON_POINTER);
  const { memory } = v.p.machine;
  // Bit 31 (shadow VMCS) must be clear: VMCS shadowing is not offered.
  if (memory.read32(region) !== VMCS_REVISION) return vmFail(v, VM_ERROR.VMPTRLD_REVISION);
  // all checks passed
  if (v.resident !== null && v.resident.region !== region) releaseGuest(v);
  let vmcs = v.active.get(region);
  if (vmcs === undefined) {
    vmcs = new Vmcs(region);
    vmcs.load(memory);
    v.active.set(region, vmcs);
  }
  v.current = vmcs;
  return VM_SUCCEED;
}

/** What VMPTRST stores. */
export const currentPointer = (v: Vtx): bigint => (v.current === null ? NO_POINTER : BigInt(v.current.region));

/** Slot of the field that an encoding names here, or -1. */
function slotOf(v: Vtx, encoding: number): number {
  if (encoding < 0 || encoding > 0x7fff) return -1;
  const slot = v.capabilities.slotOf[encoding >> 1]!;
  return encoding & 1 && (slot < 0 || FIELDS[slot]!.width !== 64) ? -1 : slot;
}

/** perf: by slot, 1 for fields of more than 32 bits. */
const WIDE: Uint8Array = Uint8Array.from(FIELDS, ({ width }) => (width === 64 || width === 'natural' ? 1 : 0));

/** Checks of VMREAD; then the value is readField's. */
export function vmread(v: Vtx, encoding: number): number {
  if (v.operation === OUTSIDE) return FAULTED | UD;
  if (v.current === null) return VM_FAIL_INVALID;
  return slotOf(v, encoding) < 0 ? vmFail(v, VM_ERROR.UNSUPPORTED_FIELD) : VM_SUCCEED;
}

/** A field of the current VMCS by a valid encoding. */
export function readField(v: Vtx, encoding: number): bigint {
  const vmcs = v.current!;
  const slot = slotOf(v, encoding);
  if (v.saveDue && DEFERRED[slot]! & DEFERRED_READS) saveDeferred(v);
  if (encoding & 1) return BigInt(vmcs.high(slot));
  return WIDE[slot] === 1 ? vmcs.get64(slot) : BigInt(vmcs.low(slot));
}

/** VMREAD of a field's low half, without BigInt; -1 where the instruction fails. */
export function vmreadLow(v: Vtx, encoding: number): number {
  const vmcs = v.current;
  const slot = slotOf(v, encoding);
  if (v.operation === OUTSIDE || vmcs === null || slot < 0 || encoding & 1) return -1;
  if (v.saveDue && DEFERRED[slot]! & DEFERRED_READS) saveDeferred(v);
  return vmcs.low(slot);
}

/** VMWRITE with its checks; the value is cut to the field's width. */
export function vmwrite(v: Vtx, encoding: number, value: bigint | number): number {
  if (v.operation === OUTSIDE) return FAULTED | UD;
  const vmcs = v.current;
  if (vmcs === null) return VM_FAIL_INVALID;
  const slot = slotOf(v, encoding);
  if (slot < 0) return vmFail(v, VM_ERROR.UNSUPPORTED_FIELD);
  // all checks passed; exit-information fields are writable (IA32_VMX_MISC bit 29)
  if (v.saveDue && DEFERRED[slot]! & DEFERRED_WRITES) saveDeferred(v);
  vmcs.touch(slot);
  const field = FIELDS[slot]!;
  if (encoding & 1) {
    vmcs.set64(slot, BigInt.asUintN(64, BigInt(value) << 32n) | BigInt(vmcs.low(slot)));
  } else if (WIDE[slot] === 1) {
    if (typeof value === 'number' && value >= 0 && value <= 0xffff_ffff) vmcs.setNumber(slot, value);
    else vmcs.set64(slot, BigInt.asUintN(64, BigInt(value)));
  } else {
    const low = typeof value === 'number' ? value >>> 0 : Number(BigInt.asUintN(32, value));
    vmcs.setLow(slot, field.width === 16 ? low & 0xffff : low);
  }
  return VM_SUCCEED;
}

/** What VMLAUNCH and VMRESUME check before they look at the fields. */
export function launchChecks(v: Vtx, launch: boolean): number {
  if (v.operation === OUTSIDE) return FAULTED | UD;
  const vmcs = v.current;
  if (vmcs === null) return VM_FAIL_INVALID;
  if (v.p.interruptShadow & BLOCKED_BY_MOV_SS) return vmFail(v, VM_ERROR.MOV_SS_BLOCKING);
  if (launch && vmcs.launched) return vmFail(v, VM_ERROR.VMLAUNCH_NOT_CLEAR);
  if (!launch && !vmcs.launched) return vmFail(v, VM_ERROR.VMRESUME_NOT_LAUNCHED);
  return VM_SUCCEED;
}

const INVEPT_SINGLE = 1n;
const INVEPT_ALL = 2n;

/** Whether INVEPT knows the type; checked before the descriptor is read. */
export const inveptTypeValid = (type: bigint): boolean => type === INVEPT_SINGLE || type === INVEPT_ALL;

export function invept(v: Vtx, type: bigint, eptp: bigint): number {
  const fault = undefinedOutside(v);
  if (fault !== VM_SUCCEED) return fault;
  if (!inveptTypeValid(type)) return vmFail(v, VM_ERROR.INVALID_OPERAND);
  if (type === INVEPT_SINGLE && !eptPointerValid(v, eptp)) return vmFail(v, VM_ERROR.INVALID_OPERAND);
  dropEpt(v.p, Number(type), eptp);
  return VM_SUCCEED;
}

const INVVPID_ADDRESS = 0n;
const INVVPID_ALL = 2n;

export const invvpidTypeValid = (type: bigint): boolean => type <= 3n;

/** @param vpid bits 63:0 of the descriptor */
export function invvpid(v: Vtx, type: bigint, vpid: bigint, linear: bigint): number {
  const fault = undefinedOutside(v);
  if (fault !== VM_SUCCEED) return fault;
  if (!invvpidTypeValid(type) || vpid >> 16n) return vmFail(v, VM_ERROR.INVALID_OPERAND);
  if (type !== INVVPID_ALL && vpid === 0n) return vmFail(v, VM_ERROR.INVALID_OPERAND);
  if (type === INVVPID_ADDRESS && !isCanonicalIn(v.capabilities.linearAddressBits, linear))
    return vmFail(v, VM_ERROR.INVALID_OPERAND);
  dropVpid(v.p, Number(type), Number(vpid), linear);
  return VM_SUCCEED;
}
