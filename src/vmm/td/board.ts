/** The devices of a TD that user space emulates: ports, and the I/O APIC in memory. There is no PCI. */

import { AcpiPm } from '../../devices/acpi-pm.ts';
import { MmioBus, PortBus, type PortDevice } from '../../devices/bus.ts';
import type { Clock } from '../../devices/clock.ts';
import { DebugExit, ResetControl, SystemControlPortA } from '../../devices/reset.ts';
import { Mc146818 } from '../../devices/rtc.ts';
import { SLEEP_TYPE_S5 } from '../acpi/dsdt.ts';
import type { GuestEnd } from '../guest-end.ts';
import { COM1_IRQ, COM1_PORT, PM_CONTROL_PORT, PM_EVENT_PORT, PM_TIMER_PORT, RTC_IRQ, SCI_IRQ } from '../layout.ts';
import { PvPanic } from '../pc/pvpanic.ts';
import type { SerialConsole } from '../serial-console.ts';
import { type IoapicWires, TdIoapic } from './ioapic.ts';

const TIMER_PORT = 0x40;
const TIMER_PORTS = 4;
/**
 * The ports of the 8254, which a TD does not have. They read as zeros: a kernel without a paravirtual clock calibrates
 * against the timer before it knows that there is none, and polls it as long as it reads all ones (Linux 50,000 times).
 */
const NO_TIMER: PortDevice = { portWidth: 1, portRead: () => 0, portWrite: () => {} };

/** What the board is connected to. */
export interface TdBoardOptions {
  readonly clock: Clock;
  readonly wires: IoapicWires;
  /** The guest ended itself; the first call counts. */
  readonly end: (end: GuestEnd) => void;
  readonly console: SerialConsole;
  /** What the RTC shows when the clock is 0, in seconds since 1970. */
  readonly epochSeconds: number;
  readonly memorySize: number;
}

/** All devices of a TD on their buses. What nobody claims reads as all ones. */
export class TdBoard {
  readonly ports: PortBus = new PortBus();
  readonly mmio: MmioBus = new MmioBus();

  constructor(options: TdBoardOptions) {
    const { clock, wires, end, console: serial, epochSeconds, memorySize } = options;
    const { ports, mmio } = this;
    const ioapic = new TdIoapic(wires);
    const line =
      (irq: number) =>
      (level: boolean): void =>
        ioapic.setIrq(irq, level);
    const reset = (by: string) => (): void => end({ reason: 'reset', by });

    ioapic.attach(mmio);
    ports.register(TIMER_PORT, TIMER_PORTS, NO_TIMER);
    serial.connect(clock, line(COM1_IRQ)).attach(ports, COM1_PORT);
    const rtc = new Mc146818({ clock, irq: line(RTC_IRQ), epochSeconds });
    rtc.setMemorySize(memorySize, 0);
    rtc.attach(ports);
    new SystemControlPortA({ reset: reset('port 0x92') }).attach(ports);
    new ResetControl({ reset: reset('port 0xcf9') }).attach(ports);
    new DebugExit({ exit: (value) => end({ reason: 'debug-exit', value }) }).attach(ports);
    new PvPanic({ panicked: () => end({ reason: 'panic' }) }).attach(ports);
    new AcpiPm({
      clock,
      sci: line(SCI_IRQ),
      sleep: (type) => {
        if (type === SLEEP_TYPE_S5) end({ reason: 'power-off' });
      },
      eventBase: PM_EVENT_PORT,
      controlBase: PM_CONTROL_PORT,
      timerBase: PM_TIMER_PORT,
    }).attach(ports);
  }
}
