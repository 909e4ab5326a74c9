/**
 * The I/O APIC: turns 24 interrupt wires into messages to local APICs, by a redirection table.
 *
 * ```
 * redirection entry   63:56 destination  16 mask  15 level  14 remote IRR  13 active low  12 delivery status
 *                     11 logical  10:8 delivery mode  7:0 vector
 * ```
 * Wires are given as asserted or not, so the polarity bit is kept but means nothing here. Delivery takes no time, so the
 * delivery status is always idle.
 *
 * Reference: Intel 82093AA I/O APIC data sheet; for version 20h with its EOI register, the Intel ICH data sheets.
 */
import type { MmioDevice } from './bus.ts';
import type { InputOutcome } from './i8259-chip.ts';
import { DeliveryMode, type InterruptMessage, widenDestination } from './interrupt-message.ts';

/** What the I/O APIC is connected to. */
export interface IoApicOptions {
  /** Sends a message; returns whether at least one local APIC took it. */
  readonly deliver: (message: InterruptMessage, pin: number) => boolean;
  /** Told each pin whose vector a local APIC has ended, before a pin that is still asserted interrupts again. */
  readonly onEoi?: (pin: number) => void;
  /** Number of pins, 24 by default. */
  readonly pins?: number;
  /** Version register: 11h (default), or 20h, which has an EOI register. */
  readonly hardwareVersion?: 0x11 | 0x20;
}

/** The registers; the same things as KVM's kvm_ioapic_state, with each redirection entry in two halves. */
export interface IoApicState {
  version: 1;
  /** Physical address of the registers. */
  baseAddress: number;
  ioregsel: number;
  id: number;
  /** Levels of the wires. */
  irr: number;
  redirectionLow: number[];
  redirectionHigh: number[];
}

const MASKED = 0x1_0000;
const LEVEL = 0x8000;
const REMOTE_IRR = 0x4000;
/** Bits 14 and 12 are read-only, 31:17 reserved. */
const WRITABLE_LOW = 0x1_ffff & ~0x5000;

/** Physical address of the first I/O APIC on a PC. */
export const IOAPIC_DEFAULT_BASE = 0xfec0_0000;

/** One I/O APIC. */
export class IoApic implements MmioDevice {
  readonly state: IoApicState;
  readonly #deliver: (message: InterruptMessage, pin: number) => boolean;
  readonly #onEoi: ((pin: number) => void) | undefined;
  readonly #pins: number;
  readonly #hardwareVersion: number;

  constructor(options: IoApicOptions) {
    this.#deliver = options.deliver;
    this.#onEoi = options.onEoi;
    this.#pins = options.pins ?? 24;
    this.#hardwareVersion = options.hardwareVersion ?? 0x11;
    this.state = this.#initialState();
  }

