/**
 * Events around VM exits of a TD: what an exit interrupted is delivered again, and NMIs that the host asked for.
 *
 * @tdx "TD VCPU", Interrupt Handling and APIC Virtualization, NMI
 */
import { NMI } from '../../machine/outcome.ts';
import { PRIMARY } from '../../machine/vtx/controls.ts';
import { F } from '../../machine/vtx/field-slots.ts';
import { EVENT, INFO_ERROR_CODE, INFO_VALID } from '../../machine/vtx/reasons.ts';
import type { Vmcs } from '../../machine/vtx/vmcs.ts';
import type { Tdvps } from '../objects/tdvps.ts';
import type { Guest } from './guest.ts';
import { veInfoPending } from './inject-ve.ts';

const BLOCKED_BY_NMI = 8;
/** Interruption information that may be injected again: vector, type, error code valid, valid. */
const REINJECTED = 0x8000_0fff;

const typeOf = (info: number): number => (info >>> 8) & 7;

/** The event whose delivery the exit interrupted comes again at the next entry, unless something else is injected. */
export function redeliver(vmcs: Vmcs): void {
  const vectoring = vmcs.low(F.IDT_VECTORING_INFO);
  if (!(vectoring & INFO_VALID) || vmcs.low(F.ENTRY_INTERRUPTION_INFO) & INFO_VALID) return;
  vmcs.setLow(F.ENTRY_INTERRUPTION_INFO, (vectoring & REINJECTED) >>> 0);
  if (vectoring & INFO_ERROR_CODE) vmcs.setLow(F.ENTRY_EXCEPTION_ERROR_CODE, vmcs.low(F.IDT_VECTORING_ERROR_CODE));
  vmcs.setLow(F.ENTRY_INSTRUCTION_LENGTH, vmcs.low(F.EXIT_INSTRUCTION_LENGTH));
  if (typeOf(vectoring) === EVENT.NMI) {
    vmcs.setLow(F.GUEST_INTERRUPTIBILITY, vmcs.low(F.GUEST_INTERRUPTIBILITY) & ~BLOCKED_BY_NMI);
  }
}

function setNmiWindow(vmcs: Vmcs, on: boolean): void {
  const primary = vmcs.low(F.PRIMARY_CONTROLS);
  const wanted = (on ? primary | PRIMARY.NMI_WINDOW : primary & ~PRIMARY.NMI_WINDOW) >>> 0;
  if (wanted === primary) return;
  vmcs.setLow(F.PRIMARY_CONTROLS, wanted);
  vmcs.touch(F.PRIMARY_CONTROLS);
}

/** Before an entry: with PEND_NMI the TD exits as soon as it can take an NMI. */
export function openNmiWindow(tdvps: Tdvps): void {
  setNmiWindow(tdvps.vmcs, tdvps.num('PEND_NMI') !== 0);
}

/** The TD can take an NMI. While the TD has a #VE to handle it waits. */
export function nmiWindowExit(guest: Guest): void {
  const { tdvps, vmcs } = guest;
  setNmiWindow(vmcs, false);
  if (tdvps.num('PEND_NMI') === 0 || veInfoPending(guest)) return;
  guest.inject(EVENT.NMI, NMI);
  tdvps.set('PEND_NMI', 0);
}
