/**
 * Memory as the emulator accesses it: guest RAM, devices in the kernel, and MMIO that user space serves.
 *
 * An instruction is evaluated again from its beginning when user space has answered, so completed MMIO reads are kept, in
 * order, until the instruction is done.
 *
 * @upstream arch/x86/kvm/x86.c emulator_read_write(), vcpu_mmio_read(), vcpu_mmio_write(), complete_emulated_mmio()
 */
import { type Gpa, PAGE_SIZE } from '../../util/address.ts';
import { trace } from '../../util/trace.ts';
import { guestPage, kvmReadGuest, kvmWriteGuest } from '../virt/guest_memory.ts';
import { KVM_MMIO_BUS } from '../virt/kvm_host.ts';
import { kvmInjectPageFault } from './event_queue.ts';
import type { X86Vcpu } from './kvm_host.ts';
import { kvmLapicMmioRead, kvmLapicMmioWrite } from './lapic.ts';
import { kvmMmuGvaToGpa } from './mmu/paging_tmpl.ts';
import { PFERR_USER_MASK, PFERR_WRITE_MASK } from './mmu/pferr.ts';

/** What stopped an access. */
export type Stopped = 'none' | 'fault' | 'userspace';

const TRACE_READ = 1;
const TRACE_WRITE = 2;
/** The most that one exit to user space carries. */
const FRAGMENT = 8;

const numberOf = (data: Uint8Array, length: number): bigint => {
  let value = 0n;
  for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(data[i]!);
  return value;
};

/** A write that user space still has to do. */
interface MmioWrite {
  readonly gpa: Gpa;
  readonly data: Uint8Array;
}

/** The memory accesses of one instruction. */
export class EmulatorMemory {
  stopped: Stopped = 'none';
  readonly #vcpu: X86Vcpu;
  /** What MMIO reads of this instruction have brought so far, and how many the present evaluation has used. */
  readonly #reads: Uint8Array[] = [];
  #used = 0;
  /** The read that user space serves. */
  #wanted: { gpa: Gpa; data: Uint8Array; done: number } | null = null;
  readonly #writes: MmioWrite[] = [];
  readonly #gpa: Gpa;

  /** @param gpa where the access lies that made the instruction exit, or −1 where that is not known or not all that it accesses */
  constructor(vcpu: X86Vcpu, gpa: Gpa) {
    this.#vcpu = vcpu;
    this.#gpa = gpa;
  }

  /** An evaluation begins. */
  restart(): void {
    this.stopped = 'none';
    this.#used = 0;
  }

  /** An iteration of a string instruction is complete: the next one reads anew. */
  forget(): void {
    this.#reads.length = 0;
    this.#used = 0;
  }

