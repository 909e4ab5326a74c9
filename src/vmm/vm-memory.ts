/** A VM's RAM: memory of the VMM process, mapped into the guest by memory slots. */

import type { UserMemory } from '../host/index.ts';
import type { PhysicalMemory } from '../machine/memory.ts';
import { PAGE_SIZE } from '../util/address.ts';
import { SoftvtError } from '../util/errors.ts';
import type { GuestMemory } from './guest-memory.ts';
import { VGA_WINDOW, VGA_WINDOW_END } from './layout.ts';
import type { StateHash } from './state-hash.ts';

/** A piece of RAM, as KVM_SET_USER_MEMORY_REGION wants it. */
export interface RamSlot {
  readonly slot: number;
  readonly flags: number;
  readonly guestPhysAddr: number;
  readonly memorySize: number;
  readonly userspaceAddr: number;
}

/** RAM from guest-physical address 0 with the VGA window left out of the slots. */
export class VmMemory implements GuestMemory {
  readonly size: number;
  readonly #mm: UserMemory;
  readonly #physical: PhysicalMemory;
  readonly #base: number;

  constructor(mm: UserMemory, physical: PhysicalMemory, size: number) {
    this.#mm = mm;
    this.#physical = physical;
    this.size = size;
    this.#base = mm.mmap(size);
  }

  get slots(): RamSlot[] {
    const slot = (n: number, from: number, to: number): RamSlot => ({
      slot: n,
      flags: 0,
      guestPhysAddr: from,
      memorySize: to - from,
      userspaceAddr: this.#base + from,
    });
    return [slot(0, 0, VGA_WINDOW), slot(1, VGA_WINDOW_END, this.size)];
  }

  read(gpa: number, length: number): Uint8Array {
    this.#check(gpa, length);
    const bytes = this.#mm.read(this.#base + gpa, length);
    if (bytes === undefined) throw this.#exhausted();
    return bytes;
  }

  write(gpa: number, bytes: Uint8Array): void {
    this.#check(gpa, bytes.length);
    if (!this.#mm.write(this.#base + gpa, bytes)) throw this.#exhausted();
  }

  /** The host's page behind an address, if it was touched already. */
  residentPage(gpa: number): number | undefined {
    return gpa >= 0 && gpa < this.size ? this.#mm.residentPage(this.#base + gpa - (gpa % PAGE_SIZE)) : undefined;
  }

  /** Feeds every page that was ever touched to a hash. */
  hash(hash: StateHash): void {
    for (let gpa = 0; gpa < this.size; gpa += PAGE_SIZE) {
      const page = this.#mm.residentPage(this.#base + gpa);
      if (page === undefined) continue;
      const bytes = this.#physical.readBytes(page, PAGE_SIZE);
      hash.page(gpa / PAGE_SIZE, new Int32Array(bytes.buffer, bytes.byteOffset, PAGE_SIZE / 4));
    }
  }

  /** Gives the memory back. */
  release(): void {
    this.#mm.munmap(this.#base);
  }

  #check(gpa: number, length: number): void {
    if (gpa < 0 || gpa + length > this.size) {
      throw new RangeError(`outside guest RAM: 0x${gpa.toString(16)} + ${length}`);
    }
  }

  #exhausted(): SoftvtError {
    return new SoftvtError('ERR_SOFTVT_HOST_MEMORY', 'the emulated host has run out of memory');
  }
}
