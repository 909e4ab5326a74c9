/**
 * guest_memfd: memory that only guests can map. A file of it belongs to one VM; slots bind ranges of it, and private
 * frames of those slots get their pages from it.
 *
 * A file holds a reference to its VM, so that a VM is destroyed only after all its private memory is unmapped and freed.
 *
 * @upstream virt/kvm/guest_memfd.c
 */
import { EBADF, EFAULT, EINVAL, ENOMEM, EOPNOTSUPP, type Errno } from '../../host/errno.ts';
import { PAGE_OWNER } from '../../host/pages.ts';
import { type Gfn, type Hpa, PAGE_SIZE } from '../../util/address.ts';
import { KVM_MEM_GUEST_MEMFD, type Kvm, type KvmMemorySlot } from './kvm_host.ts';
import { kvmRangeIsPrivate } from './mem_attributes.ts';
import { kvmGetKvm, kvmPutKvm } from './vm.ts';

/** Modes of {@link GuestMemfd.fallocate}. */
export const FALLOC_FL_KEEP_SIZE = 1;
export const FALLOC_FL_PUNCH_HOLE = 2;

/** Arguments of KVM_CREATE_GUEST_MEMFD; size in bytes. @upstream struct kvm_create_guest_memfd */
export interface KvmCreateGuestMemfd {
  readonly size: number;
  readonly flags: bigint;
}

/** Flags of {@link KvmCreateGuestMemfd} that are known: none, such memory is never mapped by user space. */
export const KVM_GMEM_SUPPORTED_FLAGS = 0n;

/** A file of guest memory, open. Pages come when they are first mapped or allocated. */
export class GuestMemfd {
  readonly kvm: Kvm;
  /** In bytes; never changes. */
  readonly size: number;
  /** Pages by their place in the file. */
  readonly #pages: Map<number, Hpa> = new Map();
  readonly #bindings: Set<KvmMemorySlot> = new Set();
  #closed = false;

  /** Made by {@link kvmGmemCreate}. */
  constructor(kvm: Kvm, size: number) {
    this.kvm = kvm;
    this.size = size;
    kvmGetKvm(kvm);
  }

  get closed(): boolean {
    return this.#closed;
  }
  /** Pages that are allocated. */
  get pages(): number {
    return this.#pages.size;
  }

