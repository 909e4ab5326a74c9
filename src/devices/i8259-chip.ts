/**
 * One 8259A: priority resolver, command words and registers, without the cascade.
 *
 * Reference: Intel 8259A Programmable Interrupt Controller data sheet, and the chipset's edge/level control registers that
 * replace ICW1's LTIM bit on a PC. MCS-80/85 mode and buffered mode do not exist on a PC and are ignored.
 */

/** A chip's registers. The names are those of KVM's kvm_pic_state, which holds the same things except `single`. */
export interface I8259State {
  /** Levels of the input wires, by which edges are found. */
  lastIrr: number;
  /** Interrupt requests. */
  irr: number;
  /** Interrupt mask. */
  imr: number;
  /** Interrupts in service. */
  isr: number;
  /** Input with the highest priority. */
  priorityAdd: number;
  /** Vector of input 0. */
  irqBase: number;
  /** 1: reads at A0=0 give the in-service register, 0: the requests. */
  readRegSelect: number;
  /** 1: the next read is a poll. */
  poll: number;
  /** 1: masked in-service inputs do not hold others back. */
  specialMask: number;
  /** Which initialisation command word comes next (1 to 3 for ICW2 to ICW4), 0 for none. */
  initState: number;
  autoEoi: number;
  rotateOnAutoEoi: number;
  specialFullyNestedMode: number;
  /** 1: ICW4 is part of this initialisation. */
  init4: number;
  /** 1 per level-triggered input. */
  elcr: number;
  /** Inputs whose trigger mode can be chosen. */
  elcrMask: number;
  /** 1: ICW1 said there is no cascade, so ICW3 is left out. */
  single: number;
}

/**
 * What putting a level on an interrupt input led to: 1, a request or its end; 0, nothing new because the request was there
 * already; −1, nothing because the input is masked.
 */
export type InputOutcome = 1 | 0 | -1;

/** A chip after power-on; `elcrMask` names the inputs whose trigger mode can be chosen. */
export function initialI8259State(elcrMask: number): I8259State {
  return {
    lastIrr: 0,
    irr: 0,
    imr: 0,
    isr: 0,
    priorityAdd: 0,
    irqBase: 0,
    readRegSelect: 0,
    poll: 0,
    specialMask: 0,
    initState: 0,
    autoEoi: 0,
    rotateOnAutoEoi: 0,
    specialFullyNestedMode: 0,
    init4: 0,
    elcr: 0,
    elcrMask,
    single: 0,
  };
}

/** The inputs of a master's special fully nested mode that a slave may interrupt again: IR2 on a PC. */
const CASCADE = 1 << 2;

/** One chip. The pair around it wires the cascade and tells the processor. */
export class I8259 {
  readonly state: I8259State;
  /** True for the chip whose IR2 is the other one's output. */
  readonly #master: boolean;
  readonly #edgeNeedsHold: boolean;
  readonly #acknowledged: (input: number) => void;

  /** `acknowledged` is told each input whose in-service bit an EOI clears. */
  constructor(master: boolean, elcrMask: number, edgeNeedsHold: boolean, acknowledged: (input: number) => void) {
    this.state = initialI8259State(elcrMask);
    this.#master = master;
    this.#edgeNeedsHold = edgeNeedsHold;
    this.#acknowledged = acknowledged;
  }

