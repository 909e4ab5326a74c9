/**
 * Taking mappings from a VM because what they lead to changes: host addresses that lose their pages, frames that become
 * private or shared.
 *
 * @upstream virt/kvm/kvm_main.c kvm_mmu_notifier_invalidate_range_start(), kvm_handle_gfn_range()
 */
import { type Gfn, PAGE_SIZE } from '../../util/address.ts';
import type { Kvm } from './kvm_host.ts';
import type { KvmGfnRangeFilter } from './mem_attributes.ts';

/** Unmaps what slots have of frames [start, end), as far as `filter` says. @upstream kvm_handle_gfn_range() */
export function kvmHandleGfnRange(kvm: Kvm, start: Gfn, end: Gfn, filter: KvmGfnRangeFilter): void {
  const arch = kvm.arch_hooks;
  let flush = false;
  for (const slot of kvm.memslots) {
    const first = Math.max(start, slot.baseGfn);
    const last = Math.min(end, slot.baseGfn + slot.npages);
    if (first < last) flush = arch.kvmArchUnmapGfnRange(kvm, first, last, filter) || flush;
  }
  if (flush) arch.kvmArchFlushRemoteTlbs(kvm);
}

/** Host addresses [start, end) lose their pages: shared mappings of them go. @upstream kvm_handle_hva_range() */
export function kvmMmuNotifierInvalidateRange(kvm: Kvm, start: number, end: number): void {
  const arch = kvm.arch_hooks;
  let flush = false;
  for (const slot of kvm.memslots) {
    const first = Math.max(start, slot.userspaceAddr);
    const last = Math.min(end, slot.userspaceAddr + slot.npages * PAGE_SIZE);
    if (first >= last) continue;
    const gfn = slot.baseGfn + Math.floor((first - slot.userspaceAddr) / PAGE_SIZE);
    flush = arch.kvmArchUnmapGfnRange(kvm, gfn, gfn + Math.ceil((last - first) / PAGE_SIZE), 'shared') || flush;
  }
  if (flush) arch.kvmArchFlushRemoteTlbs(kvm);
}
