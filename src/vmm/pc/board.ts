/** The devices of a VM that user space emulates: what a PC has beside KVM's interrupt controllers and timer. */

import { AcpiPm } from '../../devices/acpi-pm.ts';
import { PortBus } from '../../devices/bus.ts';
import type { Clock } from '../../devices/clock.ts';
import { I8042 } from '../../devices/i8042.ts';
import { DebugExit, ResetControl, SystemControlPortA } from '../../devices/reset.ts';
import { Mc146818 } from '../../devices/rtc.ts';
import { SLEEP_TYPE_S5 } from '../acpi/dsdt.ts';
import type { GuestEnd } from '../guest-end.ts';
import { COM1_IRQ, COM1_PORT, PM_CONTROL_PORT, PM_EVENT_PORT, PM_TIMER_PORT, RTC_IRQ, SCI_IRQ } from '../layout.ts';
import type { SerialConsole } from '../serial-console.ts';
import { PvPanic } from './pvpanic.ts';

/** What the board is connected to. */
export interface BoardOptions {
  readonly clock: Clock;
  /** Drives an ISA interrupt line (GSI 0 to 15). */
  readonly setIrq: (irq: number, level: boolean) => void;
  /** The guest ended itself; called at most a few times, the first one counts. */
  readonly end: (end: GuestEnd) => void;
  readonly console: SerialConsole;
  /** What the RTC shows when the clock is 0, in seconds since 1970. */
  readonly epochSeconds: number;
  readonly memorySize: number;
  /** Where the devices answer; a bus of their own if not given. */
  readonly ports?: PortBus;
}

/** All port devices of a VM, on their bus. Ports that nobody has read as all ones. */
export class Board {
  readonly ports: PortBus;

  constructor(options: BoardOptions) {
    this.ports = options.ports ?? new PortBus();
    const { clock, setIrq, end, console: serial, epochSeconds, memorySize } = options;
    const line =
      (irq: number) =>
      (level: boolean): void =>
        setIrq(irq, level);
    const reset = (by: string) => (): void => end({ reason: 'reset', by });

    serial.connect(clock, line(COM1_IRQ)).attach(this.ports, COM1_PORT);
    const rtc = new Mc146818({ clock, irq: line(RTC_IRQ), epochSeconds });
    rtc.setMemorySize(memorySize, 0);
    rtc.attach(this.ports);
    new I8042({ reset: reset('the keyboard controller') }).attach(this.ports);
    new SystemControlPortA({ reset: reset('port 0x92') }).attach(this.ports);
    new ResetControl({ reset: reset('port 0xcf9') }).attach(this.ports);
    new DebugExit({ exit: (value) => end({ reason: 'debug-exit', value }) }).attach(this.ports);
    new PvPanic({ panicked: () => end({ reason: 'panic' }) }).attach(this.ports);
    new AcpiPm({
      clock,
      sci: line(SCI_IRQ),
      sleep: (type) => {
        if (type === SLEEP_TYPE_S5) end({ reason: 'power-off' });
      },
      eventBase: PM_EVENT_PORT,
      controlBase: PM_CONTROL_PORT,
      timerBase: PM_TIMER_PORT,
    }).attach(this.ports);
  }
}
