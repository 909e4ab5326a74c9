/**
 * A TD's memory as the VMM holds it: each range has two sides, private pages from a guest_memfd that nobody but the TD can
 * read, and shared pages of the VMM process. Only one side of a page is in use; the other is given back.
 */

import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, type GuestMemfd } from '../../kvm/virt/guest_memfd.ts';
import { KVM_MEMORY_ATTRIBUTE_PRIVATE } from '../../kvm/virt/mem_attributes.ts';
import { type Gpa, PAGE_SIZE } from '../../util/address.ts';
import { SoftvtError } from '../../util/errors.ts';
import { type Errno, expectOk, type VmmVm } from '../kvm-api.ts';
import type { StateHash } from '../state-hash.ts';

const KVM_MEM_GUEST_MEMFD = 4;
const EINVAL = 22;

/** A range with both of its sides. */
interface Range {
  readonly gpa: number;
  readonly size: number;
  /** The shared side, in the VMM's address space. */
  readonly shared: number;
  /** The private side. */
  readonly file: GuestMemfd;
}

/** The memory of one TD. */
export class TdMemory {
  readonly #vm: VmmVm;
  readonly #ranges: Range[] = [];

  constructor(vm: VmmVm) {
    this.#vm = vm;
  }

  /** Makes a slot, all of it private at first. */
  add(gpa: Gpa, size: number): void {
    const vm = this.#vm;
    const file = expectOk('KVM_CREATE_GUEST_MEMFD', vm.createGuestMemfd({ size, flags: 0n }));
    const range: Range = { gpa, size, shared: vm.mm.mmap(size), file };
    const slot = {
      slot: this.#ranges.length,
      flags: KVM_MEM_GUEST_MEMFD,
      guestPhysAddr: gpa,
      memorySize: size,
      userspaceAddr: range.shared,
      guestMemfd: file,
      guestMemfdOffset: 0,
    };
    this.#ranges.push(range);
    expectOk('KVM_SET_USER_MEMORY_REGION2', vm.setUserMemoryRegion2(slot));
    const attributes = { address: gpa, size, attributes: KVM_MEMORY_ATTRIBUTE_PRIVATE, flags: 0n };
    expectOk('KVM_SET_MEMORY_ATTRIBUTES', vm.setMemoryAttributes(attributes));
  }

  /** Makes guest pages private or shared; what the side that goes out of use held is lost. −EINVAL outside of memory. */
  convert(gpa: Gpa, size: number, toPrivate: boolean): Errno {
    const range = this.#rangeOf(gpa, size);
    if (range === undefined) return -EINVAL;
    const attributes = toPrivate ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0n;
    const result = this.#vm.setMemoryAttributes({ address: gpa, size, attributes, flags: 0n });
    if (result !== 0) return result;
    const offset = gpa - range.gpa;
    if (toPrivate) this.#vm.mm.discard(range.shared + offset, size);
    else range.file.fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size);
    return 0;
  }

  /** Shared memory; undefined outside of memory. Private pages read as whatever the shared side has: nothing. */
  readShared(gpa: Gpa, length: number): Uint8Array | undefined {
    const range = this.#rangeOf(gpa, length);
    return range === undefined ? undefined : this.#vm.mm.read(range.shared + gpa - range.gpa, length);
  }

  /** Writes shared memory; false outside of memory. */
  writeShared(gpa: Gpa, bytes: Uint8Array): boolean {
    const range = this.#rangeOf(gpa, bytes.length);
    return range !== undefined && this.#vm.mm.write(range.shared + gpa - range.gpa, bytes);
  }

  /** The host's page behind a guest page, on whichever side it is; undefined if it was never touched. */
  hostPage(gpa: Gpa): number | undefined {
    const range = this.#rangeOf(gpa, 1);
    if (range === undefined) return undefined;
    const index = Math.floor((gpa - range.gpa) / PAGE_SIZE);
    return range.file.residentPage(index) ?? this.#vm.mm.residentPage(range.shared + index * PAGE_SIZE);
  }

  /** Feeds every page that was ever touched, as `read` gives it, to a hash. */
  hash(hash: StateHash, read: (page: number) => Uint8Array): void {
    for (const { gpa, size } of this.#ranges) {
      for (let at = gpa; at < gpa + size; at += PAGE_SIZE) {
        const page = this.hostPage(at);
        if (page === undefined) continue;
        const bytes = read(page);
        hash.page(at / PAGE_SIZE, new Int32Array(bytes.buffer, bytes.byteOffset, PAGE_SIZE / 4));
      }
    }
  }

  /** Gives the private sides back. Must come before the VM is closed. */
  closeFiles(): void {
    for (const { file } of this.#ranges) file.close();
  }

  /** Gives the shared sides back. */
  release(): void {
    for (const { shared } of this.#ranges) this.#vm.mm.munmap(shared);
  }

  /** A place in the VMM's address space with `data` in it, while `use` runs. Throws when the host is out of memory. */
  withSource<T>(data: Uint8Array, use: (address: number) => T): T {
    const { mm } = this.#vm;
    const address = mm.mmap(data.length);
    try {
      if (!mm.write(address, data)) {
        throw new SoftvtError('ERR_SOFTVT_HOST_MEMORY', 'the emulated host has run out of memory');
      }
      return use(address);
    } finally {
      mm.munmap(address);
    }
  }

  #rangeOf(gpa: Gpa, size: number): Range | undefined {
    return this.#ranges.find((range) => gpa >= range.gpa && gpa + size <= range.gpa + range.size);
  }
}
