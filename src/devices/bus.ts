/**
 * The two address spaces devices answer in, and the wires they pull.
 *
 * An access nobody claims reads as all ones and writes into nowhere, as on a PC.
 */

/** An interrupt or signal wire: true is asserted. Setting the level it already has changes nothing. */
export type IrqLine = (level: boolean) => void;

/** Something that answers I/O ports. Values are unsigned, of `size` bytes. */
export interface PortDevice {
  /** Widest access in bytes that the device decodes (default 4); the bus splits wider ones into accesses at rising ports. */
  readonly portWidth?: 1 | 2 | 4;
  portRead(port: number, size: number): number;
  portWrite(port: number, size: number, value: number): void;
}

/** Something that answers memory addresses. Values of eight bytes are bigints, smaller ones unsigned numbers. */
export interface MmioDevice {
  mmioRead(offset: number, size: number): number | bigint;
  mmioWrite(offset: number, size: number, value: number | bigint): void;
}

/** All ones in `size` bytes: what a floating bus reads as. */
export function allOnes(size: number): number {
  return size === 1 ? 0xff : size === 2 ? 0xffff : 0xffff_ffff;
}

const PORTS = 0x1_0000;

/** The 64 Ki I/O ports. */
export class PortBus {
  readonly #devices: (PortDevice | undefined)[] = [];

  /** Gives `count` ports from `first` on to `device`. Throws RangeError if one of them is taken or does not exist. */
  register(first: number, count: number, device: PortDevice): void {
    if (first < 0 || count < 1 || first + count > PORTS) {
      throw new RangeError(`no such ports: ${first.toString(16)}+${count}`);
    }
    for (let port = first; port < first + count; port++) {
      if (this.#devices[port] !== undefined) {
        throw new RangeError(`port ${port.toString(16)} is taken`);
      }
    }
    for (let port = first; port < first + count; port++) this.#devices[port] = device;
  }

  /** Frees `count` ports from `first` on. */
  unregister(first: number, count: number): void {
    for (let port = first; port < first + count; port++) this.#devices[port] = undefined;
  }

  /** Who answers at `port`. */
  find(port: number): PortDevice | undefined {
    return this.#devices[port];
  }

  /** Reads `size` bytes (1, 2 or 4) at `port`. */
  read(port: number, size: number): number {
    const device = this.#devices[port];
    const width = device === undefined ? 1 : (device.portWidth ?? 4);
    if (size <= width) return device === undefined ? 0xff : device.portRead(port, size);
    let value = 0;
    for (let i = 0; i < size; i += width) {
      value += this.read((port + i) & 0xffff, width) * 2 ** (8 * i);
    }
    return value;
  }

  /** Writes `size` bytes (1, 2 or 4) at `port`. */
  write(port: number, size: number, value: number): void {
    const device = this.#devices[port];
    const width = device === undefined ? 1 : (device.portWidth ?? 4);
    if (size <= width) {
      device?.portWrite(port, size, value);
      return;
    }
    for (let i = 0; i < size; i += width) {
      const piece = width === 1 ? (value >>> (8 * i)) & 0xff : (value >>> (8 * i)) & 0xffff;
      this.write((port + i) & 0xffff, width, piece);
    }
  }
}

/** A claimed piece of the physical address space. */
export interface MmioRange {
  readonly base: number;
  readonly length: number;
  readonly device: MmioDevice;
}

/** The memory-mapped devices, found by physical address. */
export class MmioBus {
  readonly #ranges: MmioRange[] = [];
  #last: MmioRange | undefined;

  /** Gives `length` bytes from `base` on to `device`. Throws RangeError if they overlap a claimed range. */
  register(base: number, length: number, device: MmioDevice): void {
    const clash = this.#ranges.find((r) => base < r.base + r.length && r.base < base + length);
    if (clash !== undefined || length < 1) {
      throw new RangeError(`MMIO range ${base.toString(16)}+${length.toString(16)} is taken or empty`);
    }
    this.#ranges.push({ base, length, device });
    this.#ranges.sort((a, b) => a.base - b.base);
  }

  /** Frees the range that begins at `base`. */
  unregister(base: number): void {
    const index = this.#ranges.findIndex((range) => range.base === base);
    if (index >= 0) this.#ranges.splice(index, 1);
    this.#last = undefined;
  }

  /** The range that holds `address`. */
  find(address: number): MmioRange | undefined {
    const last = this.#last;
    if (last !== undefined && address >= last.base && address < last.base + last.length) return last;
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const range = this.#ranges[middle] as MmioRange;
      if (address < range.base) high = middle;
      else if (address >= range.base + range.length) low = middle + 1;
      else {
        this.#last = range;
        return range;
      }
    }
    return undefined;
  }

  /** Reads `size` bytes (1, 2, 4 or 8) at `address`; a bigint exactly when `size` is 8. */
  read(address: number, size: number): number | bigint {
    const range = this.find(address);
    if (range === undefined) return size === 8 ? 0xffff_ffff_ffff_ffffn : allOnes(size);
    const value = range.device.mmioRead(address - range.base, size);
    return size === 8 ? BigInt(value) : Number(value);
  }

  /** Writes `size` bytes (1, 2, 4 or 8) at `address`. */
  write(address: number, size: number, value: number | bigint): void {
    const range = this.find(address);
    if (range === undefined) return;
    range.device.mmioWrite(address - range.base, size, size === 8 ? BigInt(value) : Number(value));
  }
}
