/** Typed access to the fields of a control structure in private memory. */
import type { KeyedMemory } from '../../machine/keyed-memory.ts';
import type { Hpa } from '../../util/address.ts';
import type { Field } from '../metadata/field.ts';

/** A control structure whose fields a table describes. `index` numbers all elements of a field's array. */
export abstract class FieldArea<Name extends string> {
  protected abstract readonly fields: Readonly<Record<Name, Field>>;
  protected abstract readonly keyed: KeyedMemory;
  /** The key its pages belong to. */
  abstract readonly keyId: number;
  /** Physical address of a byte of the structure. */
  abstract address(offset: number): Hpa;

  /** An element, zero-extended. */
  get(name: Name, index = 0): bigint {
    const field = this.fields[name];
    if (field.size === 8) return this.keyed.read64(this.address(field.offset + index * 8), this.keyId);
    return BigInt(this.num(name, index));
  }

  /** An element as a number: exact for those of up to 4 bytes and for addresses. */
  num(name: Name, index = 0): number {
    const { offset, size } = this.fields[name];
    const at = this.address(offset + index * size);
    if (size === 1) return this.keyed.read8(at, this.keyId);
    if (size === 2) return this.keyed.read16(at, this.keyId);
    if (size === 4) return this.keyed.read32(at, this.keyId);
    return Number(this.keyed.read64(at, this.keyId));
  }

  /** Stores an element. */
  set(name: Name, value: bigint | number, index = 0): void {
    const { offset, size } = this.fields[name];
    const at = this.address(offset + index * size);
    if (size === 8) this.keyed.write64(at, this.keyId, BigInt.asUintN(64, BigInt(value)));
    else if (size === 4) this.keyed.write32(at, this.keyId, Number(value));
    else if (size === 2) this.keyed.write16(at, this.keyId, Number(value));
    else this.keyed.write8(at, this.keyId, Number(value));
  }

  /** All elements of one field of an array as bytes (a 48-byte measurement, a UUID). */
  bytes(name: Name, index = 0): Uint8Array {
    const { offset, size, elements } = this.fields[name];
    const length = size * elements;
    return this.keyed.readBytes(this.address(offset + index * length), this.keyId, length);
  }

  setBytes(name: Name, data: Uint8Array, index = 0): void {
    const { offset, size, elements } = this.fields[name];
    this.keyed.writeBytes(this.address(offset + index * size * elements), this.keyId, data);
  }
}
