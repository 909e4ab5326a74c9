/**
 * Where the interrupt lines of a VM lead: as KVM's default, but the timer's line goes to the IOAPIC's pin 2, as on every
 * PC and as the MADT says. The 8259 is not on any pin.
 */
import type { KvmIrqRoutingEntry } from '../../kvm/virt/irqchip.ts';

const IRQCHIP = 1;
const PIC_MASTER = 0;
const PIC_SLAVE = 1;
const IOAPIC = 2;
const PIC_PINS = 8;
const IOAPIC_PINS = 24;
const TIMER_GSI = 0;
const TIMER_PIN = 2;

/** Entries for KVM_SET_GSI_ROUTING. */
export function gsiRouting(): KvmIrqRoutingEntry[] {
  const entries: KvmIrqRoutingEntry[] = [];
  const add = (gsi: number, irqchip: number, pin: number): void => {
    entries.push({ gsi, type: IRQCHIP, irqchip, pin });
  };
  for (let gsi = 0; gsi < 2 * PIC_PINS; gsi++) {
    add(gsi, gsi < PIC_PINS ? PIC_MASTER : PIC_SLAVE, gsi % PIC_PINS);
  }
  add(TIMER_GSI, IOAPIC, TIMER_PIN);
  for (let gsi = 1; gsi < IOAPIC_PINS; gsi++) if (gsi !== TIMER_PIN) add(gsi, IOAPIC, gsi);
  return entries;
}
