/**
 * A PC's keyboard controller with nothing plugged in: it answers every controller command, so that drivers are done with it
 * quickly, tells that keyboard and mouse do not answer, and resets the machine when asked.
 *
 * Reference: IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller".
 */
import type { IrqLine, PortBus, PortDevice } from './bus.ts';

/** What the controller is connected to. */
export interface I8042Options {
  /** The processor's reset pin. */
  readonly reset: () => void;
  /** Address line 20. */
  readonly a20?: (enabled: boolean) => void;
  /** Interrupt 1. */
  readonly irq?: IrqLine;
}

/** Everything the controller remembers. */
export interface I8042State {
  version: 1;
  status: number;
  /** Byte waiting at port 60h. */
  output: number;
  /** Command byte: bit 0 enables interrupt 1, bit 2 is the system flag, bits 4 and 5 disable keyboard and mouse. */
  commandByte: number;
  outputPort: number;
  /** Controller RAM beyond the command byte. */
  ram: number[];
  /** Command whose data byte is awaited, 0 for none. */
  command: number;
}

const OUTPUT_FULL = 0x01;
const SYSTEM_FLAG = 0x04;
const COMMAND = 0x08;
const NOT_LOCKED = 0x10;
const TIMEOUT = 0x40;

const INTERRUPT = 0x01;
const A20 = 0x02;
/** Reset pin high and address line 20 open: the output port as firmware leaves it. */
const OUTPUT_PORT = 0xdf;

const RESEND = 0xfe;
const SELF_TEST_PASSED = 0x55;
/** Interface test: the clock line is stuck high, for nobody pulls it. */
const CLOCK_STUCK_HIGH = 0x02;

/** Ports 60h and 64h. */
export class I8042 implements PortDevice {
  readonly portWidth = 1;
  readonly state: I8042State = initialState();
  readonly #options: I8042Options;
  #level = false;

  constructor(options: I8042Options) {
    this.#options = options;
  }

  /** Claims the two ports. */
  attach(bus: PortBus): void {
    bus.register(0x60, 1, this);
    bus.register(0x64, 1, this);
  }

  /** Power-on. */
  reset(): void {
    Object.assign(this.state, initialState());
    this.#update();
  }

  /** Takes over a saved state. */
  restore(state: I8042State): void {
    Object.assign(this.state, state);
    this.state.ram = [...state.ram];
    this.#update();
  }

  portRead(port: number, _size: number): number {
    const s = this.state;
    if (port === 0x64) return s.status;
    s.status &= ~(OUTPUT_FULL | TIMEOUT);
    this.#update();
    return s.output;
  }

  portWrite(port: number, _size: number, value: number): void {
    const s = this.state;
    if (port === 0x64) {
      s.status |= COMMAND;
      s.command = 0;
      this.#command(value);
    } else {
      s.status &= ~COMMAND;
      const { command } = s;
      s.command = 0;
      this.#data(command, value);
    }
    this.#update();
  }

  #command(value: number): void {
    const s = this.state;
    if (value >= 0x20 && value < 0x40) {
      this.#answer(value === 0x20 ? s.commandByte : (s.ram[value & 0x1f] ?? 0));
    } else if ((value >= 0x60 && value < 0x80) || (value >= 0xd1 && value <= 0xd4)) {
      s.command = value;
    } else if (value >= 0xf0) {
      // Pulses the output port's low bits that are 0; bit 0 is the reset pin.
      if (!(value & 1)) this.#options.reset();
    } else {
      this.#simpleCommand(value);
    }
  }

  #simpleCommand(value: number): void {
    const s = this.state;
    switch (value) {
      case 0xa7:
        s.commandByte |= 0x20;
        break;
      case 0xa8:
        s.commandByte &= ~0x20;
        break;
      case 0xad:
        s.commandByte |= 0x10;
        break;
      case 0xae:
        s.commandByte &= ~0x10;
        break;
      case 0xa9:
      case 0xab:
        this.#answer(CLOCK_STUCK_HIGH);
        break;
      case 0xaa:
        s.status |= SYSTEM_FLAG;
        this.#answer(SELF_TEST_PASSED);
        break;
      case 0xc0:
        this.#answer(0x80); // input port: keyboard not locked
        break;
      case 0xd0:
        this.#answer(s.outputPort);
        break;
    }
  }

  /** A byte at port 60h: for the command that waits for it, else for the keyboard. */
  #data(command: number, value: number): void {
    const s = this.state;
    if (command === 0x60) {
      s.commandByte = value;
      s.status = (s.status & ~SYSTEM_FLAG) | (value & SYSTEM_FLAG);
    } else if (command > 0x60 && command < 0x80) {
      s.ram[command & 0x1f] = value;
    } else if (command === 0xd1) {
      this.#writeOutputPort(value);
    } else if (command === 0xd2 || command === 0xd3) {
      // D3h would put the byte into the mouse's buffer; without a mouse port it is a byte like any other.
      this.#answer(value);
    } else {
      // Nobody acknowledges: the controller reports a time-out in the device's place.
      this.#answer(RESEND);
      s.status |= TIMEOUT;
    }
  }

  #writeOutputPort(value: number): void {
    const changed = this.state.outputPort ^ value;
    this.state.outputPort = value;
    if (changed & A20) this.#options.a20?.((value & A20) !== 0);
    if (!(value & 1)) this.#options.reset();
  }

  #answer(value: number): void {
    this.state.output = value;
    this.state.status |= OUTPUT_FULL;
  }

  /** Interrupt 1 follows the output buffer where the command byte enables it. */
  #update(): void {
    const s = this.state;
    const level = (s.status & OUTPUT_FULL) !== 0 && (s.commandByte & INTERRUPT) !== 0;
    if (level === this.#level) return;
    this.#level = level;
    this.#options.irq?.(level);
  }
}

function initialState(): I8042State {
  return {
    version: 1,
    status: NOT_LOCKED | COMMAND | SYSTEM_FLAG,
    output: 0,
    commandByte: SYSTEM_FLAG,
    outputPort: OUTPUT_PORT,
    ram: [],
    command: 0,
  };
}
