/**
 * SEAM VMX non-root operation: running a TD from its VMCS.
 *
 * The module owns the VMCS; it is never current for VMREAD and VMWRITE, and its exits come back to the module.
 * @tdx "SEAM VMX Non-Root Operation"
 */
import { invept } from '../mmu/tlb.ts';
import type { Processor } from '../processor.ts';
import { enter } from '../vtx/entry.ts';
import { leaveGuest } from '../vtx/exit.ts';
import { F } from '../vtx/field-slots.ts';
import { ROOT, VM_SUCCEED } from '../vtx/operation.ts';
import type { Vmcs } from '../vtx/vmcs.ts';
import { type RootState, saveRootState } from './root-state.ts';

/**
 * A TD that is entered again and again. While it lasts, exits leave the TD's state in the processor: perf, most exits are
 * the module's own, and it needs nothing of the root software's state to answer them.
 */
export class TdRun {
  readonly #p: Processor;
  readonly #vmcs: Vmcs;
  readonly #root: RootState;
  readonly #current: Vmcs | null;
  readonly #launchedByMethod: boolean;

  /** Keeps the root software's state, until end(). */
  constructor(p: Processor, vmcs: Vmcs) {
    const v = p.vtx;
    if (v.operation !== ROOT || v.tdGuest || v.keepsGuest) throw new Error('a TD is entered from SEAM root operation');
    this.#p = p;
    this.#vmcs = vmcs;
    this.#current = v.current;
    this.#launchedByMethod = v.launchedByMethod;
    this.#root = saveRootState(p);
    this.#root.fillHostArea(vmcs);
    v.keepsGuest = true;
  }

  /**
   * Enters the TD and returns after its exit. Exit information and guest state are in the VMCS then, the TD's GPRs but RSP
   * in the processor's.
   *
   * @returns VM_SUCCEED; or the VMfail result, with the error number in the VMCS: controls or host area are not valid. An
   *   entry that fails later is an exit with bit 31 of the exit reason
   */
  enter(): number {
    const p = this.#p;
    const v = p.vtx;
    v.current = this.#vmcs;
    v.selectSeam(this.#vmcs.low(F.TD_HKID));
    const entered = enter(v, true, true);
    if (entered === VM_SUCCEED && v.nonRoot) p.machine.runNonRoot(p);
    v.selectSeam(0);
    return entered;
  }

  /** Everything of the processor that VM entries and exits switch is as before. */
  end(): void {
    const v = this.#p.vtx;
    v.keepsGuest = false;
    leaveGuest(v);
    v.current = this.#current;
    v.launchedByMethod = this.#launchedByMethod;
    this.#root.restore(this.#p);
  }
}

/** Enters the TD of a VMCS once. @returns as {@link TdRun.enter} */
export function runTd(p: Processor, vmcs: Vmcs): number {
  const td = new TdRun(p, vmcs);
  const entered = td.enter();
  td.end();
  return entered;
}

const SINGLE_CONTEXT = 1;

/** Drops what the processor has cached of a TD's translations, private and shared: INVEPT by the module. */
export function flushTd(p: Processor, vmcs: Vmcs): void {
  invept(p, SINGLE_CONTEXT, vmcs.get64(F.EPT_POINTER));
}
