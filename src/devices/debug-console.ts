/** The debug port of PC firmware (402h): what is written there is text for whoever watches. Reads give E9h, by which it is found. */
import type { PortBus, PortDevice } from './bus.ts';

const PRESENT = 0xe9;

/** One port. */
export class DebugConsole implements PortDevice {
  readonly portWidth = 1;
  readonly #transmit: (byte: number) => void;

  constructor(options: { readonly transmit: (byte: number) => void }) {
    this.#transmit = options.transmit;
  }

  /** Claims the port. */
  attach(bus: PortBus, port = 0x402): void {
    bus.register(port, 1, this);
  }

  portRead(_port: number, _size: number): number {
    return PRESENT;
  }

  portWrite(_port: number, _size: number, value: number): void {
    this.#transmit(value);
  }
}