  /**
   * fallocate(2), lengths and offsets in bytes: allocates pages, or with PUNCH_HOLE takes them from guests and frees them.
   * The size never changes, so KEEP_SIZE must be given.
   *
   * @upstream kvm_gmem_fallocate()
   */
  fallocate(mode: number, offset: number, length: number): Errno {
    if (this.#closed) return -EBADF;
    if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length <= 0) return -EINVAL;
    if ((mode & FALLOC_FL_KEEP_SIZE) === 0 || mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE)) return -EOPNOTSUPP;
    if (offset % PAGE_SIZE !== 0 || length % PAGE_SIZE !== 0) return -EINVAL;
    const start = offset / PAGE_SIZE;
    const end = start + length / PAGE_SIZE;
    if (mode & FALLOC_FL_PUNCH_HOLE) {
      this.#invalidate(start, end);
      this.#truncate(start, end);
      return 0;
    }
    if (offset + length > this.size) return -EINVAL;
    for (let index = start; index < end; index++) if (this.page(index) === undefined) return -ENOMEM;
    return 0;
  }

  /** Closes the file: guests lose its memory, which is freed, and the VM may go. @upstream kvm_gmem_release() */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#invalidate(0, this.size / PAGE_SIZE);
    for (const slot of this.#bindings) if (slot.gmem !== null) slot.gmem.file = null;
    this.#bindings.clear();
    this.#truncate(0, this.size / PAGE_SIZE);
    kvmPutKvm(this.kvm);
  }

  /** The page at a place in the file, allocated (as zeros) if need be; undefined without memory. @upstream kvm_gmem_get_folio() */
  page(index: number): Hpa | undefined {
    const page = this.#pages.get(index);
    if (page !== undefined) return page;
    const fresh = this.kvm.host.pages.alloc(PAGE_OWNER.guestMemfd);
    if (fresh !== undefined) this.#pages.set(index, fresh);
    return fresh;
  }

  /** The page at a place in the file if it was allocated already. */
  residentPage(index: number): Hpa | undefined {
    return this.#pages.get(index);
  }

  /** Whether a slot has some of [start, end), in pages of the file. */
  isBound(start: number, end: number): boolean {
    for (const slot of this.#bindings) {
      const { pgoff } = slot.gmem!;
      if (start < pgoff + slot.npages && end > pgoff) return true;
    }
    return false;
  }
  bind(slot: KvmMemorySlot): void {
    this.#bindings.add(slot);
  }
  unbind(slot: KvmMemorySlot): void {
    this.#bindings.delete(slot);
  }

  /** Guests lose [start, end), in pages of the file. @upstream kvm_gmem_invalidate_begin() */
  #invalidate(start: number, end: number): void {
    const { kvm } = this;
    let flush = false;
    for (const slot of this.#bindings) {
      const { pgoff } = slot.gmem!;
      const first = slot.baseGfn + Math.max(start, pgoff) - pgoff;
      const last = slot.baseGfn + Math.min(end, pgoff + slot.npages) - pgoff;
      if (first < last) flush = kvm.arch_hooks.kvmArchUnmapGfnRange(kvm, first, last, 'private') || flush;
    }
    if (flush) kvm.arch_hooks.kvmArchFlushRemoteTlbs(kvm);
  }

  #truncate(start: number, end: number): void {
    const { pages } = this.kvm.host;
    const free = (index: number): void => {
      const page = this.#pages.get(index);
      if (page === undefined) return;
      this.#pages.delete(index);
      pages.free(page);
    };
    // A small hole in a large file, or a large hole where little was allocated.
    if (end - start < this.#pages.size) for (let index = start; index < end; index++) free(index);
    else for (const index of [...this.#pages.keys()]) if (index >= start && index < end) free(index);
  }
}

/** KVM_CREATE_GUEST_MEMFD. @upstream kvm_gmem_create() */
export function kvmGmemCreate(kvm: Kvm, { size, flags }: KvmCreateGuestMemfd): GuestMemfd | Errno {
  if (flags & ~KVM_GMEM_SUPPORTED_FLAGS) return -EINVAL;
  if (!Number.isSafeInteger(size) || size <= 0 || size % PAGE_SIZE !== 0) return -EINVAL;
  return new GuestMemfd(kvm, size);
}

/** Gives a new slot its part of the file, from `offset` bytes on. @upstream kvm_gmem_bind() */
export function kvmGmemBind(kvm: Kvm, slot: KvmMemorySlot, file: unknown, offset: number): Errno {
  if (file === null || file === undefined || (file instanceof GuestMemfd && file.closed)) return -EBADF;
  if (!(file instanceof GuestMemfd) || file.kvm !== kvm) return -EINVAL;
  if (!Number.isSafeInteger(offset) || offset < 0 || offset % PAGE_SIZE !== 0) return -EINVAL;
  if (offset + slot.npages * PAGE_SIZE > file.size) return -EINVAL;
  const pgoff = offset / PAGE_SIZE;
  if (file.isBound(pgoff, pgoff + slot.npages)) return -EINVAL;
  // all checks passed
  slot.gmem = { file, pgoff };
  file.bind(slot);
  return 0;
}

/** The slot goes. @upstream kvm_gmem_unbind() */
export function kvmGmemUnbind(slot: KvmMemorySlot): void {
  slot.gmem?.file?.unbind(slot);
  slot.gmem = null;
}

/** Whether private frames of a slot can be backed. @upstream kvm_slot_has_gmem() */
export const kvmSlotHasGmem = (slot: KvmMemorySlot | null): slot is KvmMemorySlot =>
  slot !== null && (slot.flags & KVM_MEM_GUEST_MEMFD) !== 0;

/** The private page of a frame, or −EFAULT when the file is closed, −ENOMEM. @upstream kvm_gmem_get_pfn() */
export function kvmGmemGetPfn(slot: KvmMemorySlot, gfn: Gfn): Hpa | Errno {
  const file = slot.gmem?.file ?? null;
  if (file === null) return -EFAULT;
  return file.page(slot.gmem!.pgoff + (gfn - slot.baseGfn)) ?? -ENOMEM;
}

/** What becomes of one page of {@link kvmGmemPopulate}: `page` is the private one, `source` the one of user space. */
export type KvmGmemPopulateCb = (kvm: Kvm, gfn: Gfn, page: Hpa, source: Hpa | undefined) => Errno;

/**
 * Brings content into private memory before the guest runs: `postPopulate` for each page, in ascending order.
 *
 * @param source address in the process of the first page's content, aligned; undefined for none
 * @returns the number of pages done; a negative errno if it was none
 * @upstream kvm_gmem_populate()
 */
export function kvmGmemPopulate(
  kvm: Kvm,
  startGfn: Gfn,
  source: number | undefined,
  npages: number,
  postPopulate: KvmGmemPopulateCb,
): number {
  if (npages <= 0) return -EINVAL;
  const slot = kvm.memslots.find((one) => startGfn >= one.baseGfn && startGfn < one.baseGfn + one.npages) ?? null;
  if (!kvmSlotHasGmem(slot)) return -EINVAL;
  if (source !== undefined && source % PAGE_SIZE !== 0) return -EINVAL;
  const count = Math.min(npages, slot.npages - (startGfn - slot.baseGfn));
  for (let done = 0; done < count; done++) {
    const failed = populateOne(kvm, slot, startGfn + done, source, done, postPopulate);
    if (failed !== 0) return done === 0 ? failed : done;
  }
  return count;
}

function populateOne(
  kvm: Kvm,
  slot: KvmMemorySlot,
  gfn: Gfn,
  source: number | undefined,
  done: number,
  postPopulate: KvmGmemPopulateCb,
): Errno {
  let from: Hpa | undefined;
  if (source !== undefined) {
    from = kvm.mm.faultIn(source + done * PAGE_SIZE);
    if (from === undefined) return -EFAULT;
  }
  const page = kvmGmemGetPfn(slot, gfn);
  if (page < 0) return page;
  if (!kvmRangeIsPrivate(kvm, gfn, gfn + 1, true)) return -EINVAL;
  return postPopulate(kvm, gfn, page, from);
}
