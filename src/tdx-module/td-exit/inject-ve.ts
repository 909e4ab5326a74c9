/**
 * Virtualization exceptions that the module makes: the TD learns why its instruction did not run and asks the host for it.
 *
 * @tdx "Virtualization Exception (#VE)", #VE Injected by the TDX Module
 */
import { DF, VE } from '../../machine/outcome.ts';
import { F } from '../../machine/vtx/field-slots.ts';
import { trace } from '../../util/trace.ts';
import type { Guest } from './guest.ts';

/** VE_INFO.VALID of information that the TD has not read yet. */
export const VE_INFO_VALID = 0xffff_ffff;

/** Whether the TD still has to read what its last #VE was. */
export const veInfoPending = ({ tdvps }: Guest): boolean => tdvps.num('VALID') !== 0;

/** What the TD is told: of an exit of the processor's own, its reason and qualification; addresses have EPT violations alone. */
export interface VeInfo {
  readonly reason?: number;
  readonly qualification?: bigint;
  readonly linear?: bigint;
  readonly gpa?: bigint;
}

/** Injects #VE, or #DF if the TD has not read what the last one was. */
export function injectVe(guest: Guest, info: VeInfo = {}): void {
  const { tdvps, vmcs } = guest;
  const { reason = guest.reason, qualification = guest.qualification, linear = 0n, gpa = 0n } = info;
  if (veInfoPending(guest)) {
    guest.injectFault(DF, 0);
    return;
  }
  tdvps.set('EXIT_REASON', reason);
  tdvps.set('EXIT_QUALIFICATION', qualification);
  tdvps.set('GLA', linear);
  tdvps.set('GPA', gpa);
  tdvps.set('EPTP_INDEX', vmcs.low(F.EPTP_INDEX));
  tdvps.set('INSTRUCTION_LENGTH', vmcs.low(F.EXIT_INSTRUCTION_LENGTH));
  tdvps.set('INSTRUCTION_INFORMATION', vmcs.low(F.EXIT_INSTRUCTION_INFO));
  tdvps.set('VALID', VE_INFO_VALID);
  trace.tdx_ve?.(reason, gpa, qualification);
  guest.injectFault(VE);
}
