/**
 * The firmware configuration device of virtual machines: numbered items that firmware reads byte by byte, some of them files
 * with names.
 *
 * ```
 * 510h  selector, 16 bits: which item is read, from its start
 * 511h  data, 8 bits: the next byte; 0 behind the end
 * ```
 * Reference: QEMU's "QEMU Firmware Configuration (fw_cfg) Device".
 */
import type { PortBus, PortDevice } from './bus.ts';

const SELECTOR = 0x510;
/** Items by number. */
const SIGNATURE = 0x00;
const FEATURES = 0x01;
const DIRECTORY = 0x19;
const FIRST_FILE = 0x20;
/** The only feature: the two registers. */
const TRADITIONAL = 1;
const NAME_SIZE = 56;

/** Selector and data register with the items behind them. */
export class FirmwareConfig implements PortDevice {
  readonly portWidth = 2;
  readonly #items: Map<number, Uint8Array> = new Map();
  readonly #files: { readonly name: string; readonly size: number; readonly item: number }[] = [];
  #item: Uint8Array | undefined;
  #offset = 0;

  constructor() {
    this.#items.set(SIGNATURE, ascii('QEMU'));
    this.number(FEATURES, TRADITIONAL, 4);
  }

  /** Claims the two ports. */
  attach(bus: PortBus): void {
    bus.register(SELECTOR, 2, this);
  }

  /** Sets an item to a number of `size` bytes. */
  number(item: number, value: number, size: number): void {
    this.#items.set(item, littleEndian(value, size));
  }

  /** Adds a file; names are ASCII, at most 55 characters. */
  file(name: string, content: Uint8Array): void {
    const item = FIRST_FILE + this.#files.length;
    this.#items.set(item, content);
    this.#files.push({ name, size: content.length, item });
    this.#items.set(DIRECTORY, this.#directory());
  }

  /** Adds a file that holds a number of eight bytes. */
  numberFile(name: string, value: number): void {
    this.file(name, littleEndian(value, 8));
  }

  portRead(port: number, size: number): number {
    if (port === SELECTOR) return 0;
    let value = 0;
    for (let n = 0; n < size; n++) value |= (this.#item?.[this.#offset++] ?? 0) << (8 * n);
    return value;
  }

  portWrite(port: number, size: number, value: number): void {
    if (port !== SELECTOR || size !== 2) return;
    this.#item = this.#items.get(value);
    this.#offset = 0;
  }

  /** Count, then size, item and name of each file; numbers have their highest byte first. */
  #directory(): Uint8Array {
    const bytes = new Uint8Array(4 + this.#files.length * (8 + NAME_SIZE));
    const view = new DataView(bytes.buffer);
    view.setUint32(0, this.#files.length);
    this.#files.forEach(({ name, size, item }, n) => {
      const at = 4 + n * (8 + NAME_SIZE);
      view.setUint32(at, size);
      view.setUint16(at + 4, item);
      bytes.set(ascii(name).subarray(0, NAME_SIZE - 1), at + 8);
    });
    return bytes;
  }
}

function littleEndian(value: number, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let n = 0, rest = value; n < size; n++, rest = Math.floor(rest / 256)) bytes[n] = rest % 256;
  return bytes;
}

const ascii = (text: string): Uint8Array => Uint8Array.from(text, (character) => character.charCodeAt(0));
