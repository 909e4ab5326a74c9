/**
 * The interrupt a vCPU takes next, and the ioctls of in-kernel interrupt controllers.
 *
 * @upstream arch/x86/kvm/irq.c, x86.c
 */
import { EBUSY, EEXIST, EINVAL, ENOENT, ENOTTY, ENXIO, type Errno } from '../../host/errno.ts';
import { KVM_IRQFD_FLAG_RESAMPLE, type KvmIrqfdArgs, kvmIrqfd } from '../virt/eventfd.ts';
import { KVM_MAX_IRQ_ROUTES, KVM_USERSPACE_IRQ_SOURCE_ID, kvmSetIrq } from '../virt/irqchip.ts';
import { KVM_MAX_VCPU_IDS } from '../virt/vcpu.ts';
import { APICV_INHIBIT_REASON, kvmClearApicvInhibit, kvmVcpuApicvActive } from './apicv.ts';
import { kvmCreatePit, kvmFreePit, kvmPitSetReinject } from './i8254.ts';
import { KVM_PIT_STATE2_BYTES, kvmPitGetState2, kvmPitSetState2 } from './i8254_state.ts';
import { kvmPicDestroy, kvmPicInit } from './i8259.ts';
import { kvmIoapicDestroy, kvmIoapicInit } from './ioapic.ts';
import {
  KVM_IRQCHIP_IOAPIC,
  KVM_IRQCHIP_PIC_MASTER,
  KVM_IRQCHIP_PIC_SLAVE,
  kvmSetupDefaultIrqRouting,
  kvmSetupEmptyIrqRouting,
} from './irq_comm.ts';
import type { X86Vcpu, X86Vm } from './kvm_host.ts';
import { kvmApicAcceptPicIntr, kvmApicHasInterrupt } from './lapic.ts';

// ------------------------------------------------------------------ interrupts of a vCPU

/** Whether an interrupt of the PIC (or of user space) waits for the vCPU. @upstream kvm_cpu_has_extint() */
export function kvmCpuHasExtint(vcpu: X86Vcpu): boolean {
  const { arch, kvm } = vcpu;
  if (arch.apic === null) return arch.interrupt.injected;
  const { vpic } = kvm.arch;
  if (vpic !== null) return vpic.output && kvmApicAcceptPicIntr(vcpu);
  return arch.pendingExternalVector !== -1 && kvmApicAcceptPicIntr(vcpu);
}

/**
 * Whether there is an interrupt that injection would take: with APIC virtualization only the PIC's, the others are
 * delivered by the hardware.
 *
 * @upstream kvm_cpu_has_injectable_intr()
 */
export const kvmCpuHasInjectableIntr = (vcpu: X86Vcpu): boolean =>
  kvmCpuHasExtint(vcpu) || (!kvmVcpuApicvActive(vcpu) && kvmApicHasInterrupt(vcpu) >= 0);

/** Whether an interrupt waits at all, also in an APIC that KVM cannot see. @upstream kvm_cpu_has_interrupt() */
export function kvmCpuHasInterrupt(vcpu: X86Vcpu): boolean {
  if (kvmCpuHasExtint(vcpu)) return true;
  if (vcpu.arch.guestApicProtected) return vcpu.kvm.ops.protectedApicHasInterrupt?.(vcpu) ?? false;
  return kvmApicHasInterrupt(vcpu) >= 0;
}

/** The PIC's vector, acknowledged; −1 for none. @upstream kvm_cpu_get_extint() */
function kvmCpuGetExtint(vcpu: X86Vcpu): number {
  const { arch, kvm } = vcpu;
  if (!kvmCpuHasExtint(vcpu)) return -1;
  if (arch.apic === null) return arch.interrupt.nr;
  if (kvm.arch.vpic !== null) return kvm.arch.vpic.readIrq();
  const vector = arch.pendingExternalVector;
  arch.pendingExternalVector = -1;
  return vector;
}

/** The vector to inject, acknowledged: the PIC's comes first. −1 for none. @upstream kvm_cpu_get_interrupt() */
export function kvmCpuGetInterrupt(vcpu: X86Vcpu): number {
  const external = kvmCpuGetExtint(vcpu);
  if (external !== -1) return external;
  const vector = kvmApicHasInterrupt(vcpu);
  if (vector !== -1) vcpu.arch.apic?.acknowledge();
  return vector;
}

// ------------------------------------------------------------------ making and destroying

/** KVM_CREATE_IRQCHIP: PIC, IOAPIC and local APICs. @upstream kvm_vm_ioctl() */
export function kvmVmIoctlCreateIrqchip(kvm: X86Vm): Errno {
  const { arch } = kvm;
  if (arch.irqchipMode !== 'none') return -EEXIST;
  // Level-triggered interrupts of an IOAPIC here need the guest's EOIs.
  if (arch.hasProtectedEoi) return -ENOTTY;
  if (kvm.vcpus.length > 0) return -EINVAL;
  // all checks passed
  let result = kvmPicInit(kvm);
  if (result !== 0) return result;
  result = kvmIoapicInit(kvm);
  if (result === 0) result = kvmSetupDefaultIrqRouting(kvm);
  if (result !== 0) {
    kvmIoapicDestroy(kvm);
    kvmPicDestroy(kvm);
    return result;
  }
  arch.irqchipMode = 'kernel';
  kvmClearApicvInhibit(kvm, APICV_INHIBIT_REASON.absent);
  return 0;
}

/** KVM_CREATE_PIT2. */
export function kvmVmIoctlCreatePit2(kvm: X86Vm, flags: number): Errno {
  if (kvm.arch.vpit !== null) return -EEXIST;
  if (kvm.arch.vpic === null) return -ENOENT;
  return kvmCreatePit(kvm, flags);
}

