/**
 * Memory as the processor reaches the structures that a VMCS points to: bitmaps, virtual-APIC page, MSR lists, logs.
 *
 * Outside SEAM that is physical memory itself. The structures of a TD are in its private memory.
 */
import type { Hpa } from '../../util/address.ts';
import type { KeyedMemory } from '../keyed-memory.ts';
import type { PhysicalMemory } from '../memory.ts';
import { isPrivateKeyId, keyIdOf, stripKeyId } from '../seam/key-id.ts';

/** Reads and writes by whole physical address. */
export type StructureMemory = Pick<
  PhysicalMemory,
  'read8' | 'read16' | 'read32' | 'read64' | 'write8' | 'write16' | 'write32' | 'write64' | 'readBytes' | 'writeBytes'
>;

/** Structures of a TD. An access to a line of another KeyID reads zeros, writes nothing, and reports a machine check. */
export class SeamMemory implements StructureMemory {
  /** The TD's KeyID, for addresses that carry none. */
  keyId = 0;
  readonly #keyed: KeyedMemory;
  readonly #machineCheck: () => void;

  constructor(keyed: KeyedMemory, machineCheck: () => void) {
    this.#keyed = keyed;
    this.#machineCheck = machineCheck;
  }

  read8(hpa: Hpa): number {
    return Number(this.#read(hpa, 1));
  }
  read16(hpa: Hpa): number {
    return Number(this.#read(hpa, 2));
  }
  read32(hpa: Hpa): number {
    return Number(this.#read(hpa, 4));
  }
  read64(hpa: Hpa): bigint {
    return this.#read(hpa, 8);
  }
  write8(hpa: Hpa, value: number): void {
    this.#write(hpa, 1, BigInt(value));
  }
  write16(hpa: Hpa, value: number): void {
    this.#write(hpa, 2, BigInt(value));
  }
  write32(hpa: Hpa, value: number): void {
    this.#write(hpa, 4, BigInt(value >>> 0));
  }
  write64(hpa: Hpa, value: bigint): void {
    this.#write(hpa, 8, value);
  }
  readBytes(hpa: Hpa, length: number): Uint8Array {
    const key = this.#keyFor(hpa, length);
    return key < 0 ? new Uint8Array(length) : this.#keyed.readBytes(stripKeyId(hpa), key, length);
  }
  writeBytes(hpa: Hpa, data: Uint8Array): void {
    const key = this.#keyFor(hpa, data.length);
    if (key >= 0) this.#keyed.writeBytes(stripKeyId(hpa), key, data);
  }

  #read(hpa: Hpa, size: number): bigint {
    const key = this.#keyFor(hpa, size);
    return key < 0 ? 0n : this.#keyed.read(stripKeyId(hpa), key, size);
  }
  #write(hpa: Hpa, size: number, value: bigint): void {
    const key = this.#keyFor(hpa, size);
    if (key >= 0) this.#keyed.write(stripKeyId(hpa), key, size, value);
  }
  /** KeyID to access a range with, or -1 after a machine check. */
  #keyFor(hpa: Hpa, size: number): number {
    const keyId = keyIdOf(hpa) || this.keyId;
    if (!isPrivateKeyId(keyId) || this.#keyed.owns(stripKeyId(hpa), size, keyId)) return keyId;
    this.#machineCheck();
    return -1;
  }
}
