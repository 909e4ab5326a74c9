/**
 * Physical memory: RAM behind 52-bit physical addresses.
 *
 * Everything outside the engine reaches memory through read and write; addresses that no RAM claims read as all ones
 * and writes to them are dropped, as on a bus where nobody answers (devices are the owner's business, see `bus`); so are
 * writes to ROM.
 * Where the machine has KeyIDs, an address may carry a shared one; one with a private KeyID reaches nothing here. What
 * belongs to another key is as `keyed` says for the KeyID.
 */
import type { Hpa } from '../util/address.ts';
import { MAX_RAM, RAM_BASE } from './engine/layout.ts';
import { KeyedMemory } from './keyed-memory.ts';
import { isPrivateKeyId, KEYID_SHIFT, keyIdOf, stripKeyId } from './seam/key-id.ts';

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
  /** RAM, and behind it the bytes of ROM: what has a place in `bytes`. */
  readonly backedSize: number;
  /** ROM occupies [romBase, 4 GiB). */
  readonly romBase: number;
  /** Devices behind the other addresses. */
  bus: PhysicalBus | null = null;
  /**
   * Told the page-aligned address of each page the host, a device or firmware changes, so that decoded code is dropped; and
   * which of its bytes, if not all.
   */
  pageWritten: (page: Hpa, offset?: number, length?: number) => void = () => {};
  /** Upper bits of addresses are KeyIDs. */
  readonly hasKeyIds: boolean;
  /** The same memory by KeyID. */
  readonly keyed: KeyedMemory;
  /** Addresses from here on carry a KeyID. */
  readonly #keyIdBase: number;

  /**
   * @param ramSize bytes of RAM, a multiple of 64 KiB
   * @param keyIds physical addresses have KeyIDs in their upper bits
   * @param rom read-only memory that ends at 4 GiB, a multiple of 4 KiB
   */
  constructor(ramSize: number, keyIds = false, rom: Uint8Array = new Uint8Array(0)) {
    const backed = ramSize + rom.length;
    if (backed > MAX_RAM || ramSize % 0x10000 !== 0) throw new RangeError(`RAM size ${ramSize} is not possible`);
    if (rom.length % 0x1000 !== 0) throw new RangeError(`ROM size ${rom.length} is not possible`);
    this.ramSize = ramSize;
    this.backedSize = backed;
    this.romBase = 0x1_0000_0000 - rom.length;
    this.memory = new WebAssembly.Memory({ initial: Math.ceil((RAM_BASE + backed) / 0x10000) });
    this.view = new DataView(this.memory.buffer);
    this.bytes = new Uint8Array(this.memory.buffer);
    this.bytes.set(rom, RAM_BASE + ramSize);
    this.hasKeyIds = keyIds;
    this.#keyIdBase = keyIds ? 2 ** KEYID_SHIFT : Number.POSITIVE_INFINITY;
    this.keyed = new KeyedMemory(this);
  }

  /** Whether [hpa, hpa + size) is RAM. */
  isRam(hpa: Hpa, size = 1): boolean {
    return hpa >= 0 && hpa + size <= this.ramSize;
  }

  /**
   * Where the bytes of an address are found, as an address in RAM or in the ROM's bytes behind it; -1 where there are none.
   * Addresses of ROM bytes mean nothing elsewhere.
   */
  backing(hpa: Hpa): number {
    if (hpa < this.ramSize) return hpa;
    return hpa >= this.romBase && hpa < 0x1_0000_0000 ? this.ramSize + (hpa - this.romBase) : -1;
  }

  /** The physical address of what {@link backing} has found. */
  addressOf(backing: number): Hpa {
    return backing < this.ramSize ? backing : this.romBase + (backing - this.ramSize);
  }

  read8(hpa: Hpa): number {
    return this.#plain(hpa, 1) ? this.view.getUint8(RAM_BASE + hpa) : Number(this.#read(hpa, 1));
  }
  read16(hpa: Hpa): number {
    return this.#plain(hpa, 2) ? this.view.getUint16(RAM_BASE + hpa, true) : Number(this.#read(hpa, 2));
  }
  read32(hpa: Hpa): number {
    return this.#plain(hpa, 4) ? this.view.getUint32(RAM_BASE + hpa, true) : Number(this.#read(hpa, 4));
  }
  read64(hpa: Hpa): bigint {
    return this.#plain(hpa, 8) ? this.view.getBigUint64(RAM_BASE + hpa, true) : this.#read(hpa, 8);
  }
  write8(hpa: Hpa, value: number): void {
    if (!this.#plain(hpa, 1)) return this.#write(hpa, 1, BigInt(value));
    this.view.setUint8(RAM_BASE + hpa, value);
    this.pageWritten(hpa - (hpa % 4096), hpa % 4096, 1);
  }
  write16(hpa: Hpa, value: number): void {
    if (!this.#plain(hpa, 2)) return this.#write(hpa, 2, BigInt(value));
    this.view.setUint16(RAM_BASE + hpa, value, true);
    this.#written(hpa, 2);
  }
  write32(hpa: Hpa, value: number): void {
    if (!this.#plain(hpa, 4)) return this.#write(hpa, 4, BigInt(value >>> 0));
    this.view.setUint32(RAM_BASE + hpa, value, true);
    this.#written(hpa, 4);
  }
  write64(hpa: Hpa, value: bigint): void {
    if (!this.#plain(hpa, 8)) return this.#write(hpa, 8, value);
    this.view.setBigUint64(RAM_BASE + hpa, value, true);
    this.#written(hpa, 8);
  }

  /** A copy of `length` bytes; what is no RAM reads as 0xff. */
  readBytes(hpa: Hpa, length: number): Uint8Array {
    const { keyed } = this;
    if (this.isRam(hpa, length)) {
      if (keyed.foreignPages !== 0) return keyed.readBytes(hpa, 0, length);
      return this.bytes.slice(RAM_BASE + hpa, RAM_BASE + hpa + length);
    }
    const out = new Uint8Array(length);
    for (let i = 0; i < length; i++) out[i] = this.read8(hpa + i);
    return out;
  }

  writeBytes(hpa: Hpa, data: Uint8Array): void {
    const { keyed } = this;
    if (!this.isRam(hpa, data.length)) {
      for (let i = 0; i < data.length; i++) this.write8(hpa + i, data[i]!);
    } else if (keyed.foreignPages !== 0) {
      keyed.writeBytes(hpa, 0, data);
    } else {
      this.bytes.set(data, RAM_BASE + hpa);
      if (data.length > 0) this.#written(hpa, data.length);
    }
  }

  fill(hpa: Hpa, length: number, value = 0): void {
    if (!this.isRam(hpa, length)) throw new RangeError(`fill outside RAM: ${hpa.toString(16)}`);
    if (this.keyed.foreignPages !== 0) return this.keyed.fill(hpa, 0, length, value);
    this.bytes.fill(value, RAM_BASE + hpa, RAM_BASE + hpa + length);
    if (length > 0) this.#written(hpa, length);
  }

  /** What is behind an address that is no RAM. */
  busRead(hpa: Hpa, size: number): bigint {
    if (hpa >= this.romBase && hpa + size <= 0x1_0000_0000) return this.#readRom(this.backing(hpa), size);
    return this.bus?.read(hpa, size) ?? MASK[size]!;
  }

  busWrite(hpa: Hpa, size: number, value: bigint): void {
    if (hpa >= this.romBase && hpa < 0x1_0000_0000) return;
    this.bus?.write(hpa, size, value & MASK[size]!);
  }

  #readRom(at: number, size: number): bigint {
    let value = 0n;
    for (let n = size - 1; n >= 0; n--) value = (value << 8n) | BigInt(this.bytes[RAM_BASE + at + n]!);
    return value;
  }

  /** RAM that is KeyID 0's. */
  #plain(hpa: Hpa, size: number): boolean {
    return this.isRam(hpa, size) && (this.keyed.foreignPages === 0 || this.keyed.owns(hpa, size, 0));
  }

  #written(hpa: Hpa, length: number): void {
    const first = hpa - (hpa % 4096);
    if (hpa + length <= first + 4096) return this.pageWritten(first, hpa % 4096, length);
    for (let page = first; page < hpa + length; page += 4096) this.pageWritten(page);
  }

  #read(hpa: Hpa, size: number): bigint {
    if (hpa < this.#keyIdBase) return this.isRam(hpa, size) ? this.keyed.read(hpa, 0, size) : this.busRead(hpa, size);
    const keyId = keyIdOf(hpa);
    return isPrivateKeyId(keyId) ? MASK[size]! : this.keyed.read(stripKeyId(hpa), keyId, size);
  }

  #write(hpa: Hpa, size: number, value: bigint): void {
    if (hpa < this.#keyIdBase) {
      if (this.isRam(hpa, size)) this.keyed.write(hpa, 0, size, value);
      else this.busWrite(hpa, size, value);
      return;
    }
    const keyId = keyIdOf(hpa);
    if (!isPrivateKeyId(keyId)) this.keyed.write(stripKeyId(hpa), keyId, size, value);
  }
}
