/**
 * Checks of VM entry on the guest's segment and descriptor-table registers.
 * @sdm "Checks on Guest Segment Registers", "Checks on Guest Descriptor-Table Registers"
 */
import { AR_DB, AR_G, AR_L, AR_P, AR_S, AR_UNUSABLE, CR0_PE, dplOf, FLAG_VM } from '../processor.ts';
import { ENTRY_CONTROL } from './controls.ts';
import { F } from './field-slots.ts';
import { isCanonicalField } from './value-checks.ts';
import type { Vmcs } from './vmcs.ts';
import type { Vtx } from './vtx.ts';

/** Positions in the guest segment fields. */
const ES = 0;
const CS = 1;
const SS = 2;
const DS = 3;
const FS = 4;
const GS = 5;
const LDTR = 6;
const TR = 7;

const RPL = 3;
const TI = 4;
const AR_RESERVED = 0xfffe_0f00;
const V86_RIGHTS = 0xf3;
const ACCESSED = 1;
const CODE = 8;
const READABLE = 2;
const TSS16_BUSY = 3;
const TSS_BUSY = 11;
const LDT = 2;

const selectorOf = (vmcs: Vmcs, n: number): number => vmcs.low(F.GUEST_ES_SELECTOR + n);
const rightsOf = (vmcs: Vmcs, n: number): number => vmcs.low(F.GUEST_ES_ACCESS_RIGHTS + n);
const usable = (rights: number): boolean => (rights & AR_UNUSABLE) === 0;

/** The limit's low and high bits agree with G. */
function granularityValid(vmcs: Vmcs, n: number, rights: number): boolean {
  const limit = vmcs.low(F.GUEST_ES_LIMIT + n);
  return rights & AR_G ? (limit & 0xfff) === 0xfff : limit <= 0xf_ffff;
}

function basesValid(v: Vtx, vmcs: Vmcs): boolean {
  if (!isCanonicalField(v, vmcs, F.GUEST_FS_BASE) || !isCanonicalField(v, vmcs, F.GUEST_GS_BASE)) return false;
  if (!isCanonicalField(v, vmcs, F.GUEST_TR_BASE)) return false;
  if (usable(rightsOf(vmcs, LDTR)) && !isCanonicalField(v, vmcs, F.GUEST_LDTR_BASE)) return false;
  if (vmcs.high(F.GUEST_CS_BASE) !== 0) return false;
  for (const n of [SS, DS, ES]) if (usable(rightsOf(vmcs, n)) && vmcs.high(F.GUEST_ES_BASE + n) !== 0) return false;
  return true;
}

function v86Valid(vmcs: Vmcs): boolean {
  for (let n = ES; n <= GS; n++) {
    const base = F.GUEST_ES_BASE + n;
    if (vmcs.high(base) !== 0 || vmcs.low(base) !== selectorOf(vmcs, n) << 4) return false;
    if (vmcs.low(F.GUEST_ES_LIMIT + n) !== 0xffff || rightsOf(vmcs, n) !== V86_RIGHTS) return false;
  }
  return true;
}

function codeValid(vmcs: Vmcs, unrestricted: boolean, long: boolean): boolean {
  const rights = rightsOf(vmcs, CS);
  const type = rights & 15;
  const dpl = dplOf(rights);
  const stackDpl = dplOf(rightsOf(vmcs, SS));
  if (type === 3) {
    if (!unrestricted || dpl !== 0) return false;
  } else if (type === 9 || type === 11) {
    if (dpl !== stackDpl) return false;
  } else if (type === 13 || type === 15) {
    if (dpl > stackDpl) return false;
  } else return false;
  if (!(rights & AR_S) || !(rights & AR_P) || rights & AR_RESERVED) return false;
  if (long && rights & AR_L && rights & AR_DB) return false;
  return granularityValid(vmcs, CS, rights);
}

function stackValid(vmcs: Vmcs, unrestricted: boolean): boolean {
  const rights = rightsOf(vmcs, SS);
  const dpl = dplOf(rights);
  if (!unrestricted) {
    if (dpl !== (selectorOf(vmcs, SS) & RPL) || (selectorOf(vmcs, SS) & RPL) !== (selectorOf(vmcs, CS) & RPL))
      return false;
  }
  const codeType = rightsOf(vmcs, CS) & 15;
  if ((codeType === 3 || !(vmcs.low(F.GUEST_CR0) & CR0_PE)) && dpl !== 0) return false;
  if (!usable(rights)) return true;
  const type = rights & 15;
  return (type === 3 || type === 7) && presentValid(vmcs, SS, rights);
}

/** S, P, reserved bits and G of a usable code or data segment. */
const presentValid = (vmcs: Vmcs, n: number, rights: number): boolean =>
  (rights & (AR_S | AR_P)) === (AR_S | AR_P) && (rights & AR_RESERVED) === 0 && granularityValid(vmcs, n, rights);

function dataValid(vmcs: Vmcs, n: number, unrestricted: boolean): boolean {
  const rights = rightsOf(vmcs, n);
  if (!usable(rights)) return true;
  const type = rights & 15;
  if (!(type & ACCESSED) || (type & (CODE | READABLE)) === CODE) return false;
  if (!unrestricted && type <= 11 && dplOf(rights) < (selectorOf(vmcs, n) & RPL)) return false;
  return presentValid(vmcs, n, rights);
}

function taskValid(vmcs: Vmcs, long: boolean): boolean {
  const rights = rightsOf(vmcs, TR);
  const type = rights & 15;
  if (selectorOf(vmcs, TR) & TI || !usable(rights)) return false;
  if (type !== TSS_BUSY && (long || type !== TSS16_BUSY)) return false;
  return (rights & (AR_S | AR_P)) === AR_P && (rights & AR_RESERVED) === 0 && granularityValid(vmcs, TR, rights);
}

function localTableValid(vmcs: Vmcs): boolean {
  const rights = rightsOf(vmcs, LDTR);
  if (!usable(rights)) return true;
  if (selectorOf(vmcs, LDTR) & TI || (rights & 15) !== LDT) return false;
  return (rights & (AR_S | AR_P)) === AR_P && (rights & AR_RESERVED) === 0 && granularityValid(vmcs, LDTR, rights);
}

/** All segment registers. */
export function segmentsValid(v: Vtx, vmcs: Vmcs, unrestricted: boolean): boolean {
  const long = (vmcs.low(F.ENTRY_CONTROLS) & ENTRY_CONTROL.IA32E_GUEST) !== 0;
  if (!basesValid(v, vmcs) || !taskValid(vmcs, long) || !localTableValid(vmcs)) return false;
  if (vmcs.low(F.GUEST_RFLAGS) & FLAG_VM) return v86Valid(vmcs);
  if (!codeValid(vmcs, unrestricted, long) || !stackValid(vmcs, unrestricted)) return false;
  for (const n of [ES, DS, FS, GS]) if (!dataValid(vmcs, n, unrestricted)) return false;
  return true;
}

/** GDTR and IDTR. */
export const descriptorTablesValid = (v: Vtx, vmcs: Vmcs): boolean =>
  isCanonicalField(v, vmcs, F.GUEST_GDTR_BASE) &&
  isCanonicalField(v, vmcs, F.GUEST_IDTR_BASE) &&
  vmcs.low(F.GUEST_GDTR_LIMIT) <= 0xffff &&
  vmcs.low(F.GUEST_IDTR_LIMIT) <= 0xffff;
