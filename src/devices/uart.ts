/**
 * A 16550A serial port.
 *
 * Characters take no time: what is written has been sent at once, and the receiver's time-out interrupt, which tells of
 * characters below the FIFO's trigger level, comes at once too.
 *
 * Reference: National Semiconductor PC16550D data sheet, "Registers" and "FIFO Interrupt Mode Operation".
 */
import type { IrqLine, PortBus, PortDevice } from './bus.ts';

/** What the port is connected to. */
export interface UartOptions {
  /** The interrupt wire: the chip's INTR gated by OUT2, as on a PC. */
  readonly irq: IrqLine;
  /** Takes each character sent. */
  readonly transmit: (byte: number) => void;
  /** Called when software has read all received characters: more can be given now. */
  readonly onReceiveSpace?: () => void;
  /** Told when software begins or ends a break. */
  readonly setBreak?: (on: boolean) => void;
}

/** Everything a serial port remembers. */
export interface UartState {
  version: 1;
  interruptEnable: number;
  lineControl: number;
  modemControl: number;
  /** Deltas in bits 3:0, inputs in bits 7:4. */
  modemStatus: number;
  /** Levels of CTS, DSR, RI and DCD outside, in bits 4 to 7. */
  modemInputs: number;
  scratch: number;
  divisor: number;
  fifoControl: number;
  /** Overrun, the one error that belongs to no character. */
  overrun: boolean;
  /** Received characters, oldest first: data in bits 7:0, errors as in the line status register shifted by 8. */
  received: number[];
  /** The errors of the oldest character have been read. */
  errorsRead: boolean;
  /** The transmitter-empty interrupt waits to be seen. */
  transmitterEmpty: boolean;
}

const DATA = 0;
const INTERRUPT_ENABLE = 1;
const INTERRUPT_ID = 2;
const LINE_CONTROL = 3;
const MODEM_CONTROL = 4;
const LINE_STATUS = 5;
const MODEM_STATUS = 6;
const SCRATCH = 7;

const IER_RECEIVED = 1;
const IER_TRANSMITTER = 2;
const IER_LINE_STATUS = 4;
const IER_MODEM_STATUS = 8;

const LCR_BREAK = 0x40;
const LCR_DLAB = 0x80;

const MCR_OUT2 = 0x08;
const MCR_LOOP = 0x10;

const LSR_DATA_READY = 0x01;
const LSR_OVERRUN = 0x02;
const LSR_BREAK = 0x10;
const LSR_IDLE = 0x60; // transmitter holding register and transmitter empty
const LSR_FIFO_ERROR = 0x80;
/** Parity, framing and break: the errors a character carries. */
const CHARACTER_ERRORS = 0x1c;

const IIR_NONE = 0x01;
const IIR_LINE_STATUS = 0x06;
const IIR_RECEIVED = 0x04;
const IIR_TIMEOUT = 0x0c;
const IIR_TRANSMITTER = 0x02;
const IIR_MODEM_STATUS = 0x00;

const FCR_ENABLE = 1;
const FIFO_SIZE = 16;
/** Characters at which the received-data interrupt comes, by bits 7:6 of the FIFO control register. */
const TRIGGER_LEVELS = [1, 4, 8, 14] as const;

/** Modem inputs of a port whose cable is plugged in: clear to send, data set ready, carrier. */
const MODEM_CONNECTED = 0xb0;

/** One serial port at eight consecutive ports, the first being a multiple of 8. */
export class Uart16550 implements PortDevice {
  readonly portWidth = 1;
  readonly state: UartState;
  readonly #options: UartOptions;
  #level = false;

  constructor(options: UartOptions) {
    this.#options = options;
    this.state = initialState();
  }

  /** Claims the eight ports, by default those of COM1. */
  attach(bus: PortBus, base = 0x3f8): void {
    bus.register(base, 8, this);
  }

  /** Power-on. */
  reset(): void {
    Object.assign(this.state, initialState());
    this.#update();
  }

  /** Takes over a saved state and drives the interrupt accordingly. */
  restore(state: UartState): void {
    Object.assign(this.state, state);
    this.state.received = [...state.received];
    this.#update();
  }

  /** How many characters can be received now. */
  get receiveSpace(): number {
    if (this.state.modemControl & MCR_LOOP) return 0;
    return this.#capacity() - this.state.received.length;
  }

