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

  // perf: by size, as every VM entry and exit of a TD comes here.
  read8(hpa: Hpa): number {
    const key = this.#keyFor(hpa, 1);
    return key < 0 ? 0 : this.#keyed.read8(stripKeyId(hpa), key);
  }
  read16(hpa: Hpa): number {
    const key = this.#keyFor(hpa, 2);
    return key < 0 ? 0 : this.#keyed.read16(stripKeyId(hpa), key);
  }
  read32(hpa: Hpa): number {
    const key = this.#keyFor(hpa, 4);
    return key < 0 ? 0 : this.#keyed.read32(stripKeyId(hpa), key);
  }
  read64(hpa: Hpa): bigint {
    const key = this.#keyFor(hpa, 8);
    return key < 0 ? 0n : this.#keyed.read64(stripKeyId(hpa), key);
  }
  write8(hpa: Hpa, value: number): void {
    const key = this.#keyFor(hpa, 1);
    if (key >= 0) this.#keyed.write8(stripKeyId(hpa), key, value);
  }
  write16(hpa: Hpa, value: number): void {
    const key = this.#keyFor(hpa, 2);
    if (key >= 0) this.#keyed.write16(stripKeyId(hpa), key, value);
  }
  write32(hpa: Hpa, value: number): void {
    const key = this.#keyFor(hpa, 4);
    if (key >= 0) this.#keyed.write32(stripKeyId(hpa), key, value >>> 0);
  }
  write64(hpa: Hpa, value: bigint): void {
    const key = this.#keyFor(hpa, 8);
    if (key >= 0) this.#keyed.write64(stripKeyId(hpa), key, value);
  }
  readBytes(hpa: Hpa, length: number): Uint8Array {
    const key = this.#keyFor(hpa, length);
    return key < 0 ? new Uint8Array(length) : this.#keyed.readBytes(stripKeyId(hpa), key, length);
  }
  writeBytes(hpa: Hpa, data: Uint8Array): void {
    const key = this.#keyFor(hpa, data.length);
    if (key >= 0) this.#keyed.writeBytes(stripKeyId(hpa), key, data);
  }

  /** KeyID to access a range with, or -1 after a machine check. */
  #keyFor(hpa: Hpa, size: number): number {
    const keyId = keyIdOf(hpa) || this.keyId;
    if (!isPrivateKeyId(keyId) || this.#keyed.owns(stripKeyId(hpa), size, keyId)) return keyId;
    this.#machineCheck();
    return -1;
  }
}
