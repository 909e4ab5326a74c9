/**
 * Memory slots: which guest-physical memory there is, and where in the process's address space it lies.
 *
 * @upstream virt/kvm/kvm_main.c __kvm_set_memory_region(), kvm_get_dirty_log_protect(), kvm_clear_dirty_log_protect()
 */
import { EEXIST, EINVAL, ENOENT, ENOMEM, type Errno } from '../../host/errno.ts';
import { type Gfn, isPageAligned, PAGE_SIZE } from '../../util/address.ts';
import type { KvmMrChange } from './arch_hooks.ts';
import { type GuestMemfd, kvmGmemBind, kvmGmemUnbind } from './guest_memfd.ts';
import {
  KVM_MEM_GUEST_MEMFD,
  KVM_MEM_LOG_DIRTY_PAGES,
  KVM_MEM_READONLY,
  type Kvm,
  type KvmMemorySlot,
  type KvmVcpu,
} from './kvm_host.ts';

const KVM_USER_MEM_SLOTS = 32764;
const KVM_MEM_MAX_NR_PAGES = 2 ** 31 - 1;
/** User addresses are below this. */
const TASK_SIZE = 2 ** 47 - PAGE_SIZE;
/** Highest guest frame: 52 address bits. */
const MAX_GFN = 2 ** 40;
/** KVM_DIRTY_LOG_INITIALLY_SET */
const INITIALLY_SET = 2;

/** Arguments of KVM_SET_USER_MEMORY_REGION; addresses and sizes in bytes. */
export interface KvmUserspaceMemoryRegion {
  readonly slot: number;
  readonly flags: number;
  readonly guestPhysAddr: number;
  readonly memorySize: number;
  readonly userspaceAddr: number;
}

/** Arguments of KVM_SET_USER_MEMORY_REGION2: with KVM_MEM_GUEST_MEMFD, where private frames come from. */
export interface KvmUserspaceMemoryRegion2 extends KvmUserspaceMemoryRegion {
  readonly guestMemfd?: GuestMemfd | null;
  /** Byte of the file where the slot begins. */
  readonly guestMemfdOffset?: number;
}

/** The flags that KVM_SET_USER_MEMORY_REGION knows. @upstream KVM_SET_USER_MEMORY_REGION_V1_FLAGS */
const V1_FLAGS: number = KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY;

/** The slot that contains `gfn`, or null. @upstream gfn_to_memslot() */
export function gfnToMemslot(kvm: Kvm, gfn: Gfn): KvmMemorySlot | null {
  for (const slot of kvm.memslots) {
    if (gfn >= slot.baseGfn && gfn < slot.baseGfn + slot.npages) return slot;
  }
  return null;
}

/** The same, with the vCPU's last slot remembered. @upstream kvm_vcpu_gfn_to_memslot() */
export function kvmVcpuGfnToMemslot(vcpu: KvmVcpu, gfn: Gfn): KvmMemorySlot | null {
  const last = vcpu.lastUsedSlot;
  if (
    last !== null &&
    vcpu.lastUsedSlotGeneration === vcpu.kvm.memslotGeneration &&
    gfn >= last.baseGfn &&
    gfn < last.baseGfn + last.npages
  ) {
    return last;
  }
  const slot = gfnToMemslot(vcpu.kvm, gfn);
  if (slot !== null) {
    vcpu.lastUsedSlot = slot;
    vcpu.lastUsedSlotGeneration = vcpu.kvm.memslotGeneration;
  }
  return slot;
}

/** Address in the process of a frame of this slot. @upstream gfn_to_hva_memslot() */
export const gfnToHvaMemslot = (slot: KvmMemorySlot, gfn: Gfn): number =>
  slot.userspaceAddr + (gfn - slot.baseGfn) * PAGE_SIZE;

/** A page was written: its bit in the dirty log. @upstream mark_page_dirty_in_slot() */
export function markPageDirtyInSlot(slot: KvmMemorySlot, gfn: Gfn): void {
  const bitmap = slot.dirtyBitmap;
  if (bitmap === null) return;
  const page = gfn - slot.baseGfn;
  bitmap[page >>> 5]! |= 1 << (page & 31);
}

