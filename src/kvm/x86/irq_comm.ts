/**
 * Interrupt messages on their way to local APICs, and x86's interrupt routes.
 *
 * @upstream arch/x86/kvm/irq_comm.c, lapic.c kvm_apic_match_dest()
 */
import { DeliveryMode, type InterruptMessage, msiToMessage, Shorthand } from '../../devices/interrupt-message.ts';
import { EINVAL, type Errno } from '../../host/errno.ts';
import { trace } from '../../util/trace.ts';
import {
  KVM_IRQ_ROUTING_IRQCHIP,
  KVM_IRQ_ROUTING_MSI,
  type KvmIrqRoutingEntry,
  type KvmIrqSet,
  kvmIrqMapGsi,
  kvmSetIrqRouting,
} from '../virt/irqchip.ts';
import { kvmMakeAllCpusRequest } from '../virt/kvm_host.ts';
import { KVM_REQ_SCAN_IOAPIC, vcpusOf, type X86Vm } from './kvm_host.ts';
import type { KvmLapic } from './lapic.ts';

/** Chip numbers of routing entries and of KVM_GET_IRQCHIP. @upstream KVM_IRQCHIP_* */
export const KVM_IRQCHIP_PIC_MASTER = 0;
export const KVM_IRQCHIP_PIC_SLAVE = 1;
export const KVM_IRQCHIP_IOAPIC = 2;

const PIC_PINS = 8;
const IOAPIC_PINS = 24;
/** The low bits of the destination that are void in the 32-bit format. */
const X2APIC_FORMAT_RESERVED = 0xff;

/** A message-signalled interrupt as a device writes it. @upstream struct kvm_msi */
export interface KvmMsi {
  readonly addressLo: number;
  readonly addressHi: number;
  readonly data: number;
  readonly flags?: number;
}

/** @upstream kvm_apic_match_dest() */
function matches(apic: KvmLapic, source: KvmLapic | null, message: InterruptMessage, shorthand: number): boolean {
  switch (shorthand) {
    case Shorthand.self:
      return apic === source;
    case Shorthand.allIncludingSelf:
      return apic.mode !== 'disabled';
    case Shorthand.allExcludingSelf:
      return apic !== source && apic.mode !== 'disabled';
    default:
      return apic.matches(message.destination, message.logical);
  }
}

/**
 * Delivers a message to the APICs it is for: how many took it, −1 if it is for none.
 *
 * A lowest-priority message goes to the receiver that its vector picks, so that one vector stays on one vCPU.
 *
 * @upstream kvm_irq_delivery_to_apic()
 */
export function kvmIrqDeliveryToApic(
  kvm: X86Vm,
  source: KvmLapic | null,
  message: InterruptMessage,
  shorthand: number = Shorthand.none,
): number {
  const { deliveryMode, vector, levelTriggered, asserted } = message;
  const lowest = deliveryMode === DeliveryMode.lowestPriority;
  const candidates: KvmLapic[] = [];
  let result = -1;
  for (const { arch } of vcpusOf(kvm)) {
    const { apic } = arch;
    if (apic === null || !matches(apic, source, message, shorthand)) continue;
    if (lowest) {
      if (apic.softwareEnabled) candidates.push(apic);
    } else {
      result = Math.max(result, 0) + (apic.accept(deliveryMode, vector, levelTriggered, asserted) ? 1 : 0);
    }
  }
  const chosen = candidates[vector % candidates.length];
  if (chosen !== undefined) result = chosen.accept(deliveryMode, vector, levelTriggered, asserted) ? 1 : 0;
  return result;
}

/** Reads an MSI in the VM's destination format. @upstream kvm_set_msi_irq() */
function messageOf(kvm: X86Vm, { addressLo, addressHi, data }: KvmMsi): InterruptMessage {
  const { x2apicFormat, x2apicBroadcastQuirkDisabled } = kvm.arch;
  const message = msiToMessage(addressLo, addressHi, data, x2apicFormat);
  if (!x2apicFormat || x2apicBroadcastQuirkDisabled || message.destination !== 0xff) return message;
  // The quirk: FFh is a broadcast also to receivers in x2APIC mode.
  return { ...message, destination: 0xffff_ffff };
}

/** @upstream kvm_msi_route_invalid() */
const msiInvalid = (kvm: X86Vm, msi: KvmMsi): boolean =>
  kvm.arch.x2apicFormat && (msi.addressHi & X2APIC_FORMAT_RESERVED) !== 0;

/** Sends an MSI: as {@link kvmIrqDeliveryToApic}. @upstream kvm_set_msi() */
export function kvmSetMsi(kvm: X86Vm, msi: KvmMsi, level: number): number {
  if (level === 0 || msiInvalid(kvm, msi)) return -1;
  trace.kvm_msi_set_irq?.((BigInt(msi.addressHi) << 32n) | BigInt(msi.addressLo), msi.data);
  return kvmIrqDeliveryToApic(kvm, null, messageOf(kvm, msi));
}

