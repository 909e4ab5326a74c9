/** Character devices by name: what /dev holds. @upstream drivers/char/misc.c */
import { EBUSY, type Errno } from './errno.ts';

/** Registered devices; the value is what opening one gives. */
export class MiscDevices {
  readonly #devices: Map<string, unknown> = new Map();

  /** −EBUSY if the name is taken. @upstream misc_register() */
  register(name: string, device: unknown): Errno {
    if (this.#devices.has(name)) return -EBUSY;
    this.#devices.set(name, device);
    return 0;
  }
  deregister(name: string): void {
    this.#devices.delete(name);
  }
  /** The device, or undefined (−ENOENT to callers). */
  open(name: string): unknown {
    return this.#devices.get(name);
  }
}