/** Private memory is neither logged nor read-only. @upstream check_memory_region_flags() */
function validFlags(kvm: Kvm, flags: number): number {
  const arch = kvm.arch_hooks;
  if (flags & KVM_MEM_GUEST_MEMFD) return arch.kvmArchHasPrivateMem(kvm) ? KVM_MEM_GUEST_MEMFD : 0;
  return KVM_MEM_LOG_DIRTY_PAGES | (arch.kvmArchHasReadonlyMem(kvm) ? KVM_MEM_READONLY : 0);
}

/** Creates, changes or deletes a slot, without guest_memfd. */
export const kvmSetMemoryRegion = (kvm: Kvm, region: KvmUserspaceMemoryRegion): Errno =>
  region.flags & ~V1_FLAGS ? -EINVAL : kvmSetMemoryRegion2(kvm, region);

/** Creates, changes or deletes a slot. @upstream kvm_set_memory_region() */
export function kvmSetMemoryRegion2(kvm: Kvm, region: KvmUserspaceMemoryRegion2): Errno {
  const { flags } = region;
  const asId = region.slot >>> 16;
  const id = region.slot & 0xffff;
  if (flags & ~validFlags(kvm, flags)) return -EINVAL;
  if (!isPageAligned(region.memorySize) || !isPageAligned(region.guestPhysAddr)) return -EINVAL;
  if (!isPageAligned(region.userspaceAddr)) return -EINVAL;
  if (region.userspaceAddr + region.memorySize > TASK_SIZE) return -EINVAL;
  if (asId !== 0 || id >= KVM_USER_MEM_SLOTS) return -EINVAL;
  const npages = region.memorySize / PAGE_SIZE;
  const baseGfn = region.guestPhysAddr / PAGE_SIZE;
  if (npages > KVM_MEM_MAX_NR_PAGES || baseGfn + npages > MAX_GFN) return -EINVAL;

  const old = kvm.memslots.find((slot) => slot.id === id && slot.asId === asId) ?? null;
  if (npages === 0) {
    return old === null ? -EINVAL : kvmSetMemslot(kvm, old, null, 'delete');
  }
  let change: KvmMrChange;
  if (old === null) {
    change = 'create';
  } else {
    // A slot of a guest_memfd is immutable: it can only be deleted.
    if (flags & KVM_MEM_GUEST_MEMFD) return -EINVAL;
    if (old.userspaceAddr !== region.userspaceAddr || old.npages !== npages) return -EINVAL;
    if ((old.flags ^ flags) & (KVM_MEM_READONLY | KVM_MEM_GUEST_MEMFD)) return -EINVAL;
    if (old.baseGfn !== baseGfn) change = 'move';
    else if (old.flags !== flags) change = 'flagsOnly';
    else return 0;
  }
  if (change !== 'flagsOnly') {
    const end = baseGfn + npages;
    const overlap = kvm.memslots.some(
      (slot) => slot !== old && baseGfn < slot.baseGfn + slot.npages && end > slot.baseGfn,
    );
    if (overlap) return -EEXIST;
  }
  const slot: KvmMemorySlot = {
    id,
    asId,
    baseGfn,
    npages,
    flags,
    userspaceAddr: region.userspaceAddr,
    dirtyBitmap: dirtyBitmapFor(kvm, old, flags, npages),
    gmem: null,
  };
  if (flags & KVM_MEM_GUEST_MEMFD) {
    const failed = kvmGmemBind(kvm, slot, region.guestMemfd, region.guestMemfdOffset ?? 0);
    if (failed !== 0) return failed;
  }
  const failed = kvmSetMemslot(kvm, old, slot, change);
  if (failed !== 0) kvmGmemUnbind(slot);
  return failed;
}

function dirtyBitmapFor(kvm: Kvm, old: KvmMemorySlot | null, flags: number, npages: number): Uint32Array | null {
  if ((flags & KVM_MEM_LOG_DIRTY_PAGES) === 0) return null;
  if (old?.dirtyBitmap) return old.dirtyBitmap;
  const bitmap = new Uint32Array(Math.ceil(npages / 64) * 2);
  if (kvm.manualDirtyLogProtect & INITIALLY_SET) {
    for (let page = 0; page < npages; page++) bitmap[page >>> 5]! |= 1 << (page & 31);
  }
  return bitmap;
}

