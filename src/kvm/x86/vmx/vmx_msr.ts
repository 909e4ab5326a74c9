/**
 * MSRs that live in the VMCS or on the processor, and the MSR bitmap.
 *
 * @upstream arch/x86/kvm/vmx/vmx.c vmx_get_msr(), vmx_set_msr(), vmx_set_intercept_for_msr()
 */
import { readMsr, writeMsr } from '../../../machine/msr/msr.ts';
import { VCPU_SREG_FS, VCPU_SREG_GS, type X86Vcpu } from '../kvm_host.ts';
import { kvmGetMsrCommon, kvmSetMsrCommon } from '../msr.ts';
import { kvmMsrAllowed } from '../msr_filter.ts';
import { toVmx, type VcpuVmx, VMX_URET_MSRS, vmxReadGuestSegBase, vmxWriteGuestSegBase } from './vcpu_vmx.ts';
import {
  GUEST_IA32_DEBUGCTL,
  GUEST_IA32_PAT,
  GUEST_SYSENTER_CS,
  GUEST_SYSENTER_EIP,
  GUEST_SYSENTER_ESP,
  vmcsRead32,
  vmcsRead64,
  vmcsWrite,
} from './vmcs.ts';

const MSR_IA32_TSC = 0x10;
const MSR_IA32_SPEC_CTRL = 0x48;
const MSR_IA32_SYSENTER_CS = 0x174;
const MSR_IA32_SYSENTER_ESP = 0x175;
const MSR_IA32_SYSENTER_EIP = 0x176;
const MSR_IA32_DEBUGCTLMSR = 0x1d9;
const MSR_IA32_CR_PAT = 0x277;
const MSR_FS_BASE = 0xc000_0100;
const MSR_GS_BASE = 0xc000_0101;
export const MSR_KERNEL_GS_BASE = 0xc000_0102;
const MSR_TSC_AUX = 0xc000_0103;
const MSR_IA32_VMX_BASIC = 0x480;
const MSR_IA32_VMX_LAST = 0x493;
const DEBUGCTLMSR_BTF = 2n;
const DEBUGCTLMSR_LBR = 1n;

/** MSRs the guest reads and writes without exits. */
const PASSTHROUGH: readonly number[] = [
  MSR_FS_BASE,
  MSR_GS_BASE,
  MSR_KERNEL_GS_BASE,
  MSR_IA32_SYSENTER_CS,
  MSR_IA32_SYSENTER_ESP,
  MSR_IA32_SYSENTER_EIP,
];

/** 4 KiB: reads of 0 to 1FFF, reads of C0000000 on, writes of both; a set bit intercepts. */
export function initMsrBitmap(vmx: VcpuVmx): void {
  vmx.hw.host.machine.memory.fill(vmx.msrBitmap, 4096, 0xff);
  setIntercept(vmx, MSR_IA32_TSC, false, false);
  for (const index of PASSTHROUGH) {
    setIntercept(vmx, index, false, false);
    setIntercept(vmx, index, true, false);
  }
}

/** What user space forbids exits, so that it can be refused. */
export function vmxInterceptFilteredMsrs(vcpu: X86Vcpu): void {
  if (vcpu.kvm.arch.msrFilter === null) return;
  for (const index of [MSR_IA32_TSC, ...PASSTHROUGH]) {
    for (const write of [false, true])
      if (!kvmMsrAllowed(vcpu, index, write)) setIntercept(toVmx(vcpu), index, write, true);
  }
}

/** @upstream vmx_set_intercept_for_msr() */
export function setIntercept(vmx: VcpuVmx, index: number, write: boolean, on: boolean): void {
  const { memory } = vmx.hw.host.machine;
  const bit = index & 0x1fff;
  const at = vmx.msrBitmap + (write ? 0x800 : 0) + (index >= 0xc000_0000 ? 0x400 : 0) + (bit >>> 3);
  const old = memory.read8(at);
  memory.write8(at, on ? old | (1 << (bit & 7)) : old & ~(1 << (bit & 7)));
}

/** @upstream vmx_get_msr() */
export function vmxGetMsr(vcpu: X86Vcpu, index: number): bigint | undefined {
  const vmx = toVmx(vcpu);
  switch (index) {
    case MSR_FS_BASE:
      return vmxReadGuestSegBase(vmx, VCPU_SREG_FS);
    case MSR_GS_BASE:
      return vmxReadGuestSegBase(vmx, VCPU_SREG_GS);
    case MSR_KERNEL_GS_BASE:
      return vmxReadGuestKernelGsBase(vmx);
    case MSR_IA32_SYSENTER_CS:
      return BigInt(vmcsRead32(vmx.v, GUEST_SYSENTER_CS));
    case MSR_IA32_SYSENTER_ESP:
      return vmcsRead64(vmx.v, GUEST_SYSENTER_ESP);
    case MSR_IA32_SYSENTER_EIP:
      return vmcsRead64(vmx.v, GUEST_SYSENTER_EIP);
    case MSR_IA32_DEBUGCTLMSR:
      return vmcsRead64(vmx.v, GUEST_IA32_DEBUGCTL);
    case MSR_IA32_SPEC_CTRL:
      return vcpu.arch.specCtrl;
    case MSR_TSC_AUX:
      return vcpu.arch.tscAux;
    default: {
      const slot = VMX_URET_MSRS.indexOf(index);
      if (slot >= 0) return vmx.uretMsrs[slot];
      // No nested VMX: the capability MSRs do not exist.
      if (index >= MSR_IA32_VMX_BASIC && index <= MSR_IA32_VMX_LAST) return undefined;
      return kvmGetMsrCommon(vcpu, index);
    }
  }
}

