/**
 * The sleep control and status registers of hardware-reduced ACPI, on two I/O ports.
 *
 * @see ACPI "Sleep Control and Status Registers"
 */

import type { PortBus, PortDevice } from '../../devices/bus.ts';

export const SLEEP_CONTROL_PORT = 0x600;
export const SLEEP_STATUS_PORT = 0x601;

const SLP_EN = 1 << 5;
const SLP_TYP_SHIFT = 2;
const SLP_TYP_MASK = 7;

/** Puts the machine to sleep; it does not wake by itself, so the status register's WAK_STS is never set. */
export class SleepControl implements PortDevice {
  readonly portWidth = 1;
  readonly #sleep: (type: number) => void;

  /** @param options `sleep`: software has entered the sleep state with this SLP_TYP. */
  constructor(options: { readonly sleep: (type: number) => void }) {
    this.#sleep = options.sleep;
  }

  portRead(): number {
    return 0;
  }

  portWrite(port: number, _size: number, value: number): void {
    if (port === SLEEP_CONTROL_PORT && (value & SLP_EN) !== 0) this.#sleep((value >> SLP_TYP_SHIFT) & SLP_TYP_MASK);
  }

  /** Claims both ports. */
  attach(bus: PortBus): void {
    bus.register(SLEEP_CONTROL_PORT, 2, this);
  }
}
