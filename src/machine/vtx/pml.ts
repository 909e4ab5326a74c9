/** Page-modification logging. @sdm "Page-Modification Logging" */
import type { Gpa } from '../../util/address.ts';
import { RF_KEEP, RF_SET } from './exit-info.ts';
import { F } from './field-slots.ts';
import { INFO_NMI_UNBLOCKED, REASON } from './reasons.ts';
import type { Vtx } from './vtx.ts';

/** The log has 512 entries; an index above 511 means it is full. */
const LAST_INDEX = 511;

/** Records the log-full exit if there is no room for another entry. */
export function pmlFullExits(v: Vtx): boolean {
  if (v.current!.low(F.PML_INDEX) <= LAST_INDEX) return false;
  const active = v.p.delivering !== null;
  const unblocked = v.nmiUnblockedByIret && !active ? BigInt(INFO_NMI_UNBLOCKED) : 0n;
  v.record(REASON.PML_FULL, unblocked, active ? RF_KEEP : RF_SET);
  return true;
}

/** Adds a page to the log. */
export function logDirtyPage(v: Vtx, gpa: Gpa): void {
  const vmcs = v.current!;
  const index = vmcs.low(F.PML_INDEX);
  v.memory.write64(vmcs.address(F.PML_ADDRESS) + index * 8, BigInt(gpa) & ~0xfffn);
  vmcs.setLow(F.PML_INDEX, (index - 1) & 0xffff);
}
