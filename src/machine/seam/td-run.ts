/**
 * SEAM VMX non-root operation: running a TD from its VMCS.
 *
 * The module owns the VMCS; it is never current for VMREAD and VMWRITE, and its exits come back to the module.
 * @tdx "SEAM VMX Non-Root Operation"
 */
import { invept } from '../mmu/tlb.ts';
import type { Processor } from '../processor.ts';
import { enter } from '../vtx/entry.ts';
import { F } from '../vtx/field-slots.ts';
import { ROOT, VM_SUCCEED } from '../vtx/operation.ts';
import type { Vmcs } from '../vtx/vmcs.ts';
import { saveRootState } from './root-state.ts';

/**
 * Enters the TD of a VMCS and returns after its exit. Exit information and guest state are in the VMCS then, the TD's
 * GPRs but RSP in the processor's, and everything else of the processor that VM entries and exits switch is as before.
 *
 * @returns VM_SUCCEED; or the VMfail result, with the error number in the VMCS: controls or host area are not valid. An
 *   entry that fails later is an exit with bit 31 of the exit reason
 */
export function runTd(p: Processor, vmcs: Vmcs): number {
  const v = p.vtx;
  if (v.operation !== ROOT || v.tdGuest) throw new Error('a TD is entered from SEAM root operation');
  const { current, launchedByMethod } = v;
  const root = saveRootState(p);
  root.fillHostArea(vmcs);
  v.current = vmcs;
  v.selectSeam(vmcs.low(F.TD_HKID));
  const entered = enter(v, true, true);
  if (entered === VM_SUCCEED && v.nonRoot) p.machine.runNonRoot(p);
  v.selectSeam(0);
  v.current = current;
  v.launchedByMethod = launchedByMethod;
  root.restore(p);
  return entered;
}

const SINGLE_CONTEXT = 1;

/** Drops what the processor has cached of a TD's translations, private and shared: INVEPT by the module. */
export function flushTd(p: Processor, vmcs: Vmcs): void {
  invept(p, SINGLE_CONTEXT, vmcs.get64(F.EPT_POINTER));
}
