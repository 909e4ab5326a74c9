/** The interrupt controllers and timer chip of a bare machine, wired to its processors. */

import { I8254 } from '../../devices/i8254.ts';
import { I8259Pair } from '../../devices/i8259.ts';
import { IOAPIC_DEFAULT_BASE, IoApic } from '../../devices/ioapic.ts';
import { SystemControlPortB } from '../../devices/port61.ts';
import { ProcessorBus } from '../../machine/apic/processor-bus.ts';
import type { Machine } from '../../machine/machine.ts';
import type { Processor } from '../../machine/processor.ts';
import { PAGE_SIZE } from '../../util/address.ts';

const TIMER_IRQ = 0;
/** The 8254's line goes to pin 2 of the IOAPIC, because pin 0 is the 8259's. */
const TIMER_PIN = 2;

const APIC_SPURIOUS = 0xf0;
const APIC_LINT0 = 0x350;
const APIC_LINT1 = 0x360;
const ENABLED_SPURIOUS = 0x1ff;
const EXT_INT = 0x700;
const NMI = 0x400;
const MSR_X2APIC_BASE = 0x800;

/** 8259 pair, IOAPIC, 8254 and port 61h. */
export class InterruptControllers {
  readonly bus: ProcessorBus;
  readonly #pic: I8259Pair;
  readonly #ioapic: IoApic;
  readonly #pit: I8254;

  constructor(machine: Machine) {
    const [boot] = machine.processors as [Processor];
    this.#pic = new I8259Pair({ output: (level) => boot.apic.setLint(0, level) });
    this.#ioapic = new IoApic({ deliver: (message) => machine.apicBus.deliver(message) });
    this.#pit = new I8254({ clock: machine.clock, output: (level) => this.setIrq(TIMER_IRQ, level) });
    const { ports } = machine;
    if (ports === null) throw new Error('the machine has no port bus yet');
    this.#pic.attach(ports);
    this.#pit.attach(ports);
    new SystemControlPortB({ pit: this.#pit, clock: machine.clock }).attach(ports);
    this.bus = new ProcessorBus(machine);
    this.bus.devices.register(IOAPIC_DEFAULT_BASE, PAGE_SIZE, this.#ioapic);
    machine.memory.bus = this.bus;
    machine.platform = {
      acknowledgeExtInt: () => this.#pic.acknowledge(),
      endOfInterrupt: (vector, broadcast) => this.#ioapic.eoi(vector, broadcast),
    };
  }

  /** Puts a level on an ISA interrupt line, which ends at both kinds of controller. */
  setIrq(irq: number, level: boolean): void {
    this.#pic.setIrq(irq, level);
    this.#ioapic.setIrq(irq === TIMER_IRQ ? TIMER_PIN : irq, level);
  }

  /** What decides how they go on, as plain values. */
  get state(): unknown {
    return [this.#pic.state, this.#ioapic.state, this.#pit.state];
  }
}

/** Virtual wire mode: the 8259's interrupts reach the bootstrap processor through its local APIC, as firmware leaves it. */
export function virtualWire({ apic }: Processor): void {
  const write = (offset: number, value: number): void => {
    if (apic.mode === 'x2apic') apic.writeMsr(MSR_X2APIC_BASE + (offset >> 4), BigInt(value));
    else apic.mmioWrite(offset, 4, value);
  };
  write(APIC_SPURIOUS, ENABLED_SPURIOUS);
  write(APIC_LINT0, EXT_INT);
  write(APIC_LINT1, NMI);
}