  /** Reads; undefined where `stopped` says why. `write` checks write access, too. */
  read(linear: bigint, size: number, write: boolean): Uint8Array | undefined {
    const data = new Uint8Array(size);
    for (let done = 0; done < size; ) {
      const at = linear + BigInt(done);
      const part = Math.min(size - done, PAGE_SIZE - Number(at & 0xfffn));
      const gpa = this.#translate(at, write);
      if (gpa < 0) return undefined;
      const piece =
        guestPage(this.#vcpu.kvm, gpa, false) === undefined ? this.#mmioRead(gpa, part) : this.#ram(gpa, part);
      if (piece === undefined) return undefined;
      data.set(piece, done);
      done += part;
    }
    return data;
  }

  /** Whether a write will be allowed; false with `stopped` set. */
  writable(linear: bigint, size: number): boolean {
    if (this.#translate(linear, true) < 0) return false;
    const last = linear + BigInt(size - 1);
    return linear >> 12n === last >> 12n || this.#translate(last, true) >= 0;
  }

  /** Writes where {@link writable} said yes. What user space must do waits for {@link exitForWrite}. */
  write(linear: bigint, data: Uint8Array): void {
    for (let done = 0; done < data.length; ) {
      const at = linear + BigInt(done);
      const part = Math.min(data.length - done, PAGE_SIZE - Number(at & 0xfffn));
      const gpa = this.#translate(at, true);
      const piece = data.subarray(done, done + part);
      if (gpa >= 0 && kvmWriteGuest(this.#vcpu.kvm, gpa, piece) !== 0) this.#mmioWrite(gpa, piece);
      done += part;
    }
  }

  /** Sets up the exit for the next write that user space must do; false if there is none. */
  exitForWrite(): boolean {
    const next = this.#writes.shift();
    if (next === undefined) return false;
    this.#exit(next.gpa, next.data, true);
    return true;
  }

  /** User space has served a read: true if the instruction can go on, false for another exit. */
  completeRead(): boolean {
    const wanted = this.#wanted;
    if (wanted === null) return true;
    const { mmio } = this.#vcpu.run;
    wanted.data.set(mmio.data.subarray(0, mmio.len), wanted.done);
    wanted.done += mmio.len;
    if (wanted.done < wanted.data.length) {
      this.#exitForRead(wanted);
      return false;
    }
    trace.kvm_mmio?.(TRACE_READ, wanted.data.length, wanted.gpa, numberOf(wanted.data, wanted.data.length));
    this.#reads.push(wanted.data);
    this.#wanted = null;
    return true;
  }

  #ram(gpa: Gpa, length: number): Uint8Array | undefined {
    return kvmReadGuest(this.#vcpu.kvm, gpa, length);
  }

  /** The processor has translated the address of the exit, with the rights that it needs. @upstream emulator_read_write_onepage() */
  #translate(linear: bigint, write: boolean): Gpa {
    const vcpu = this.#vcpu;
    if (this.#gpa >= 0 && Number(linear & 0xfffn) === this.#gpa % PAGE_SIZE) return this.#gpa;
    const user = vcpu.kvm.ops.getCpl(vcpu) === 3 ? PFERR_USER_MASK : 0;
    const gpa = kvmMmuGvaToGpa(vcpu, linear, user | (write ? PFERR_WRITE_MASK : 0));
    if (gpa < 0) {
      const { address, errorCode } = vcpu.arch.walkFault;
      kvmInjectPageFault(vcpu, address, errorCode);
      this.stopped = 'fault';
    }
    return gpa;
  }

  #mmioRead(gpa: Gpa, length: number): Uint8Array | undefined {
    const known = this.#reads[this.#used];
    if (known !== undefined) {
      this.#used++;
      return known;
    }
    const vcpu = this.#vcpu;
    const data = new Uint8Array(length);
    const inKernel =
      kvmLapicMmioRead(vcpu, gpa, length, data) === 0 ||
      vcpu.kvm.buses[KVM_MMIO_BUS]!.read(gpa, length, data, vcpu) === 0;
    if (!inKernel) {
      this.#wanted = { gpa, data, done: 0 };
      this.#exitForRead(this.#wanted);
      this.stopped = 'userspace';
      return undefined;
    }
    trace.kvm_mmio?.(TRACE_READ, length, gpa, numberOf(data, length));
    // Reading a device may change it, so its answer is kept, too.
    this.#reads.push(data);
    this.#used++;
    return data;
  }

  #mmioWrite(gpa: Gpa, data: Uint8Array): void {
    const vcpu = this.#vcpu;
    const { length } = data;
    trace.kvm_mmio?.(TRACE_WRITE, length, gpa, numberOf(data, length));
    if (kvmLapicMmioWrite(vcpu, gpa, length, data) === 0) return;
    if (vcpu.kvm.buses[KVM_MMIO_BUS]!.write(gpa, length, data, vcpu) === 0) return;
    for (let at = 0; at < length; at += FRAGMENT) {
      this.#writes.push({ gpa: gpa + at, data: data.slice(at, at + FRAGMENT) });
    }
  }

  #exitForRead({ gpa, data, done }: { gpa: Gpa; data: Uint8Array; done: number }): void {
    this.#exit(gpa + done, data.subarray(done, done + FRAGMENT), false);
  }

  #exit(gpa: Gpa, data: Uint8Array, isWrite: boolean): void {
    const { run, stat } = this.#vcpu;
    const { mmio } = run;
    stat.mmio_exits++;
    mmio.physAddr = gpa;
    mmio.len = data.length;
    mmio.isWrite = isWrite;
    mmio.data.fill(0);
    if (isWrite) mmio.data.set(data);
    run.setExit(mmio);
  }
}