/** @upstream vmx_set_msr() */
export function vmxSetMsr(vcpu: X86Vcpu, index: number, value: bigint, hostInitiated: boolean): boolean {
  const vmx = toVmx(vcpu);
  switch (index) {
    case MSR_FS_BASE:
      vmxWriteGuestSegBase(vmx, VCPU_SREG_FS, value);
      return true;
    case MSR_GS_BASE:
      vmxWriteGuestSegBase(vmx, VCPU_SREG_GS, value);
      return true;
    case MSR_KERNEL_GS_BASE:
      vmxWriteGuestKernelGsBase(vmx, value);
      return true;
    case MSR_IA32_SYSENTER_CS:
      vmcsWrite(vmx.v, GUEST_SYSENTER_CS, Number(value & 0xffff_ffffn));
      return true;
    case MSR_IA32_SYSENTER_ESP:
      vmcsWrite(vmx.v, GUEST_SYSENTER_ESP, value);
      return true;
    case MSR_IA32_SYSENTER_EIP:
      vmcsWrite(vmx.v, GUEST_SYSENTER_EIP, value);
      return true;
    case MSR_IA32_DEBUGCTLMSR: {
      // LBR and BTF are not offered; upstream ignores them with a message.
      const kept = value & ~(DEBUGCTLMSR_BTF | DEBUGCTLMSR_LBR);
      if (kept !== 0n) return false;
      vmcsWrite(vmx.v, GUEST_IA32_DEBUGCTL, kept);
      return true;
    }
    case MSR_IA32_SPEC_CTRL:
      if (value & ~0x407n) return false;
      vcpu.arch.specCtrl = value;
      return true;
    case MSR_IA32_CR_PAT:
      if (!kvmSetMsrCommon(vcpu, index, value, hostInitiated)) return false;
      vmcsWrite(vmx.v, GUEST_IA32_PAT, value);
      return true;
    case MSR_TSC_AUX:
      if (value >> 32n) return false;
      vcpu.arch.tscAux = value;
      vmx.uretDirty = true;
      return true;
    default: {
      const slot = VMX_URET_MSRS.indexOf(index);
      if (slot < 0) return kvmSetMsrCommon(vcpu, index, value, hostInitiated);
      vmx.uretMsrs[slot] = value;
      vmx.uretDirty = true;
      return true;
    }
  }
}

/** The guest's value, wherever it is now. @upstream vmx_read_guest_kernel_gs_base() */
function vmxReadGuestKernelGsBase(vmx: VcpuVmx): bigint {
  if (vmx.guestStateLoaded) vmx.msrGuestKernelGsBase = readMsr(vmx.p, MSR_KERNEL_GS_BASE) ?? vmx.msrGuestKernelGsBase;
  return vmx.msrGuestKernelGsBase;
}
function vmxWriteGuestKernelGsBase(vmx: VcpuVmx, value: bigint): void {
  if (vmx.guestStateLoaded) writeMsr(vmx.p, MSR_KERNEL_GS_BASE, value);
  vmx.msrGuestKernelGsBase = value;
}

/** Guest MSRs go to the processor. @upstream vmx_prepare_switch_to_guest() */
export function vmxPrepareSwitchToGuest(vcpu: X86Vcpu): void {
  const vmx = toVmx(vcpu);
  if (vmx.uretDirty) {
    vmx.uretDirty = false;
    for (let i = 0; i < VMX_URET_MSRS.length; i++) writeMsr(vmx.p, VMX_URET_MSRS[i]!, vmx.uretMsrs[i]!);
    vmx.p.tscAux = Number(vcpu.arch.tscAux);
  }
  if (vmx.guestStateLoaded) return;
  writeMsr(vmx.p, MSR_KERNEL_GS_BASE, vmx.msrGuestKernelGsBase);
  vmx.guestStateLoaded = true;
}

/** And back. The host kernel has no use of its own for them, so nothing is restored. @upstream vmx_prepare_switch_to_host() */
export function vmxPrepareSwitchToHost(vmx: VcpuVmx): void {
  if (!vmx.guestStateLoaded) return;
  vmx.msrGuestKernelGsBase = readMsr(vmx.p, MSR_KERNEL_GS_BASE) ?? 0n;
  vmx.guestStateLoaded = false;
  // Another vCPU may load its own values before this one runs again.
  vmx.uretDirty = true;
}