/** @upstream kvm_set_memslot() */
function kvmSetMemslot(kvm: Kvm, old: KvmMemorySlot | null, slot: KvmMemorySlot | null, change: KvmMrChange): Errno {
  const arch = kvm.arch_hooks;
  const failed = arch.kvmArchPrepareMemoryRegion(kvm, old, slot, change);
  if (failed !== 0) return failed;
  if (slot !== null && change === 'create' && slot.npages > 0) {
    // The mapping must be there when the guest touches it; the pages themselves come on first touch.
    if (kvm.memslots.length >= KVM_USER_MEM_SLOTS) return -ENOMEM;
  }
  kvm.memslots = [...kvm.memslots.filter((other) => other !== old), ...(slot === null ? [] : [slot])].sort(
    (a, b) => a.baseGfn - b.baseGfn,
  );
  kvm.memslotGeneration++;
  if (old !== null && (change === 'delete' || change === 'move')) arch.kvmArchFlushShadowMemslot(kvm, old);
  arch.kvmArchCommitMemoryRegion(kvm, old, slot, change);
  if (old !== null) kvmGmemUnbind(old);
  return 0;
}

const dirtySlot = (kvm: Kvm, slotId: number): KvmMemorySlot | Errno => {
  const id = slotId & 0xffff;
  if (slotId >>> 16 !== 0 || id >= KVM_USER_MEM_SLOTS) return -EINVAL;
  const slot = kvm.memslots.find((one) => one.id === id);
  return slot === undefined || slot.dirtyBitmap === null ? -ENOENT : slot;
};

/**
 * The dirty log of a slot: one bit per page, in 32-bit words, whole 64-page granules. Pages in it are protected again
 * and the log is empty, unless KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 leaves that to {@link kvmClearDirtyLog}.
 */
export function kvmGetDirtyLog(kvm: Kvm, slotId: number): Uint32Array | Errno {
  const slot = dirtySlot(kvm, slotId);
  if (typeof slot === 'number') return slot;
  kvm.arch_hooks.kvmArchSyncDirtyLog(kvm);
  const bitmap = slot.dirtyBitmap!;
  const copy = bitmap.slice();
  if (kvm.manualDirtyLogProtect !== 0) return copy;
  let any = false;
  for (let word = 0; word < bitmap.length; word++) {
    const mask = bitmap[word]!;
    if (mask === 0) continue;
    any = true;
    bitmap[word] = 0;
    kvm.arch_hooks.kvmArchMmuEnableLogDirtyPtMasked(kvm, slot, word * 32, mask);
  }
  if (any) kvm.arch_hooks.kvmArchFlushRemoteTlbs(kvm);
  return copy;
}

/** Clears bits of the log and protects those pages again. @upstream kvm_clear_dirty_log_protect() */
export function kvmClearDirtyLog(
  kvm: Kvm,
  slotId: number,
  firstPage: number,
  numPages: number,
  clear: Uint32Array,
): Errno {
  const slot = dirtySlot(kvm, slotId);
  if (typeof slot === 'number') return slot;
  if (firstPage % 64 !== 0 || firstPage > slot.npages || numPages > slot.npages - firstPage) return -EINVAL;
  if (numPages % 64 !== 0 && firstPage + numPages !== slot.npages) return -EINVAL;
  kvm.arch_hooks.kvmArchSyncDirtyLog(kvm);
  const bitmap = slot.dirtyBitmap!;
  let any = false;
  for (let i = 0; i < Math.ceil(numPages / 32); i++) {
    const word = firstPage / 32 + i;
    const mask = (clear[i] ?? 0) & bitmap[word]!;
    if (mask === 0) continue;
    any = true;
    bitmap[word]! &= ~mask;
    kvm.arch_hooks.kvmArchMmuEnableLogDirtyPtMasked(kvm, slot, word * 32, mask);
  }
  if (any) kvm.arch_hooks.kvmArchFlushRemoteTlbs(kvm);
  return 0;
}
