/**
 * TLB tracking: how the module knows that no processor can still use a translation that was blocked.
 *
 * A TD's epoch is a counter. A virtual processor notes it when it enters, after dropping its stale translations, and is
 * counted in the reference count of that epoch's parity until it exits. TDH.MEM.TRACK begins a new epoch once nobody is
 * left from the one before. A page blocked in epoch e is safe as soon as everybody who entered in epoch e or earlier
 * has exited.
 *
 * @tdx "TLB Tracking"
 */
import { OPERAND, STATUS, status } from '../status.ts';
import type { Call } from './call.ts';
import { tlbTrackingRequired } from './op-state.ts';
import type { PamtEntry } from './pamt.ts';
import { reportEntry, type SeptOperand } from './sept-operand.ts';
import type { Tdcs } from './tdcs.ts';

const parity = (epoch: bigint): 0 | 1 => ((epoch & 1n) === 0n ? 0 : 1);

const inside = (tdcs: Tdcs, epoch: bigint): number => tdcs.num('REFCOUNT', parity(epoch));

/** Whether nobody can hold a translation of something blocked in epoch `blockEpoch`. */
export function isTracked(tdcs: Tdcs, blockEpoch: bigint): boolean {
  const previous = tdcs.get('TD_EPOCH') - 1n;
  return blockEpoch < previous || (blockEpoch === previous && inside(tdcs, previous) === 0);
}

/** TDH.MEM.TRACK: begins the next epoch; false if somebody is left from the previous one. */
export function advanceEpoch(tdcs: Tdcs): boolean {
  const epoch = tdcs.get('TD_EPOCH');
  if (inside(tdcs, epoch - 1n) !== 0) return false;
  tdcs.set('TD_EPOCH', epoch + 1n);
  return true;
}

/**
 * SUCCESS if no processor can use the translation of an entry, so that what it refers to may go. While the TD may run,
 * that needs the entry blocked, and tracked since.
 * @param page the PAMT entry that has the epoch of the blocking
 */
export function checkTracking(call: Call, tdcs: Tdcs, operand: SeptOperand, page: PamtEntry): bigint {
  if (!operand.state.trackingRequired || !tlbTrackingRequired(tdcs.opState)) return status(STATUS.SUCCESS);
  if (!operand.state.blocked) {
    reportEntry(call, operand.entry, operand.level);
    return status(STATUS.GPA_RANGE_NOT_BLOCKED, OPERAND.RCX);
  }
  return isTracked(tdcs, page.bepoch) ? status(STATUS.SUCCESS) : status(STATUS.TLB_TRACKING_NOT_DONE, OPERAND.RCX);
}
