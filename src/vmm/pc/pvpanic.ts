/** The panic notification port of QEMU: a guest's driver writes a bit when its kernel dies. @see QEMU docs/specs/pvpanic.rst */

import type { PortBus, PortDevice } from '../../devices/bus.ts';
import { PVPANIC_PORT } from '../layout.ts';

const PANICKED = 1;

/** One port; reading tells the events it takes. */
export class PvPanic implements PortDevice {
  readonly portWidth = 1;
  readonly #panicked: () => void;

  constructor(options: { readonly panicked: () => void }) {
    this.#panicked = options.panicked;
  }
  portRead(): number {
    return PANICKED;
  }
  portWrite(_port: number, _size: number, value: number): void {
    if ((value & PANICKED) !== 0) this.#panicked();
  }
  attach(bus: PortBus): void {
    bus.register(PVPANIC_PORT, 1, this);
  }
}
