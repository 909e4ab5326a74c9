/** A vCPU's whole state as plain values. */

import type { VmmKvm, VmmVcpu } from './kvm-api.ts';

/** Everything that decides how the vCPU goes on, in a fixed order. */
export function vcpuState(kvm: VmmKvm, vcpu: VmmVcpu): unknown {
  return [
    vcpu.getMpState(),
    vcpu.getRegs(),
    vcpu.getSregs(),
    vcpu.getXsave(),
    vcpu.getXcrs(),
    vcpu.getDebugregs(),
    vcpu.getVcpuEvents(),
    vcpu.getLapic(),
    vcpu.getMsrs(kvm.getMsrIndexList()),
  ];
}
