/**
 * Layouts of what user space says of interrupts: routes, messages, eventfds. Files are numbers here, as in uapi_memory.ts.
 *
 * @upstream include/uapi/linux/kvm.h
 */
import { KVM_IRQ_ROUTING_MSI, type KvmIrqRoutingEntry } from '../virt/irqchip.ts';
import { UapiStruct } from '../virt/uapi_struct.ts';

/** A route as the binary interface has it: what follows `flags` is a union by type. @upstream struct kvm_irq_routing_entry */
export interface KvmIrqRoutingEntryBinary {
  readonly gsi: number;
  readonly type: number;
  readonly flags: number;
  readonly u: readonly number[];
}

export const kvm_irq_routing_entry: UapiStruct<KvmIrqRoutingEntryBinary> = new UapiStruct('kvm_irq_routing_entry', 48, [
  ['gsi', 'u32'],
  ['type', 'u32'],
  ['flags', 'u32'],
  ['', 'u32'],
  ['u', 'u32', 8],
]);

export const kvm_irq_routing: UapiStruct<{
  nr: number;
  flags: number;
  entries: readonly KvmIrqRoutingEntryBinary[];
}> = new UapiStruct('kvm_irq_routing', 8, [
  ['nr', 'u32'],
  ['flags', 'u32'],
  ['entries', kvm_irq_routing_entry, 'nr'],
]);

/** A route for the binary interface. */
export function irqRoutingEntryToBinary(entry: KvmIrqRoutingEntry): KvmIrqRoutingEntryBinary {
  const [a, b, c] =
    entry.type === KVM_IRQ_ROUTING_MSI ? [entry.addressLo, entry.addressHi, entry.data] : [entry.irqchip, entry.pin, 0];
  return { gsi: entry.gsi, type: entry.type, flags: 0, u: [a, b, c, 0, 0, 0, 0, 0] };
}

/** A route from the binary interface; undefined for types that x86 without Hyper-V and Xen does not have, and for flags. */
export function irqRoutingEntryFromBinary({
  gsi,
  type,
  flags,
  u,
}: KvmIrqRoutingEntryBinary): KvmIrqRoutingEntry | undefined {
  const [a = 0, b = 0, c = 0] = u;
  if (flags !== 0) return undefined;
  if (type === 1) return { gsi, type, irqchip: a, pin: b };
  return type === 2 ? { gsi, type, addressLo: a, addressHi: b, data: c } : undefined;
}

export const kvm_irqfd: UapiStruct<{ fd: number; gsi: number; flags: number; resamplefd: number }> = new UapiStruct(
  'kvm_irqfd',
  32,
  [
    ['fd', 'u32'],
    ['gsi', 'u32'],
    ['flags', 'u32'],
    ['resamplefd', 'u32'],
    ['', 'u8', 16],
  ],
);

export const kvm_ioeventfd: UapiStruct<{ datamatch: bigint; addr: number; len: number; fd: number; flags: number }> =
  new UapiStruct('kvm_ioeventfd', 64, [
    ['datamatch', 'u64'],
    ['addr', 'address'],
    ['len', 'u32'],
    ['fd', 's32'],
    ['flags', 'u32'],
    ['', 'u8', 36],
  ]);
