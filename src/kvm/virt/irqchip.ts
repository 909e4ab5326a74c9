/**
 * Interrupt routing: which interrupt controller pins or messages a GSI leads to, and who hears when an interrupt ends.
 *
 * @upstream virt/kvm/irqchip.c
 */
import { EINVAL, type Errno } from '../../host/errno.ts';
import { trace } from '../../util/trace.ts';
import type { Kvm } from './kvm_host.ts';

/** Types of routing entries. @upstream KVM_IRQ_ROUTING_* */
export const KVM_IRQ_ROUTING_IRQCHIP = 1;
export const KVM_IRQ_ROUTING_MSI = 2;

/** Who asserts a line: a line is high while any source holds it. @upstream KVM_*_IRQ_SOURCE_ID */
export const KVM_USERSPACE_IRQ_SOURCE_ID = 0;
export const KVM_IRQFD_RESAMPLE_IRQ_SOURCE_ID = 1;
export const KVM_PIT_IRQ_SOURCE_ID = 2;

export const KVM_MAX_IRQ_ROUTES = 4096;
const CHIPS = 3;
const CHIP_PINS = 24;

/** A GSI leads to a pin of an in-kernel controller. @upstream struct kvm_irq_routing_irqchip */
export interface KvmIrqRoutingIrqchip {
  readonly gsi: number;
  readonly type: 1;
  readonly irqchip: number;
  readonly pin: number;
}
/** A GSI leads to a message. @upstream struct kvm_irq_routing_msi */
export interface KvmIrqRoutingMsi {
  readonly gsi: number;
  readonly type: 2;
  readonly addressLo: number;
  readonly addressHi: number;
  readonly data: number;
}
/** @upstream struct kvm_irq_routing_entry */
export type KvmIrqRoutingEntry = KvmIrqRoutingIrqchip | KvmIrqRoutingMsi;

/**
 * Puts a level on where the entry leads. Positive: so many processors got it; 0: coalesced with one that is still
 * pending; negative: nobody took it.
 */
export type KvmIrqSet = (sourceId: number, level: number, lineStatus: boolean) => number;

/** An entry in use. @upstream struct kvm_kernel_irq_routing_entry */
export interface KvmKernelIrqRoutingEntry {
  readonly entry: KvmIrqRoutingEntry;
  readonly set: KvmIrqSet;
  /** Pin by which ended interrupts are found; an architecture may number pins of two chips in a row. */
  readonly pin: number;
}

/** @upstream struct kvm_irq_routing_table */
export interface KvmIrqRoutingTable {
  /** Entries by GSI. */
  readonly map: readonly (readonly KvmKernelIrqRoutingEntry[] | undefined)[];
  /** GSI by chip and pin, −1 for none. */
  readonly chip: readonly Int32Array[];
}

/** Hears of ended interrupts of a GSI. @upstream struct kvm_irq_ack_notifier */
export interface KvmIrqAckNotifier {
  readonly gsi: number;
  irqAcked(): void;
}

/** Makes an entry usable, or gives a negative errno. @upstream kvm_set_routing_entry() */
export type KvmSetRoutingEntry = (entry: KvmIrqRoutingEntry) => { set: KvmIrqSet; pin: number } | Errno;

/** Replaces the whole routing table. @upstream kvm_set_irq_routing() */
export function kvmSetIrqRouting(
  kvm: Kvm,
  entries: readonly KvmIrqRoutingEntry[],
  setRoutingEntry: KvmSetRoutingEntry,
): Errno {
  if (entries.length > KVM_MAX_IRQ_ROUTES) return -EINVAL;
  const map: KvmKernelIrqRoutingEntry[][] = [];
  const chip = Array.from({ length: CHIPS }, () => new Int32Array(CHIP_PINS).fill(-1));
  for (const entry of entries) {
    if (!Number.isInteger(entry.gsi) || entry.gsi < 0 || entry.gsi >= KVM_MAX_IRQ_ROUTES) return -EINVAL;
    const list = (map[entry.gsi] ??= []);
    for (const { entry: other } of list) {
      // One GSI may lead to several controllers, but to one pin of each, and a message excludes everything else.
      if (other.type !== KVM_IRQ_ROUTING_IRQCHIP || entry.type !== KVM_IRQ_ROUTING_IRQCHIP) return -EINVAL;
      if (other.irqchip === entry.irqchip) return -EINVAL;
    }
    const made = setRoutingEntry(entry);
    if (typeof made === 'number') return made;
    list.push({ entry, ...made });
    if (entry.type === KVM_IRQ_ROUTING_IRQCHIP) chip[entry.irqchip]![made.pin] = entry.gsi;
  }
  // all checks passed
  kvm.irqRouting = { map, chip };
  return 0;
}

