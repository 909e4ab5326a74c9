/**
 * Physical memory: RAM behind 52-bit physical addresses.
 *
 * Everything outside the engine reaches memory through read and write; addresses that no RAM claims read as all ones
 * and writes to them are dropped, as on a bus where nobody answers (devices are the owner's business, see `mmio`).
 */
import type { Hpa } from '../util/address.ts';
import { MAX_RAM, RAM_BASE } from './engine/layout.ts';

/** A bus behind the addresses that are no RAM. Sizes are 1, 2, 4 or 8 bytes; values are zero-extended. */
export interface PhysicalBus {
  read(hpa: Hpa, size: number): bigint;
  write(hpa: Hpa, size: number, value: bigint): void;
}

const MASK = [0n, 0xffn, 0xffffn, 0n, 0xffff_ffffn, 0n, 0n, 0n, 0xffff_ffff_ffff_ffffn];

export class PhysicalMemory {
  readonly memory: WebAssembly.Memory;
  readonly view: DataView;
  readonly bytes: Uint8Array;
  /** RAM occupies [0, ramSize). */
  readonly ramSize: number;
  /** Devices behind the other addresses. */
  bus: PhysicalBus | null = null;
  /** Told the page-aligned address of each page the host, a device or firmware changes, so that decoded code is dropped. */
  pageWritten: (page: Hpa) => void = () => {};

  /** @param ramSize bytes of RAM, a multiple of 64 KiB */
  constructor(ramSize: number) {
    if (ramSize > MAX_RAM || ramSize % 0x10000 !== 0) throw new RangeError(`RAM size ${ramSize} is not possible`);
    this.ramSize = ramSize;
    this.memory = new WebAssembly.Memory({ initial: (RAM_BASE + ramSize) / 0x10000 });
    this.view = new DataView(this.memory.buffer);
    this.bytes = new Uint8Array(this.memory.buffer);
  }

  /** Whether [hpa, hpa + size) is RAM. */
  isRam(hpa: Hpa, size = 1): boolean {
    return hpa >= 0 && hpa + size <= this.ramSize;
  }

  read8(hpa: Hpa): number {
    return this.isRam(hpa, 1) ? this.view.getUint8(RAM_BASE + hpa) : Number(this.#busRead(hpa, 1));
  }
  read16(hpa: Hpa): number {
    return this.isRam(hpa, 2) ? this.view.getUint16(RAM_BASE + hpa, true) : Number(this.#busRead(hpa, 2));
  }
  read32(hpa: Hpa): number {
    return this.isRam(hpa, 4) ? this.view.getUint32(RAM_BASE + hpa, true) : Number(this.#busRead(hpa, 4));
  }
  read64(hpa: Hpa): bigint {
    return this.isRam(hpa, 8) ? this.view.getBigUint64(RAM_BASE + hpa, true) : this.#busRead(hpa, 8);
  }
  write8(hpa: Hpa, value: number): void {
    if (!this.isRam(hpa, 1)) return this.#busWrite(hpa, 1, BigInt(value));
    this.view.setUint8(RAM_BASE + hpa, value);
    this.pageWritten(hpa - (hpa % 4096));
  }
  write16(hpa: Hpa, value: number): void {
    if (!this.isRam(hpa, 2)) return this.#busWrite(hpa, 2, BigInt(value));
    this.view.setUint16(RAM_BASE + hpa, value, true);
    this.#written(hpa, 2);
  }
  write32(hpa: Hpa, value: number): void {
    if (!this.isRam(hpa, 4)) return this.#busWrite(hpa, 4, BigInt(value >>> 0));
    this.view.setUint32(RAM_BASE + hpa, value, true);
    this.#written(hpa, 4);
  }
  write64(hpa: Hpa, value: bigint): void {
    if (!this.isRam(hpa, 8)) return this.#busWrite(hpa, 8, value);
    this.view.setBigUint64(RAM_BASE + hpa, value, true);
    this.#written(hpa, 8);
  }

  /** A copy of `length` bytes; what is no RAM reads as 0xff. */
  readBytes(hpa: Hpa, length: number): Uint8Array {
    if (this.isRam(hpa, length)) return this.bytes.slice(RAM_BASE + hpa, RAM_BASE + hpa + length);
    const out = new Uint8Array(length);
    for (let i = 0; i < length; i++) out[i] = this.read8(hpa + i);
    return out;
  }

  writeBytes(hpa: Hpa, data: Uint8Array): void {
    if (!this.isRam(hpa, data.length)) {
      for (let i = 0; i < data.length; i++) this.write8(hpa + i, data[i]!);
      return;
    }
    this.bytes.set(data, RAM_BASE + hpa);
    if (data.length > 0) this.#written(hpa, data.length);
  }

  fill(hpa: Hpa, length: number, value = 0): void {
    if (!this.isRam(hpa, length)) throw new RangeError(`fill outside RAM: ${hpa.toString(16)}`);
    this.bytes.fill(value, RAM_BASE + hpa, RAM_BASE + hpa + length);
    if (length > 0) this.#written(hpa, length);
  }

  #written(hpa: Hpa, length: number): void {
    for (let page = hpa - (hpa % 4096); page < hpa + length; page += 4096) this.pageWritten(page);
  }

  #busRead(hpa: Hpa, size: number): bigint {
    return this.bus?.read(hpa, size) ?? MASK[size]!;
  }

  #busWrite(hpa: Hpa, size: number, value: bigint): void {
    this.bus?.write(hpa, size, value & MASK[size]!);
  }
}
