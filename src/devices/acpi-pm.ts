/**
 * ACPI's fixed power management hardware: the PM1a event and control blocks, the PM timer, and the power and sleep buttons.
 * There is no legacy mode to leave, so SCI_EN is always set.
 *
 * Reference: ACPI specification, "ACPI Hardware Specification": "PM1 Event Grouping", "PM1 Control Grouping", "Power
 * Management Timer".
 */
import type { IrqLine, PortBus, PortDevice } from './bus.ts';
import { type Clock, Timer } from './clock.ts';
import { nsToTicks, ticksToNs } from './ticks.ts';

/** Frequency of the PM timer. */
export const PM_TIMER_HZ = 3_579_545;

/** Bits of PM1 status and enable. */
export const PM1: {
  readonly TIMER: 0x0001;
  readonly GLOBAL: 0x0020;
  readonly POWER_BUTTON: 0x0100;
  readonly SLEEP_BUTTON: 0x0200;
  readonly RTC: 0x0400;
  readonly WAKE: 0x8000;
} = {
  TIMER: 0x0001,
  GLOBAL: 0x0020,
  POWER_BUTTON: 0x0100,
  SLEEP_BUTTON: 0x0200,
  RTC: 0x0400,
  WAKE: 0x8000,
};

const ENABLE_BITS = 0x0721;
const STATUS_BITS = ENABLE_BITS | PM1.WAKE | 0x0010;
const SCI_ENABLED = 0x0001;
const SLEEP_ENABLE = 0x2000;
/** SCI_EN, BM_RLD and SLP_TYP; GBL_RLS and SLP_EN read as 0. */
const CONTROL_BITS = 0x1c03;
/** The timer's top bit toggles after so many ticks. */
const HALF_PERIOD = 2 ** 31;

/** What the power management hardware is connected to, and where it answers. */
export interface AcpiPmOptions {
  readonly clock: Clock;
  /** The system control interrupt, a level. */
  readonly sci: IrqLine;
  /** Software asks for a sleep state: `type` is SLP_TYP, whose meaning the tables in memory define (S5 is off). */
  readonly sleep: (type: number) => void;
  /** First port of the event block (4 ports: status, enable). */
  readonly eventBase: number;
  /** First port of the control block (2 ports). */
  readonly controlBase: number;
  /** First port of the PM timer (4 ports, 32 bits wide). */
  readonly timerBase: number;
}

/** Everything it remembers. */
export interface AcpiPmState {
  version: 1;
  status: number;
  enable: number;
  control: number;
  /** Half periods of the PM timer that TMR_STS has told of. */
  halfPeriods: number;
}

/** PM1a blocks and PM timer. */
export class AcpiPm implements PortDevice {
  readonly state: AcpiPmState;
  readonly #options: AcpiPmOptions;
  readonly #timer: Timer = new Timer(() => this.#update());
  #level = false;

  constructor(options: AcpiPmOptions) {
    this.#options = options;
    this.state = this.#initialState();
  }

  /** Claims the ten ports. */
  attach(bus: PortBus): void {
    bus.register(this.#options.eventBase, 4, this);
    bus.register(this.#options.controlBase, 2, this);
    bus.register(this.#options.timerBase, 4, this);
  }

  /** Power-on. */
  reset(): void {
    Object.assign(this.state, this.#initialState());
    this.#update();
  }

  /** Takes over a saved state and drives the SCI accordingly. */
  restore(state: AcpiPmState): void {
    Object.assign(this.state, state);
    this.#update();
  }

  /** Somebody presses the power button. */
  pressPowerButton(): void {
    this.raise(PM1.POWER_BUTTON);
  }

  /** Somebody presses the sleep button. */
  pressSleepButton(): void {
    this.raise(PM1.SLEEP_BUTTON);
  }

  /** Sets bits of the PM1 status register. */
  raise(bits: number): void {
    this.state.status |= bits & STATUS_BITS;
    this.#update();
  }

  portRead(port: number, size: number): number {
    let value = 0;
    for (let i = 0; i < size; i++) value += this.#readByte(port + i) * 2 ** (8 * i);
    return value;
  }

  portWrite(port: number, size: number, value: number): void {
    for (let i = 0; i < size; i++) this.#writeByte(port + i, (value >>> (8 * i)) & 0xff);
    this.#update();
  }

  #readByte(port: number): number {
    const { eventBase, controlBase, timerBase } = this.#options;
    if (port >= timerBase && port < timerBase + 4) {
      return Math.floor(this.#ticks() / 2 ** (8 * (port - timerBase))) & 0xff;
    }
    if (port >= controlBase && port < controlBase + 2) {
      return ((this.state.control | SCI_ENABLED) >> (8 * (port - controlBase))) & 0xff;
    }
    const offset = port - eventBase;
    if (offset < 0 || offset > 3) return 0xff;
    this.#update();
    const register = offset < 2 ? this.state.status : this.state.enable;
    return (register >> (8 * (offset & 1))) & 0xff;
  }

  #writeByte(port: number, value: number): void {
    const { eventBase, controlBase } = this.#options;
    const s = this.state;
    if (port >= controlBase && port < controlBase + 2) {
      const shift = 8 * (port - controlBase);
      const control = (s.control & ~(0xff << shift)) | (value << shift);
      s.control = control & CONTROL_BITS;
      if (shift === 8 && control & SLEEP_ENABLE) this.#options.sleep((control >> 10) & 7);
      return;
    }
    const offset = port - eventBase;
    const shift = 8 * (offset & 1);
    if (offset === 0 || offset === 1) {
      this.#noteTimer();
      s.status &= ~(value << shift); // a 1 clears
    } else if (offset === 2 || offset === 3) {
      s.enable = ((s.enable & ~(0xff << shift)) | (value << shift)) & ENABLE_BITS;
    }
  }

  #ticks(): number {
    return nsToTicks(this.#options.clock.now(), PM_TIMER_HZ);
  }

  /** TMR_STS is set whenever the timer's top bit has toggled. */
  #noteTimer(): void {
    const halfPeriods = Math.floor(this.#ticks() / HALF_PERIOD);
    if (halfPeriods !== this.state.halfPeriods) this.state.status |= PM1.TIMER;
    this.state.halfPeriods = halfPeriods;
  }

  /** Drives the SCI, and asks for an alarm at the next toggle while it would interrupt. */
  #update(): void {
    this.#noteTimer();
    const s = this.state;
    const { clock, sci } = this.#options;
    if (s.enable & PM1.TIMER) {
      clock.setTimer(this.#timer, ticksToNs((s.halfPeriods + 1) * HALF_PERIOD, PM_TIMER_HZ));
    } else {
      clock.cancel(this.#timer);
    }
    const level = (s.status & s.enable) !== 0;
    if (level === this.#level) return;
    this.#level = level;
    sci(level);
  }

  #initialState(): AcpiPmState {
    const halfPeriods = Math.floor(this.#ticks() / HALF_PERIOD);
    return { version: 1, status: 0, enable: 0, control: SCI_ENABLED, halfPeriods };
  }
}