/** Puts a level on a GSI: the number of processors that got it, 0 if coalesced, negative if ignored. @upstream kvm_set_irq() */
export function kvmSetIrq(kvm: Kvm, sourceId: number, gsi: number, level: number, lineStatus = false): number {
  trace.kvm_set_irq?.(gsi, level, sourceId);
  const entries = kvm.irqRouting?.map[gsi];
  if (entries === undefined) return -1;
  let result = -1;
  for (const entry of entries) {
    const taken = entry.set(sourceId, level, lineStatus);
    if (taken >= 0) result = Math.max(result, 0) + taken;
  }
  return result;
}

/** Entries of a GSI. @upstream kvm_irq_map_gsi() */
export const kvmIrqMapGsi = (kvm: Kvm, gsi: number): readonly KvmKernelIrqRoutingEntry[] =>
  kvm.irqRouting?.map[gsi] ?? [];

/** GSI that leads to a pin, −1 for none. @upstream kvm_irq_map_chip_pin() */
export const kvmIrqMapChipPin = (kvm: Kvm, irqchip: number, pin: number): number =>
  kvm.irqRouting?.chip[irqchip]?.[pin] ?? -1;

/** @upstream kvm_register_irq_ack_notifier() */
export function kvmRegisterIrqAckNotifier(kvm: Kvm, notifier: KvmIrqAckNotifier): void {
  kvm.irqAckNotifiers.add(notifier);
  kvm.arch_hooks.kvmArchPostIrqAckNotifierListUpdate?.(kvm);
}
/** @upstream kvm_unregister_irq_ack_notifier() */
export function kvmUnregisterIrqAckNotifier(kvm: Kvm, notifier: KvmIrqAckNotifier): void {
  kvm.irqAckNotifiers.delete(notifier);
  kvm.arch_hooks.kvmArchPostIrqAckNotifierListUpdate?.(kvm);
}

/** Whether somebody wants to hear when a pin's interrupt ends. @upstream kvm_irq_has_notifier() */
export function kvmIrqHasNotifier(kvm: Kvm, irqchip: number, pin: number): boolean {
  const gsi = kvmIrqMapChipPin(kvm, irqchip, pin);
  if (gsi === -1) return false;
  for (const notifier of kvm.irqAckNotifiers) if (notifier.gsi === gsi) return true;
  return false;
}

/** A pin's interrupt has ended. @upstream kvm_notify_acked_irq() */
export function kvmNotifyAckedIrq(kvm: Kvm, irqchip: number, pin: number): void {
  trace.kvm_ack_irq?.(irqchip, pin);
  if (kvm.irqAckNotifiers.size === 0) return;
  const gsi = kvmIrqMapChipPin(kvm, irqchip, pin);
  if (gsi === -1) return;
  for (const notifier of kvm.irqAckNotifiers) if (notifier.gsi === gsi) notifier.irqAcked();
}

/** The level of a line that several sources share: `states` has a bit per source. @upstream __kvm_irq_line_state() */
export function kvmIrqLineState(states: Uint8Array, line: number, sourceId: number, level: number): boolean {
  const bit = 1 << sourceId;
  if (level) states[line]! |= bit;
  else states[line]! &= ~bit;
  return states[line] !== 0;
}
