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

/** Addresses that only EPT violations have. */
export interface VeAddresses {
  readonly linear?: bigint;
  readonly gpa?: bigint;
}

/** Injects #VE with this exit's reason, or #DF if the TD has not read the last one's. */
export function injectVe(guest: Guest, { linear = 0n, gpa = 0n }: VeAddresses = {}): void {
  const { tdvps, vmcs, reason, qualification } = guest;
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
