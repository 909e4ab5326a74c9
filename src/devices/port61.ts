/**
 * System control port B: the gate and output of timer 2, the speaker, and the refresh toggle that old code measures time by.
 *
 * Reference: Intel PIIX3/ICH data sheets, "NMI Status and Control Register (port 61h)".
 */
import type { PortBus, PortDevice } from './bus.ts';
import type { Clock } from './clock.ts';
import { type I8254, PIT_HZ } from './i8254.ts';
import { nsToTicks } from './ticks.ts';

/** Counter 1 of a PC asks for a memory refresh every 18 ticks (15.09 µs); bit 4 toggles with it. */
const REFRESH_TICKS = 18;

/** Port 61h. */
export class SystemControlPortB implements PortDevice {
  readonly portWidth = 1;
  /** `control` holds bits 3:0 as written: gate of timer 2, speaker data, and the two check enables. */
  readonly state: { version: 1; control: number } = { version: 1, control: 0 };
  readonly #pit: I8254;
  readonly #clock: Clock;

  constructor(options: { readonly pit: I8254; readonly clock: Clock }) {
    this.#pit = options.pit;
    this.#clock = options.clock;
  }

  /** Claims port 61h. */
  attach(bus: PortBus): void {
    bus.register(0x61, 1, this);
  }

  /** Power-on: the speaker is off and timer 2 stands. */
  reset(): void {
    this.portWrite(0x61, 1, 0);
  }

  /** Takes over a saved state; the timer restores its own gate. */
  restore(state: { version: 1; control: number }): void {
    Object.assign(this.state, state);
  }

  portRead(_port: number, _size: number): number {
    const refresh = Math.floor(nsToTicks(this.#clock.now(), PIT_HZ) / REFRESH_TICKS) & 1;
    return this.state.control | (refresh << 4) | (this.#pit.output(2) ? 0x20 : 0);
  }

  portWrite(_port: number, _size: number, value: number): void {
    this.state.control = value & 0x0f;
    this.#pit.setGate(2, (value & 1) !== 0);
  }
}
