/**
 * What each backend must offer to main.ts, by upstream's names.
 *
 * @upstream arch/x86/kvm/vmx/x86_ops.h
 */
import type { Errno } from '../../../host/errno.ts';
import type { Host } from '../../../host/host.ts';
import type { X86Vcpu, X86Vm } from '../kvm_host.ts';

/** Operations of the VMX backend that main.ts wraps and a TD does differently, with its life cycle. */
export interface VmxBackend {
  vmxInitEarly(host: Host): Errno;
  vmxExit(host: Host): void;
  vmxHardwareSetup(host: Host): Errno;
  vmxHardwareUnsetup(host: Host): void;
  vmxVmInit(kvm: X86Vm): Errno;
  vmxVcpuCreate(vcpu: X86Vcpu): Errno;
  vmxVcpuFree(vcpu: X86Vcpu): void;
  vmxVcpuReset(vcpu: X86Vcpu, initEvent: boolean): void;
}

/** Operations of the TDX backend. */
export interface TdxBackend {
  tdxBringup(host: Host): Errno;
  tdxCleanup(host: Host): void;
}
