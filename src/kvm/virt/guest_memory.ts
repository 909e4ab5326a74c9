/**
 * Guest-physical memory as KVM itself reads and writes it, through the memory slots.
 *
 * @upstream virt/kvm/kvm_main.c kvm_read_guest(), kvm_write_guest()
 */
import { EFAULT, type Errno } from '../../host/errno.ts';
import { type Gpa, type Hpa, PAGE_SIZE } from '../../util/address.ts';
import { KVM_MEM_READONLY, type Kvm } from './kvm_host.ts';
import { gfnToHvaMemslot, gfnToMemslot, markPageDirtyInSlot } from './memslots.ts';

/** Host page of a guest page, or undefined where there is no slot. A write marks the page dirty. */
export function guestPage(kvm: Kvm, gpa: Gpa, write: boolean): Hpa | undefined {
  const gfn = Math.floor(gpa / PAGE_SIZE);
  const slot = gfnToMemslot(kvm, gfn);
  if (slot === null || (write && slot.flags & KVM_MEM_READONLY)) return undefined;
  if (write) markPageDirtyInSlot(slot, gfn);
  return kvm.mm.faultIn(gfnToHvaMemslot(slot, gfn));
}

/** Copies out of guest memory; undefined (−EFAULT to callers) where part of it is no memory. */
export function kvmReadGuest(kvm: Kvm, gpa: Gpa, length: number): Uint8Array | undefined {
  const out = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    const offset = (gpa + done) % PAGE_SIZE;
    const part = Math.min(length - done, PAGE_SIZE - offset);
    const page = guestPage(kvm, gpa + done, false);
    if (page === undefined) return undefined;
    out.set(kvm.host.machine.memory.readBytes(page + offset, part), done);
    done += part;
  }
  return out;
}

/** Copies into guest memory. */
export function kvmWriteGuest(kvm: Kvm, gpa: Gpa, data: Uint8Array): Errno {
  for (let done = 0; done < data.length; ) {
    const offset = (gpa + done) % PAGE_SIZE;
    const part = Math.min(data.length - done, PAGE_SIZE - offset);
    const page = guestPage(kvm, gpa + done, true);
    if (page === undefined) return -EFAULT;
    kvm.host.machine.memory.writeBytes(page + offset, data.subarray(done, done + part));
    done += part;
  }
  return 0;
}

/** An aligned 64-bit word of guest memory; undefined where there is none. For page-table walks. */
export function kvmReadGuest64(kvm: Kvm, gpa: Gpa): bigint | undefined {
  const page = guestPage(kvm, gpa, false);
  return page === undefined ? undefined : kvm.host.machine.memory.read64(page + (gpa % PAGE_SIZE));
}
/** An aligned 32-bit word. */
export function kvmReadGuest32(kvm: Kvm, gpa: Gpa): number | undefined {
  const page = guestPage(kvm, gpa, false);
  return page === undefined ? undefined : kvm.host.machine.memory.read32(page + (gpa % PAGE_SIZE));
}
