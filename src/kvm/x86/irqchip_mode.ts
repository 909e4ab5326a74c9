/** Which interrupt controllers are in the kernel. @upstream arch/x86/kvm/irq.h, lapic.h */
import type { X86Vcpu, X86Vm } from './kvm_host.ts';
import { kvmGetApicBase } from './lapic.ts';

/** PIC and IOAPIC are in the kernel. @upstream irqchip_kernel() */
export const irqchipKernel = (kvm: X86Vm): boolean => kvm.arch.irqchipMode === 'kernel';
/** Local APICs are in the kernel. @upstream irqchip_in_kernel() */
export const irqchipInKernel = (kvm: X86Vm): boolean => kvm.arch.irqchipMode !== 'none';
/** @upstream lapic_in_kernel() */
export const lapicInKernel = (vcpu: X86Vcpu): boolean => vcpu.arch.apic !== null;
/** IA32_APIC_BASE, wherever the APIC is. */
export const kvmApicBase = (vcpu: X86Vcpu): bigint =>
  vcpu.arch.apic === null ? vcpu.arch.apicBase : kvmGetApicBase(vcpu);