/** KVM_SIGNAL_MSI: how many vCPUs got it, or a negative errno. @upstream kvm_send_userspace_msi() */
export function kvmSignalMsi(kvm: X86Vm, msi: KvmMsi): number {
  if (kvm.arch.irqchipMode === 'none' || (msi.flags ?? 0) !== 0) return -EINVAL;
  return kvmSetMsi(kvm, msi, 1);
}

/** @upstream kvm_set_routing_entry() */
function kvmSetRoutingEntry(kvm: X86Vm, entry: KvmIrqRoutingEntry): { set: KvmIrqSet; pin: number } | Errno {
  const { arch } = kvm;
  if (entry.type === KVM_IRQ_ROUTING_MSI) {
    if (msiInvalid(kvm, entry)) return -EINVAL;
    return { set: (_source, level) => kvmSetMsi(kvm, entry, level), pin: -1 };
  }
  if (entry.type !== KVM_IRQ_ROUTING_IRQCHIP || arch.irqchipMode === 'split') return -EINVAL;
  const { irqchip } = entry;
  if (irqchip === KVM_IRQCHIP_PIC_MASTER || irqchip === KVM_IRQCHIP_PIC_SLAVE) {
    if (entry.pin < 0 || entry.pin >= PIC_PINS) return -EINVAL;
    const pin = entry.pin + (irqchip === KVM_IRQCHIP_PIC_SLAVE ? PIC_PINS : 0);
    return { set: (source, level) => arch.vpic?.setIrq(pin, source, level) ?? -1, pin };
  }
  if (irqchip !== KVM_IRQCHIP_IOAPIC || entry.pin < 0 || entry.pin >= IOAPIC_PINS) return -EINVAL;
  const { pin } = entry;
  return { set: (source, level) => arch.vioapic?.setIrq(pin, source, level) ?? -1, pin };
}

/** KVM_SET_GSI_ROUTING. @upstream kvm_set_irq_routing() */
export function kvmSetGsiRouting(kvm: X86Vm, entries: readonly KvmIrqRoutingEntry[]): Errno {
  if (kvm.arch.irqchipMode === 'none') return -EINVAL;
  const result = kvmSetIrqRouting(kvm, entries, (entry) => kvmSetRoutingEntry(kvm, entry));
  // @upstream kvm_arch_post_irq_routing_update()
  if (result === 0) kvmMakeAllCpusRequest(kvm, KVM_REQ_SCAN_IOAPIC);
  return result;
}

/** GSIs 0 to 15 lead to the PIC and the IOAPIC, 16 to 23 to the IOAPIC. @upstream kvm_setup_default_ioapic_and_pic_routing() */
export function kvmSetupDefaultIrqRouting(kvm: X86Vm): Errno {
  const entries: KvmIrqRoutingEntry[] = [];
  for (let gsi = 0; gsi < IOAPIC_PINS; gsi++) {
    entries.push({ gsi, type: KVM_IRQ_ROUTING_IRQCHIP, irqchip: KVM_IRQCHIP_IOAPIC, pin: gsi });
    if (gsi >= 2 * PIC_PINS) continue;
    const irqchip = gsi < PIC_PINS ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE;
    entries.push({ gsi, type: KVM_IRQ_ROUTING_IRQCHIP, irqchip, pin: gsi % PIC_PINS });
  }
  return kvmSetIrqRouting(kvm, entries, (entry) => kvmSetRoutingEntry(kvm, entry));
}

/** A split irqchip begins without routes. @upstream kvm_setup_empty_irq_routing() */
export function kvmSetupEmptyIrqRouting(kvm: X86Vm): Errno {
  return kvmSetIrqRouting(kvm, [], (entry) => kvmSetRoutingEntry(kvm, entry));
}

/** Every level-triggered interrupt that a user-space IOAPIC may send: its vector and whom it is for. @upstream kvm_scan_ioapic_routes() */
export function kvmScanIoapicRoutes(
  kvm: X86Vm,
  add: (vector: number, destination: number, logical: boolean) => void,
): void {
  for (let gsi = 0; gsi < kvm.arch.nrReservedIoapicPins; gsi++) {
    for (const { entry } of kvmIrqMapGsi(kvm, gsi)) {
      if (entry.type !== KVM_IRQ_ROUTING_MSI) continue;
      const { levelTriggered, vector, destination, logical } = messageOf(kvm, entry);
      if (levelTriggered) add(vector, destination, logical);
    }
  }
}

/** Whether a user-space IOAPIC has a level-triggered pin with this vector. @upstream kvm_scan_ioapic_routes() */
export function kvmSplitIrqchipHandlesEoi(kvm: X86Vm, vector: number): boolean {
  for (let gsi = 0; gsi < kvm.arch.nrReservedIoapicPins; gsi++) {
    for (const { entry } of kvmIrqMapGsi(kvm, gsi)) {
      if (entry.type !== KVM_IRQ_ROUTING_MSI) continue;
      const message = messageOf(kvm, entry);
      if (message.levelTriggered && message.vector === vector) return true;
    }
  }
  return false;
}
