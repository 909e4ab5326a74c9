/** KVM: loading it, and its API. */
export { Kvm, Vcpu, Vm } from './api.ts';
export type { VcpuExit } from './virt/kvm_run.ts';
export { vtExit, vtInit } from './x86/vmx/main.ts';
