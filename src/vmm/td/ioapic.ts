/**
 * The TD's I/O APIC: a model in user space whose pins lead to KVM as message routes, because KVM cannot see when a TD ends
 * an interrupt.
 *
 * Each pin is a GSI with one message route; the route follows what the guest writes into the redirection table.
 */

import type { MmioBus } from '../../devices/bus.ts';
import type { InterruptMessage } from '../../devices/interrupt-message.ts';
import { IoApic } from '../../devices/ioapic.ts';
import type { KvmIrqRoutingEntry, KvmIrqRoutingMsi } from '../../kvm/virt/irqchip.ts';
import { IOAPIC_ADDRESS } from '../layout.ts';

/** Pins, and GSIs. */
export const IOAPIC_PINS = 24;
const IOAPIC_SIZE = 0x1000;
const MSI = 2;
/** @sdm "Message Address Register Format" */
const MESSAGE_ADDRESS = 0xfee00000;
const DESTINATION_SHIFT = 12;
const LOGICAL = 1 << 2;
const LEVEL = 1 << 15;
const ASSERT = 1 << 14;

/** What the pins lead to. */
export interface IoapicWires {
  readonly setGsiRouting: (entries: readonly KvmIrqRoutingEntry[]) => unknown;
  /** The number of local APICs that took it; 0 or less: none. */
  readonly irqLine: (line: { irq: number; level: number }) => number;
}

/** The message of a pin as address and data. @sdm "Message Signalled Interrupts" */
export function msiRoute(gsi: number, message: InterruptMessage): KvmIrqRoutingMsi {
  const { destination, logical, deliveryMode, vector, levelTriggered } = message;
  return {
    gsi,
    type: MSI,
    addressLo: (MESSAGE_ADDRESS | ((destination & 0xff) << DESTINATION_SHIFT) | (logical ? LOGICAL : 0)) >>> 0,
    addressHi: 0,
    data: vector | (deliveryMode << 8) | (levelTriggered ? LEVEL | ASSERT : 0),
  };
}

/** The I/O APIC of a TD. */
export class TdIoapic {
  readonly #chip: IoApic;
  readonly #wires: IoapicWires;
  /** The routes that KVM has. */
  readonly #routes: KvmIrqRoutingMsi[] = [];

  constructor(wires: IoapicWires) {
    this.#wires = wires;
    this.#chip = new IoApic({ deliver: (message, pin) => this.#deliver(message, pin) });
  }

  /** Claims its registers. */
  attach(bus: MmioBus): void {
    bus.register(IOAPIC_ADDRESS, IOAPIC_SIZE, this.#chip);
  }

  /** Puts a level on a pin. */
  setIrq(pin: number, level: boolean): void {
    this.#chip.setIrq(pin, level);
  }

  #deliver(message: InterruptMessage, pin: number): boolean {
    const route = msiRoute(pin, message);
    const known = this.#routes[pin];
    if (known?.addressLo !== route.addressLo || known.data !== route.data) {
      this.#routes[pin] = route;
      this.#wires.setGsiRouting(Object.values(this.#routes));
    }
    return this.#wires.irqLine({ irq: pin, level: 1 }) > 0;
  }
}
