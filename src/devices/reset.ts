/**
 * The small ports by which software resets or leaves the machine.
 *
 * Reference: Intel PIIX3/ICH data sheets, "PORT92 (Fast A20 and Init Register)" and "RST_CNT (Reset Control Register)".
 */
import type { PortBus, PortDevice } from './bus.ts';

/** System control port A (92h): bit 0 resets the processor when it goes to 1, bit 1 opens address line 20. */
export class SystemControlPortA implements PortDevice {
  readonly portWidth = 1;
  readonly state: { version: 1; value: number } = { version: 1, value: 2 };
  readonly #reset: () => void;
  readonly #a20: ((enabled: boolean) => void) | undefined;

  constructor(options: { readonly reset: () => void; readonly a20?: (enabled: boolean) => void }) {
    this.#reset = options.reset;
    this.#a20 = options.a20;
  }

  /** Claims port 92h. */
  attach(bus: PortBus): void {
    bus.register(0x92, 1, this);
  }

  /** Power-on: address line 20 is open, as firmware leaves it. */
  reset(): void {
    this.state.value = 2;
  }

  /** Takes over a saved state. */
  restore(state: { version: 1; value: number }): void {
    Object.assign(this.state, state);
  }

  portRead(_port: number, _size: number): number {
    return this.state.value;
  }

  portWrite(_port: number, _size: number, value: number): void {
    const changed = this.state.value ^ value;
    this.state.value = value & 3;
    if (changed & 2) this.#a20?.((value & 2) !== 0);
    if (changed & value & 1) this.#reset();
  }
}

/** Reset control register (CF9h): bit 2 going to 1 resets, the whole system if bit 1 or 3 is set, else the processors. */
export class ResetControl implements PortDevice {
  readonly portWidth = 1;
  readonly state: { version: 1; value: number } = { version: 1, value: 0 };
  readonly #reset: (hard: boolean) => void;

  constructor(options: { readonly reset: (hard: boolean) => void }) {
    this.#reset = options.reset;
  }

  /** Claims port CF9h. */
  attach(bus: PortBus): void {
    bus.register(0xcf9, 1, this);
  }

  /** Power-on. */
  reset(): void {
    this.state.value = 0;
  }

  /** Takes over a saved state. */
  restore(state: { version: 1; value: number }): void {
    Object.assign(this.state, state);
  }

  portRead(_port: number, _size: number): number {
    return this.state.value;
  }

  portWrite(_port: number, _size: number, value: number): void {
    const rising = value & ~this.state.value & 4;
    this.state.value = value & 0x0e;
    if (rising) this.#reset((value & 0x0a) !== 0);
  }
}

/** The debug-exit port (F4h by default): a write ends the run with the value written. Reads give 0. */
export class DebugExit implements PortDevice {
  readonly #exit: (value: number) => void;

  constructor(options: { readonly exit: (value: number) => void }) {
    this.#exit = options.exit;
  }

  /** Claims four ports, by default from F4h. */
  attach(bus: PortBus, base = 0xf4): void {
    bus.register(base, 4, this);
  }

  portRead(_port: number, _size: number): number {
    return 0;
  }

  portWrite(_port: number, _size: number, value: number): void {
    this.#exit(value);
  }
}
