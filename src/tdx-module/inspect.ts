/** What only whoever emulates the module can see of a TD: for state hashes. */
import { FIELDS } from '../machine/vtx/fields.ts';
import type { Hpa } from '../util/address.ts';
import type { TdxModule } from './module.ts';
import { type Tdvps, VMCS_PAGE } from './objects/tdvps.ts';
import { PAGE } from './platform.ts';

const GUEST_STATE: readonly number[] = FIELDS.flatMap(({ type }, slot) => (type === 'guest' ? [slot] : []));

/** Registers, MSRs, virtual APIC and extended state, from the pages; the rest from the VMCS, which may be on the heap. */
function vcpuState(tdvps: Tdvps): unknown {
  const { keyed } = tdvps.tdr.module.platform;
  const pages = tdvps.pages.filter((_, i) => i !== VMCS_PAGE);
  return [
    GUEST_STATE.map((slot) => tdvps.vmcs.get64(slot)),
    pages.map((page) => keyed.readBytes(page, keyed.ownerOf(page), PAGE)),
  ];
}

/** The state of a TD's virtual processors, in their order: plain values. */
export const vcpuStates = (module: TdxModule, tdr: Hpa): unknown[] =>
  [...module.tdvpsesOf(tdr)].sort((a, b) => a.index - b.index).map(vcpuState);