/** KVM_CAP_SPLIT_IRQCHIP: local APICs here, everything else in user space; `reservedPins` routes are its IOAPIC's. */
export function kvmVmIoctlEnableSplitIrqchip(kvm: X86Vm, reservedPins: number): Errno {
  const { arch } = kvm;
  if (!Number.isInteger(reservedPins) || reservedPins < 0 || reservedPins > KVM_MAX_IRQ_ROUTES) return -EINVAL;
  if (arch.irqchipMode !== 'none' || kvm.vcpus.length > 0) return -EEXIST;
  // all checks passed
  arch.irqchipMode = 'split';
  arch.nrReservedIoapicPins = reservedPins;
  kvmClearApicvInhibit(kvm, APICV_INHIBIT_REASON.absent);
  return kvmSetupEmptyIrqRouting(kvm);
}

/** The VM goes: no timer and no bus entry stays. @upstream kvm_arch_destroy_vm() */
export function kvmDestroyIrqchip(kvm: X86Vm): void {
  kvmFreePit(kvm);
  kvmIoapicDestroy(kvm);
  kvmPicDestroy(kvm);
  kvm.irqRouting = null;
}

// ------------------------------------------------------------------ lines

/** KVM_IRQ_LINE(_STATUS): the status (see kvmSetIrq), or −ENXIO. @upstream kvm_vm_ioctl_irq_line() */
export function kvmVmIoctlIrqLine(kvm: X86Vm, irq: number, level: number): number {
  if (kvm.arch.irqchipMode === 'none') return -ENXIO;
  return kvmSetIrq(kvm, KVM_USERSPACE_IRQ_SOURCE_ID, irq, level, true);
}

/** KVM_IRQFD. Resampling needs the controllers whose EOIs it hears. @upstream kvm_arch_irqfd_allowed() */
export function kvmVmIoctlIrqfd(kvm: X86Vm, args: KvmIrqfdArgs): Errno {
  const { irqchipMode } = kvm.arch;
  const resample = ((args.flags ?? 0) & KVM_IRQFD_FLAG_RESAMPLE) !== 0;
  if (resample ? irqchipMode !== 'kernel' : irqchipMode === 'none') return -EINVAL;
  return kvmIrqfd(kvm, args);
}

// ------------------------------------------------------------------ state

/** Size of the chip part of struct kvm_irqchip. */
const IRQCHIP_BYTES = 512;

/** KVM_GET_IRQCHIP: the 512 bytes after the chip number, or a negative errno. @upstream kvm_vm_ioctl_get_irqchip() */
export function kvmVmIoctlGetIrqchip(kvm: X86Vm, chip: number): Uint8Array | Errno {
  const { vpic, vioapic } = kvm.arch;
  if (vpic === null || vioapic === null) return -ENXIO;
  const bytes = new Uint8Array(IRQCHIP_BYTES);
  if (chip === KVM_IRQCHIP_PIC_MASTER || chip === KVM_IRQCHIP_PIC_SLAVE) bytes.set(vpic.getState(chip));
  else if (chip === KVM_IRQCHIP_IOAPIC) bytes.set(vioapic.getState());
  else return -EINVAL;
  return bytes;
}

/** KVM_SET_IRQCHIP. @upstream kvm_vm_ioctl_set_irqchip() */
export function kvmVmIoctlSetIrqchip(kvm: X86Vm, chip: number, bytes: Uint8Array): Errno {
  const { vpic, vioapic } = kvm.arch;
  if (vpic === null || vioapic === null) return -ENXIO;
  if (bytes.length !== IRQCHIP_BYTES) return -EINVAL;
  if (chip === KVM_IRQCHIP_PIC_MASTER || chip === KVM_IRQCHIP_PIC_SLAVE) vpic.setState(chip, bytes);
  else if (chip === KVM_IRQCHIP_IOAPIC) vioapic.setState(bytes);
  else return -EINVAL;
  return 0;
}

/** KVM_GET_PIT2: struct kvm_pit_state2, or −ENXIO. */
export function kvmVmIoctlGetPit2(kvm: X86Vm): Uint8Array | Errno {
  const { vpit } = kvm.arch;
  return vpit === null ? -ENXIO : kvmPitGetState2(vpit);
}

/** KVM_SET_PIT2. */
export function kvmVmIoctlSetPit2(kvm: X86Vm, bytes: Uint8Array): Errno {
  const { vpit } = kvm.arch;
  if (vpit === null) return -ENXIO;
  if (bytes.length !== KVM_PIT_STATE2_BYTES) return -EINVAL;
  kvmPitSetState2(vpit, bytes, kvm.host.timers.now());
  return 0;
}

/** KVM_REINJECT_CONTROL: whether ticks that the guest misses are given to it later. @upstream kvm_vm_ioctl_reinject() */
export function kvmVmIoctlReinjectControl(kvm: X86Vm, reinject: boolean): Errno {
  const { vpit } = kvm.arch;
  if (vpit === null) return -ENXIO;
  kvmPitSetReinject(vpit, kvm, reinject);
  vpit.resetReinject();
  return 0;
}

/** KVM_SET_BOOT_CPU_ID: before there is any vCPU. */
export function kvmVmIoctlSetBootCpuId(kvm: X86Vm, id: number): Errno {
  const { arch } = kvm;
  if (kvm.vcpus.length > 0) return -EBUSY;
  if (id > KVM_MAX_VCPU_IDS || (arch.maxVcpuIds !== 0 && id > arch.maxVcpuIds)) return -EINVAL;
  arch.bspVcpuId = id;
  return 0;
}
