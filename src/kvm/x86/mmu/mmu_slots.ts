/**
 * Mappings of whole slots and ranges: taken away when slots or attributes change, protected for the dirty log.
 *
 * @upstream arch/x86/kvm/mmu/mmu.c kvm_unmap_gfn_range(), kvm_arch_flush_shadow_memslot(), kvm_mmu_slot_remove_write_access()
 */
import type { Gfn } from '../../../util/address.ts';
import type { KvmMemorySlot } from '../../virt/kvm_host.ts';
import type { KvmGfnRangeFilter } from '../../virt/mem_attributes.ts';
import type { X86Vm } from '../kvm_host.ts';
import { kvmFlushRemoteTlbs } from './mmu.ts';

/** Removes the mappings of [start, end); true if TLBs must be flushed. Without a mirror both kinds are in one table. */
export function kvmUnmapGfnRange(kvm: X86Vm, start: Gfn, end: Gfn, filter: KvmGfnRangeFilter): boolean {
  const { tdpMmu, mirrorMmu, mmuLock } = kvm.arch;
  return mmuLock.write(() => {
    let flush = false;
    if (mirrorMmu === null || filter !== 'private') flush = tdpMmu.zap(start, end);
    if (mirrorMmu !== null && filter !== 'shared') flush = mirrorMmu.zap(start, end) || flush;
    return flush;
  });
}

/** @upstream kvm_arch_flush_shadow_memslot() */
export function kvmMmuZapSlot(kvm: X86Vm, slot: KvmMemorySlot): void {
  if (kvmUnmapGfnRange(kvm, slot.baseGfn, slot.baseGfn + slot.npages, 'both')) kvmFlushRemoteTlbs(kvm);
}

/** Dirty logging of a slot starts: no page of it may be written unseen. @upstream kvm_mmu_slot_remove_write_access() */
export function kvmMmuSlotRemoveWriteAccess(kvm: X86Vm, slot: KvmMemorySlot): void {
  if (kvm.arch.tdpMmu.writeProtect(slot.baseGfn, slot.baseGfn + slot.npages)) kvmFlushRemoteTlbs(kvm);
}

/** Dirty logging of a slot ends: large pages may come back. @upstream kvm_mmu_recover_huge_pages() */
export function kvmMmuRecoverHugePages(kvm: X86Vm, slot: KvmMemorySlot): void {
  kvmMmuZapSlot(kvm, slot);
}

/** Protects the pages of `mask` again. @upstream kvm_arch_mmu_enable_log_dirty_pt_masked() */
export function kvmMmuWriteProtectPtMasked(kvm: X86Vm, slot: KvmMemorySlot, offset: number, mask: number): void {
  for (let bits = mask >>> 0; bits !== 0; bits &= bits - 1) {
    const gfn = slot.baseGfn + offset + (31 - Math.clz32(bits & -bits));
    kvm.arch.tdpMmu.writeProtect(gfn, gfn + 1);
  }
}
