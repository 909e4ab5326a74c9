/** The narrow view of a guest's memory that loaders and tables are written through. */

import type { Gpa } from '../util/address.ts';

/** Guest RAM from address 0; every access must lie in it. */
export interface GuestMemory {
  /** Bytes of RAM, all of it below the MMIO hole. */
  readonly size: number;
  write(gpa: Gpa, bytes: Uint8Array): void;
  /** A copy. */
  read(gpa: Gpa, length: number): Uint8Array;
}

/** Guest memory in an array of its own: for tests and for measuring what would be loaded. */
export class ArrayGuestMemory implements GuestMemory {
  readonly bytes: Uint8Array;

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
  }
  get size(): number {
    return this.bytes.length;
  }
  write(gpa: Gpa, bytes: Uint8Array): void {
    if (gpa < 0 || gpa + bytes.length > this.size) {
      throw new RangeError(`write outside guest RAM: 0x${gpa.toString(16)} + ${bytes.length}`);
    }
    this.bytes.set(bytes, gpa);
  }
  read(gpa: Gpa, length: number): Uint8Array {
    if (gpa < 0 || gpa + length > this.size) {
      throw new RangeError(`read outside guest RAM: 0x${gpa.toString(16)} + ${length}`);
    }
    return this.bytes.slice(gpa, gpa + length);
  }
}
