/** MSR areas of VM entry and exit: entries of 16 bytes {index, reserved 0, value}. @sdm "Loading MSRs", "Saving MSRs" */
import { readMsr, writeMsr } from '../msr/msr.ts';
import { F } from './field-slots.ts';
import type { Vmcs } from './vmcs.ts';
import type { Vtx } from './vtx.ts';

const ENTRY_BYTES = 16;
const FS_BASE = 0xc000_0100;
const GS_BASE = 0xc000_0101;
const EFER = 0xc000_0080;
const EFER_LMA = 0x400n;

/** x2APIC registers, and the bases that the guest- and host-state areas hold. */
const isExcluded = (index: number): boolean => index >>> 8 === 8;

/** Loads a list; 0, or the 1-based position of the entry that fails. */
export function loadMsrs(v: Vtx, vmcs: Vmcs, addressSlot: number, countSlot: number): number {
  const count = vmcs.low(countSlot);
  if (count === 0) return 0;
  const { p, memory } = v;
  let at = vmcs.address(addressSlot);
  for (let i = 1; i <= count; i++, at += ENTRY_BYTES) {
    const index = memory.read32(at);
    if (index === FS_BASE || index === GS_BASE || isExcluded(index) || memory.read32(at + 4) !== 0) return i;
    const value = memory.read64(at + 8);
    // A write of LMA is ignored; a change of LME with paging on fails in writeMsr.
    if (!writeMsr(p, index, index === EFER ? (value & ~EFER_LMA) | (BigInt(p.efer) & EFER_LMA) : value)) return i;
  }
  return 0;
}

/** Saves the exit MSR-store list; false where an entry fails. */
export function storeMsrs(v: Vtx, vmcs: Vmcs): boolean {
  const count = vmcs.low(F.EXIT_MSR_STORE_COUNT);
  if (count === 0) return true;
  const { memory } = v;
  let at = vmcs.address(F.EXIT_MSR_STORE_ADDRESS);
  for (let i = 0; i < count; i++, at += ENTRY_BYTES) {
    const index = memory.read32(at);
    const value = isExcluded(index) || memory.read32(at + 4) !== 0 ? undefined : readMsr(v.p, index);
    if (value === undefined) return false;
    memory.write64(at + 8, value);
  }
  return true;
}
