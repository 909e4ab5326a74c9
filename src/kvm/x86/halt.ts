/** HLT, MONITOR and MWAIT. @upstream arch/x86/kvm/x86.c kvm_emulate_halt(), kvm_emulate_monitor_mwait() */
import { EXIT_HLT } from '../virt/kvm_run.ts';
import { kvmQueueException, UD_VECTOR } from './event_queue.ts';
import { lapicInKernel } from './irqchip_mode.ts';
import { KVM_MP_STATE_HALTED, type X86Vcpu } from './kvm_host.ts';
import { kvmSkipEmulatedInstruction } from './skip.ts';

/** KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS */
const QUIRK_MWAIT_NEVER_UD_FAULTS = 1n << 6n;

/** Blocks the vCPU in the kernel if its APIC is there, else exits. @upstream __kvm_emulate_halt() */
export function kvmEmulateHaltNoskip(vcpu: X86Vcpu): number {
  vcpu.stat.halt_exits++;
  if (lapicInKernel(vcpu)) {
    vcpu.arch.mpState = KVM_MP_STATE_HALTED;
    return 1;
  }
  vcpu.run.setPlainExit(EXIT_HLT);
  return 0;
}

/** Exit reason HLT. */
export function kvmEmulateHalt(vcpu: X86Vcpu): number {
  const skipped = kvmSkipEmulatedInstruction(vcpu);
  return kvmEmulateHaltNoskip(vcpu) && skipped;
}

function monitorOrMwait(vcpu: X86Vcpu): number {
  if (vcpu.kvm.arch.disabledQuirks & QUIRK_MWAIT_NEVER_UD_FAULTS) {
    kvmQueueException(vcpu, UD_VECTOR);
    return 1;
  }
  return kvmSkipEmulatedInstruction(vcpu);
}

/** As NOP: the guest was not offered it. */
export const kvmEmulateMonitor = (vcpu: X86Vcpu): number => monitorOrMwait(vcpu);
/** As NOP that lets others run. */
export function kvmEmulateMwait(vcpu: X86Vcpu): number {
  vcpu.task.needResched = true;
  return monitorOrMwait(vcpu);
}