  /** Power-on: every pin masked. */
  reset(): void {
    Object.assign(this.state, this.#initialState());
  }

  /** Takes over a saved state. Nothing is sent: a level still asserted goes out at its next change, unmasking or EOI. */
  restore(state: IoApicState): void {
    Object.assign(this.state, state);
    this.state.redirectionLow = [...state.redirectionLow];
    this.state.redirectionHigh = [...state.redirectionHigh];
  }

  /** Puts a level on a pin. An edge that finds the pin masked is lost; a level interrupts while it is asserted. */
  setIrq(pin: number, level: boolean): InputOutcome {
    const s = this.state;
    const bit = 1 << pin;
    const before = s.irr;
    if (!level) {
      s.irr &= ~bit;
      return 1;
    }
    s.irr |= bit;
    if (!(this.#low(pin) & LEVEL) && before & bit) return 0;
    if (this.#low(pin) & REMOTE_IRR) return 0;
    return this.#service(pin) ? 1 : -1;
  }

  /**
   * A local APIC has ended `vector`. Pins that sent it as a level may interrupt again, unless the message was taken as an
   * edge (`levelTriggered` false).
   */
  eoi(vector: number, levelTriggered = true): void {
    for (let pin = 0; pin < this.#pins; pin++) {
      const low = this.#low(pin);
      if ((low & 0xff) !== vector) continue;
      this.#onEoi?.(pin);
      if (!levelTriggered || !(low & LEVEL)) continue;
      this.state.redirectionLow[pin] = this.#low(pin) & ~REMOTE_IRR;
      this.#serviceLevel(pin);
    }
  }

  /** What a pin sends. */
  message(pin: number): InterruptMessage {
    const low = this.#low(pin);
    return {
      destination: widenDestination((this.state.redirectionHigh[pin] ?? 0) >>> 24),
      logical: (low & 0x800) !== 0,
      deliveryMode: (low >> 8) & 7,
      vector: low & 0xff,
      levelTriggered: (low & LEVEL) !== 0,
      asserted: true,
    };
  }

  mmioRead(offset: number, size: number): number {
    const register = offset & 0xf0;
    const value = register === 0x00 ? this.state.ioregsel : register === 0x10 ? this.#readIndirect() : 0;
    const part = value >>> (8 * (offset & 3));
    return size === 1 ? part & 0xff : size === 2 ? part & 0xffff : part >>> 0;
  }

  mmioWrite(offset: number, _size: number, value: number | bigint): void {
    const data = Number(BigInt(value) & 0xffff_ffffn);
    switch (offset & 0xff) {
      case 0x00:
        this.state.ioregsel = data & 0xff;
        break;
      case 0x10:
        this.#writeIndirect(data);
        break;
      case 0x40:
        if (this.#hardwareVersion >= 0x20) this.eoi(data & 0xff);
        break;
    }
  }

  #readIndirect(): number {
    const index = this.state.ioregsel;
    if (index === 0 || index === 2) return this.state.id << 24;
    if (index === 1) return this.#hardwareVersion | ((this.#pins - 1) << 16);
    const pin = (index - 0x10) >> 1;
    if (pin < 0 || pin >= this.#pins) return 0;
    return (index & 1 ? this.state.redirectionHigh[pin] : this.#low(pin)) ?? 0;
  }

  #writeIndirect(value: number): void {
    const index = this.state.ioregsel;
    const pin = (index - 0x10) >> 1;
    if (index === 0) this.state.id = (value >>> 24) & 0x0f;
    if (pin < 0 || pin >= this.#pins) return;
    if (index & 1) {
      this.state.redirectionHigh[pin] = (value & 0xff00_0000) >>> 0;
      return;
    }
    let low = (value & WRITABLE_LOW) | (this.#low(pin) & REMOTE_IRR);
    // An edge has no remote IRR. Systems without an EOI register clear a stuck one by switching to edge and back.
    if (!(low & LEVEL)) low &= ~REMOTE_IRR;
    this.state.redirectionLow[pin] = low;
    this.#serviceLevel(pin);
  }

  #low(pin: number): number {
    return this.state.redirectionLow[pin] ?? MASKED;
  }

  /** A level pin that is asserted sends its message as soon as nothing holds it back. */
  #serviceLevel(pin: number): void {
    const low = this.#low(pin);
    if (low & LEVEL && !(low & REMOTE_IRR) && this.state.irr & (1 << pin)) this.#service(pin);
  }

  #service(pin: number): boolean {
    const low = this.#low(pin);
    if (low & MASKED) return false;
    const message = this.message(pin);
    if (!this.#deliver(message, pin)) return false;
    // Only what a local APIC will end by EOI holds the pin back meanwhile.
    const ends = message.deliveryMode <= DeliveryMode.lowestPriority;
    if (low & LEVEL && ends) this.state.redirectionLow[pin] = this.#low(pin) | REMOTE_IRR;
    return true;
  }

  #initialState(): IoApicState {
    return {
      version: 1,
      baseAddress: IOAPIC_DEFAULT_BASE,
      ioregsel: 0,
      id: 0,
      irr: 0,
      redirectionLow: Array.from({ length: this.#pins }, () => MASKED),
      redirectionHigh: Array.from({ length: this.#pins }, () => 0),
    };
  }
}
