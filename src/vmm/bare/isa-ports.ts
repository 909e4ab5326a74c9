/** The I/O ports of a bare machine, on a bus that takes its time. */

import { PortBus } from '../../devices/bus.ts';
import type { MachineClock } from '../../machine/clock.ts';

/** Eight cycles of an ISA bus at 8 MHz. */
const BYTE_ACCESS_NS = 1000;

/**
 * Byte accesses take as long as on the bus of a PC, a microsecond, whoever answers. Software counts on it: it waits by
 * accesses to idle ports, and polls timers and status registers in loops that would otherwise be a thousand times as long.
 */
export class IsaPorts extends PortBus {
  readonly #clock: MachineClock;

  constructor(clock: MachineClock) {
    super();
    this.#clock = clock;
  }

  override read(port: number, size: number): number {
    if (size === 1) this.#pass();
    return super.read(port, size);
  }

  override write(port: number, size: number, value: number): void {
    if (size === 1) this.#pass();
    super.write(port, size, value);
  }

  #pass(): void {
    this.#clock.skipTo(this.#clock.now() + BYTE_ACCESS_NS);
  }
}