  /** Receives characters from outside as far as there is room; returns how many were taken. None are in loopback. */
  receive(bytes: Uint8Array): number {
    const count = Math.min(bytes.length, this.receiveSpace);
    for (let i = 0; i < count; i++) this.#push(bytes[i] as number);
    if (count > 0) this.#update();
    return count;
  }

  /** Receives a break from outside. */
  receiveBreak(): void {
    if (this.state.modemControl & MCR_LOOP) return;
    this.#push(LSR_BREAK << 8);
    this.#update();
  }

  /** Sets the levels of CTS (bit 4), DSR (5), RI (6) and DCD (7). */
  setModemLines(levels: number): void {
    this.state.modemInputs = levels & 0xf0;
    this.#updateModem();
    this.#update();
  }

  portRead(port: number, _size: number): number {
    const s = this.state;
    switch (port & 7) {
      case DATA:
        return s.lineControl & LCR_DLAB ? s.divisor & 0xff : this.#readData();
      case INTERRUPT_ENABLE:
        return s.lineControl & LCR_DLAB ? s.divisor >> 8 : s.interruptEnable;
      case INTERRUPT_ID:
        return this.#readInterruptId();
      case LINE_CONTROL:
        return s.lineControl;
      case MODEM_CONTROL:
        return s.modemControl;
      case LINE_STATUS:
        return this.#readLineStatus();
      case MODEM_STATUS:
        return this.#readModemStatus();
      default:
        return s.scratch;
    }
  }

  portWrite(port: number, _size: number, value: number): void {
    const s = this.state;
    switch (port & 7) {
      case DATA:
        if (s.lineControl & LCR_DLAB) s.divisor = (s.divisor & 0xff00) | value;
        else this.#send(value);
        break;
      case INTERRUPT_ENABLE:
        if (s.lineControl & LCR_DLAB) s.divisor = (s.divisor & 0xff) | (value << 8);
        else this.#writeInterruptEnable(value);
        break;
      case INTERRUPT_ID:
        this.#writeFifoControl(value);
        break;
      case LINE_CONTROL:
        this.#writeLineControl(value);
        break;
      case MODEM_CONTROL:
        s.modemControl = value & 0x1f;
        this.#updateModem();
        break;
      case SCRATCH:
        s.scratch = value;
        break;
    }
    this.#update();
  }