  /** Puts a level on an input. */
  setInput(input: number, level: boolean): InputOutcome {
    const s = this.state;
    const bit = 1 << input;
    const requested = s.irr & bit;
    if (level) {
      if (s.elcr & bit || !(s.lastIrr & bit)) s.irr |= bit;
      s.lastIrr |= bit;
    } else {
      if (s.elcr & bit || this.#edgeNeedsHold) s.irr &= ~bit;
      s.lastIrr &= ~bit;
    }
    if (s.imr & bit) return -1;
    return level && (requested || !(s.irr & bit)) ? 0 : 1;
  }

  /** The input the chip asks the processor to serve, or −1: what drives INT. */
  request(): number {
    const s = this.state;
    const candidate = this.#rank(s.irr & ~s.imr);
    if (candidate === 8) return -1;
    let inService = s.isr;
    // Special mask mode: only inputs that are not masked hold lower ones back.
    if (s.specialMask) inService &= ~s.imr;
    // Special fully nested mode: a slave in service may ask again for a higher input of its own.
    if (s.specialFullyNestedMode && this.#master) inService &= ~CASCADE;
    return candidate < this.#rank(inService) ? (candidate + s.priorityAdd) & 7 : -1;
  }

  /** What INTA does with the input that `request` gave. */
  acknowledge(input: number): void {
    const s = this.state;
    const bit = 1 << input;
    if (!(s.elcr & bit)) s.irr &= ~bit;
    s.isr |= bit;
    if (s.autoEoi) {
      if (s.rotateOnAutoEoi) s.priorityAdd = (input + 1) & 7;
      this.#endOfInterrupt(input);
    }
  }

  /** Reads at A0 = `a0`. */
  read(a0: number): number {
    const s = this.state;
    if (s.poll) {
      s.poll = 0;
      const input = this.request();
      if (input < 0) return 0;
      this.acknowledge(input);
      return 0x80 | input;
    }
    return a0 ? s.imr : s.readRegSelect ? s.isr : s.irr;
  }

  /** Writes at A0 = `a0`. */
  write(a0: number, value: number): void {
    if (a0) this.#writeData(value);
    else if (value & 0x10) this.#initialise(value);
    else if (value & 0x08) this.#writeOcw3(value);
    else this.#writeOcw2(value);
  }

  /** Writes the edge/level control register. A level input that is high now asks at once. */
  writeElcr(value: number): void {
    const s = this.state;
    s.elcr = value & s.elcrMask;
    s.irr = (s.irr & ~s.elcr) | (s.lastIrr & s.elcr);
  }

  /** ICW1: clears the mask, the edge detectors and the modes, and waits for ICW2. */
  #initialise(icw1: number): void {
    const s = this.state;
    s.irr = s.lastIrr & s.elcr;
    s.imr = 0;
    s.isr = 0;
    s.priorityAdd = 0;
    s.specialMask = 0;
    s.readRegSelect = 0;
    s.poll = 0;
    s.rotateOnAutoEoi = 0;
    s.init4 = icw1 & 1;
    s.single = (icw1 >> 1) & 1;
    // Without ICW4 all its functions are off.
    if (!s.init4) {
      s.specialFullyNestedMode = 0;
      s.autoEoi = 0;
    }
    s.initState = 1;
  }

  #writeData(value: number): void {
    const s = this.state;
    switch (s.initState) {
      case 0: // OCW1
        s.imr = value;
        break;
      case 1: // ICW2
        s.irqBase = value & 0xf8;
        s.initState = s.single ? (s.init4 ? 3 : 0) : 2;
        break;
      case 2: // ICW3: the cascade is soldered on a PC, so its value says nothing new.
        s.initState = s.init4 ? 3 : 0;
        break;
      default: // ICW4
        s.specialFullyNestedMode = (value >> 4) & 1;
        s.autoEoi = (value >> 1) & 1;
        s.initState = 0;
    }
  }

  /** OCW2: R, SL and EOI in bits 7 to 5, the input it is about in bits 2 to 0. */
  #writeOcw2(value: number): void {
    const s = this.state;
    const rotate = (value & 0x80) !== 0;
    const specific = (value & 0x40) !== 0;
    const eoi = (value & 0x20) !== 0;
    if (!eoi) {
      if (!specific) s.rotateOnAutoEoi = rotate ? 1 : 0;
      else if (rotate) s.priorityAdd = ((value & 7) + 1) & 7;
      return; // specific without rotate or EOI: no operation
    }
    let input = value & 7;
    if (!specific) {
      // In special mask mode a non-specific EOI does not clear what is masked.
      const rank = this.#rank(s.specialMask ? s.isr & ~s.imr : s.isr);
      if (rank === 8) return;
      input = (rank + s.priorityAdd) & 7;
    }
    if (rotate) s.priorityAdd = (input + 1) & 7;
    this.#endOfInterrupt(input);
  }

  #writeOcw3(value: number): void {
    const s = this.state;
    if (value & 0x04) s.poll = 1;
    if (value & 0x02) s.readRegSelect = value & 1;
    if (value & 0x40) s.specialMask = (value >> 5) & 1;
  }

  #endOfInterrupt(input: number): void {
    const s = this.state;
    if (!(s.isr & (1 << input))) return;
    s.isr &= ~(1 << input);
    this.#acknowledged(input);
  }

  /** Rank of the best input in `mask`, 0 for the highest priority, 8 for none. */
  #rank(mask: number): number {
    if (mask === 0) return 8;
    const first = this.state.priorityAdd;
    let rank = 0;
    while (!(mask & (1 << ((rank + first) & 7)))) rank++;
    return rank;
  }
}
