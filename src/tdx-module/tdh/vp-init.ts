/** TDH.VP.INIT: the initial state of a virtual processor. */
import type { Call, HostLeaf } from '../objects/call.ts';
import { associateInitially, lockTdvpr, operandInvalid, tdInState } from '../objects/checks.ts';
import { TDVPS_BASE_PAGES, VCPU_STATE } from '../objects/tdvps.ts';
import { OPERAND, STATUS, status } from '../status.ts';
import { initVcpuState } from '../virtualization/vcpu-state.ts';

const IA32_TSC_ADJUST = 0x3b;

/**
 * RCX TDVPR, RDX what RCX and R8 of the virtual processor begin with; version 1: R8 its x2APIC id.
 * @tdx "TDH.VP.INIT Leaf"
 */
export const tdhVpInit: HostLeaf = { number: 22, name: 'TDH.VP.INIT', versions: [0, 1], run };

function run(call: Call): bigint {
  const { module, p, version } = call;
  if (module.platform.msr(p, IA32_TSC_ADJUST) !== module.system.tscAdjust) {
    return status(STATUS.INCONSISTENT_MSR, IA32_TSC_ADJUST);
  }
  const tdvps = lockTdvpr(call, call.rcx, OPERAND.RCX, 'exclusive', version > 0 ? 'exclusive' : 'shared');
  if (typeof tdvps === 'bigint') return tdvps;
  const tdcs = tdInState(call, tdvps.tdr);
  if (typeof tdcs === 'bigint') return tdcs;
  if (tdvps.num('NUM_TDVPS_PAGES') < TDVPS_BASE_PAGES) return status(STATUS.TDCX_NUM_INCORRECT);
  if (tdvps.state !== VCPU_STATE.UNINITIALIZED) return status(STATUS.VCPU_STATE_INCORRECT, tdvps.state);
  const index = tdcs.num('NUM_VCPUS');
  if (index >= tdcs.num('MAX_VCPUS')) return status(STATUS.MAX_VCPUS_EXCEEDED);
  if (version > 0) {
    if (call.r8 >> 32n !== 0n) return operandInvalid(OPERAND.R8);
    const id = Number(call.r8);
    // One that version 0 initialised has 0.
    for (let i = 0; i < index; i++) {
      if (tdcs.num('X2APIC_IDS', i) === id) return status(STATUS.X2APIC_ID_NOT_UNIQUE, id);
    }
  }

  // all checks passed
  tdcs.set('NUM_VCPUS', index + 1);
  tdvps.set('VCPU_INDEX', index);
  if (version > 0) tdcs.set('X2APIC_IDS', call.r8, index);
  else tdcs.set('TOPOLOGY_ENUM_CONFIGURED', 0);
  tdvps.set('LAST_EXIT_TSC', module.platform.tsc(p));
  initVcpuState(tdcs, tdvps, p, call.rdx);
  tdvps.set('VCPU_STATE', VCPU_STATE.READY);
  associateInitially(tdvps, p.index);
  return status(STATUS.SUCCESS);
}