  #readData(): number {
    const s = this.state;
    const character = s.received.shift();
    if (character === undefined) return 0;
    s.errorsRead = false;
    this.#update();
    if (s.received.length === 0) this.#options.onReceiveSpace?.();
    return character & 0xff;
  }

  /** Reading the line status clears the error bits it shows; of a FIFO, those of the oldest character. */
  #readLineStatus(): number {
    const s = this.state;
    const status = this.#lineStatus();
    if (status & (LSR_OVERRUN | CHARACTER_ERRORS)) {
      s.overrun = false;
      s.errorsRead = true;
      this.#update();
    }
    return status;
  }

  #lineStatus(): number {
    const s = this.state;
    const oldest = s.received[0];
    if (oldest === undefined) return s.overrun ? LSR_IDLE | LSR_OVERRUN : LSR_IDLE;
    let status = LSR_IDLE | LSR_DATA_READY | (s.overrun ? LSR_OVERRUN : 0);
    if (!s.errorsRead) status |= oldest >> 8;
    const fifo = s.fifoControl & FCR_ENABLE;
    const unread = s.errorsRead ? 1 : 0;
    if (fifo && s.received.some((c, i) => i >= unread && c >> 8 !== 0)) status |= LSR_FIFO_ERROR;
    return status;
  }

  #readModemStatus(): number {
    const status = this.state.modemStatus;
    this.state.modemStatus &= 0xf0;
    this.#update();
    return status;
  }

  /** Reading the interrupt identification ends the transmitter-empty interrupt if that is what it shows. */
  #readInterruptId(): number {
    const id = this.#interruptId();
    if (id === IIR_TRANSMITTER) {
      this.state.transmitterEmpty = false;
      this.#update();
    }
    return this.state.fifoControl & FCR_ENABLE ? id | 0xc0 : id;
  }

  /** The pending interrupt of the highest priority. */
  #interruptId(): number {
    const s = this.state;
    const enabled = s.interruptEnable;
    if (enabled & IER_LINE_STATUS && this.#lineStatus() & (LSR_OVERRUN | CHARACTER_ERRORS)) {
      return IIR_LINE_STATUS;
    }
    if (enabled & IER_RECEIVED && s.received.length > 0) {
      return s.received.length >= this.#trigger() ? IIR_RECEIVED : IIR_TIMEOUT;
    }
    if (enabled & IER_TRANSMITTER && s.transmitterEmpty) return IIR_TRANSMITTER;
    if (enabled & IER_MODEM_STATUS && s.modemStatus & 0x0f) return IIR_MODEM_STATUS;
    return IIR_NONE;
  }

  /** Enabling the transmitter-empty interrupt while the transmitter is empty, as it always is here, asks for it. */
  #writeInterruptEnable(value: number): void {
    const s = this.state;
    if (value & IER_TRANSMITTER & ~s.interruptEnable) s.transmitterEmpty = true;
    s.interruptEnable = value & 0x0f;
  }

  #writeFifoControl(value: number): void {
    const s = this.state;
    const toggled = (value ^ s.fifoControl) & FCR_ENABLE;
    if (value & 2 || toggled) {
      s.received = [];
      s.errorsRead = false;
    }
    // The other bits count only together with the enable bit.
    s.fifoControl = value & FCR_ENABLE ? value & 0xc9 : 0;
    if (value & 2 || toggled) this.#options.onReceiveSpace?.();
  }

  #writeLineControl(value: number): void {
    const s = this.state;
    const toggled = (value ^ s.lineControl) & LCR_BREAK;
    s.lineControl = value;
    if (!toggled) return;
    const on = (value & LCR_BREAK) !== 0;
    if (!(s.modemControl & MCR_LOOP)) this.#options.setBreak?.(on);
    else if (on) this.#push(LSR_BREAK << 8);
  }

  /**
   * A written character is sent at once, so the transmitter is empty again. In between it was not, which an edge-triggered
   * interrupt must see.
   */
  #send(byte: number): void {
    const s = this.state;
    if (s.transmitterEmpty && s.interruptEnable & IER_TRANSMITTER) {
      s.transmitterEmpty = false;
      this.#update();
    }
    const data = byte & (0xff >> (3 - (s.lineControl & 3)));
    if (s.modemControl & MCR_LOOP) this.#push(data);
    else this.#options.transmit(data);
    s.transmitterEmpty = true;
  }

  /** A character arrives. Without room a FIFO drops it, a single register is overwritten. */
  #push(character: number): void {
    const s = this.state;
    if (s.received.length >= this.#capacity()) {
      s.overrun = true;
      if (s.fifoControl & FCR_ENABLE) return;
      s.received.length = 0;
    }
    if (s.received.length === 0) s.errorsRead = false;
    s.received.push(character);
  }

  #capacity(): number {
    return this.state.fifoControl & FCR_ENABLE ? FIFO_SIZE : 1;
  }

  #trigger(): number {
    const { fifoControl } = this.state;
    return fifoControl & FCR_ENABLE ? (TRIGGER_LEVELS[fifoControl >> 6] ?? 1) : 1;
  }

  /** Brings the modem status up to its inputs, which in loopback are the modem control outputs. */
  #updateModem(): void {
    const s = this.state;
    const mcr = s.modemControl;
    const inputs =
      mcr & MCR_LOOP ? ((mcr & 2) << 3) | ((mcr & 1) << 5) | ((mcr & 4) << 4) | ((mcr & 8) << 4) : s.modemInputs;
    const before = s.modemStatus & 0xf0;
    const changed = before ^ inputs;
    // CTS, DSR and DCD tell any change, RI only its end.
    const deltas = ((changed & 0xb0) | (changed & before & 0x40)) >> 4;
    s.modemStatus = inputs | (s.modemStatus & 0x0f) | deltas;
  }

  /** Drives the interrupt wire. OUT2 opens it; in loopback the chip's output pins are inactive. */
  #update(): void {
    const open = (this.state.modemControl & (MCR_OUT2 | MCR_LOOP)) === MCR_OUT2;
    const level = open && this.#interruptId() !== IIR_NONE;
    if (level === this.#level) return;
    this.#level = level;
    this.#options.irq(level);
  }
}

function initialState(): UartState {
  return {
    version: 1,
    interruptEnable: 0,
    lineControl: 0,
    modemControl: 0,
    modemStatus: MODEM_CONNECTED,
    modemInputs: MODEM_CONNECTED,
    scratch: 0,
    divisor: 12, // 9600 baud
    fifoControl: 0,
    overrun: false,
    received: [],
    errorsRead: false,
    transmitterEmpty: false,
  };
}
