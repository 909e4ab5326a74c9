/**
 * The PC's two cascaded 8259A interrupt controllers with their edge/level control registers.
 *
 * Reference: Intel 8259A data sheet, "Cascade Mode"; Intel PIIX3/ICH data sheets, "ELCR1, ELCR2".
 */
import type { IrqLine, PortBus, PortDevice } from './bus.ts';
import { I8259, type I8259State, type InputOutcome, initialI8259State } from './i8259-chip.ts';

/** What the pair is connected to. */
export interface I8259Options {
  /** The master's INT pin, called when it changes. */
  readonly output: IrqLine;
  /** Told each interrupt (0 to 15) whose in-service bit an EOI clears. */
  readonly onAck?: (irq: number) => void;
  /**
   * The data sheet's rule that an edge counts only while the wire stays high until INTA (else the spurious vector is given).
   * Off by default, because sources that pulse rely on the latch, as under KVM.
   */
  readonly edgeNeedsHold?: boolean;
}

/** The registers of both chips, master first. */
export interface I8259PairState {
  version: 1;
  chips: [I8259State, I8259State];
}

/** Inputs whose trigger mode can be chosen: not the timer, keyboard and cascade, nor RTC and FPU. */
const MASTER_ELCR_MASK = 0xf8;
const SLAVE_ELCR_MASK = 0xde;
/** The master's input that the slave drives. */
const CASCADE_INPUT = 2;
/** The input whose vector is given when nothing asks any more. */
const SPURIOUS_INPUT = 7;

/** Master at ports 20h and 21h, slave at A0h and A1h, edge/level registers at 4D0h and 4D1h. */
export class I8259Pair implements PortDevice {
  readonly portWidth = 1;
  readonly state: I8259PairState;
  readonly #master: I8259;
  readonly #slave: I8259;
  readonly #output: IrqLine;
  #level = false;

  constructor(options: I8259Options) {
    const hold = options.edgeNeedsHold ?? false;
    const onAck = options.onAck;
    this.#output = options.output;
    this.#master = new I8259(true, MASTER_ELCR_MASK, hold, (input) => onAck?.(input));
    this.#slave = new I8259(false, SLAVE_ELCR_MASK, hold, (input) => onAck?.(input + 8));
    this.state = { version: 1, chips: [this.#master.state, this.#slave.state] };
  }

  /** Claims the six ports. */
  attach(bus: PortBus): void {
    bus.register(0x20, 2, this);
    bus.register(0xa0, 2, this);
    bus.register(0x4d0, 2, this);
  }

  /** Power-on. The wires keep no memory: drivers of level inputs must set them again. */
  reset(): void {
    Object.assign(this.#master.state, initialI8259State(MASTER_ELCR_MASK));
    Object.assign(this.#slave.state, initialI8259State(SLAVE_ELCR_MASK));
    this.#update();
  }

  /** Takes over a saved state and drives INT accordingly. */
  restore(state: I8259PairState): void {
    Object.assign(this.#master.state, state.chips[0]);
    Object.assign(this.#slave.state, state.chips[1]);
    this.#level = !this.#interrupting();
    this.#update();
  }

  /** Puts a level on interrupt wire 0 to 15 (2 is the cascade's). */
  setIrq(irq: number, level: boolean): InputOutcome {
    const outcome = irq < 8 ? this.#master.setInput(irq, level) : this.#slave.setInput(irq - 8, level);
    this.#update();
    return outcome;
  }

  /** Whether INT is asserted. */
  get interruptPending(): boolean {
    return this.#level;
  }

  /**
   * The processor's interrupt acknowledge cycle: the vector to take. If nothing asks any more it is the vector of input 7 of
   * the chip that was addressed, without an in-service bit there.
   */
  acknowledge(): number {
    const master = this.#master;
    const slave = this.#slave;
    const input = master.request();
    let vector: number;
    if (input < 0) {
      vector = master.state.irqBase + SPURIOUS_INPUT;
    } else {
      master.acknowledge(input);
      vector = master.state.irqBase + input;
      if (input === CASCADE_INPUT) {
        const request = slave.request();
        if (request >= 0) slave.acknowledge(request);
        vector = slave.state.irqBase + (request < 0 ? SPURIOUS_INPUT : request);
        // The slave drops INT during the cycle, so that what it asks next is an edge for the master.
        master.setInput(CASCADE_INPUT, false);
      }
    }
    this.#update();
    return vector;
  }

  portRead(port: number, _size: number): number {
    if (port === 0x4d0) return this.#master.state.elcr;
    if (port === 0x4d1) return this.#slave.state.elcr;
    const slave = port >= 0xa0;
    const polled = slave && this.#slave.state.poll;
    const value = (slave ? this.#slave : this.#master).read(port & 1);
    // A poll of the slave acknowledges like INTA and drops its INT as well.
    if (polled) this.#master.setInput(CASCADE_INPUT, false);
    this.#update();
    return value;
  }

  portWrite(port: number, _size: number, value: number): void {
    if (port === 0x4d0) this.#master.writeElcr(value);
    else if (port === 0x4d1) this.#slave.writeElcr(value);
    else (port >= 0xa0 ? this.#slave : this.#master).write(port & 1, value);
    this.#update();
  }

  #interrupting(): boolean {
    return this.#master.request() >= 0;
  }

  /** Settles the cascade wire and INT after any change. */
  #update(): void {
    this.#master.setInput(CASCADE_INPUT, this.#slave.request() >= 0);
    const level = this.#interrupting();
    if (level === this.#level) return;
    this.#level = level;
    this.#output(level);
  }
}
