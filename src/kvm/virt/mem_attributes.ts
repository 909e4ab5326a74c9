/**
 * Memory attributes: what user space has said of each guest frame. The one there is says that the frame is private.
 *
 * @upstream virt/kvm/kvm_main.c kvm_vm_set_mem_attributes(), kvm_range_has_memory_attributes()
 */
import { EINVAL, type Errno } from '../../host/errno.ts';
import { type Gfn, isPageAligned, PAGE_SIZE } from '../../util/address.ts';
import { FrameSet } from './frame_set.ts';
import type { Kvm } from './kvm_host.ts';
import { kvmHandleGfnRange } from './mmu_notifier.ts';

/** The frame is private: it comes from a guest_memfd. @upstream KVM_MEMORY_ATTRIBUTE_PRIVATE */
export const KVM_MEMORY_ATTRIBUTE_PRIVATE = 8n;

/** Which mappings of a range a change is about. @upstream enum kvm_gfn_range_filter */
export type KvmGfnRangeFilter = 'shared' | 'private' | 'both';

/** Arguments of KVM_SET_MEMORY_ATTRIBUTES; address and size in bytes. @upstream struct kvm_memory_attributes */
export interface KvmMemoryAttributes {
  readonly address: number;
  readonly size: number;
  readonly attributes: bigint;
  readonly flags: bigint;
}

/** Highest guest frame: 52 address bits. */
const MAX_GFN = 2 ** 40;

/** Whether user space has made a frame private. @upstream kvm_mem_is_private() */
export const kvmMemIsPrivate = (kvm: Kvm, gfn: Gfn): boolean => kvm.privateFrames?.has(gfn) ?? false;

/** Whether all of [start, end) is private, or all shared. @upstream kvm_range_has_memory_attributes() */
export const kvmRangeIsPrivate = (kvm: Kvm, start: Gfn, end: Gfn, isPrivate: boolean): boolean =>
  kvm.privateFrames?.all(start, end, isPrivate) ?? !isPrivate;

/** Attributes that frames of a VM may have. @upstream kvm_supported_mem_attributes() */
export const kvmSupportedMemAttributes = (kvm: Kvm): bigint =>
  kvm.arch_hooks.kvmArchHasPrivateMem(kvm) ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0n;

/**
 * KVM_SET_MEMORY_ATTRIBUTES. The frames need not be in any slot. What is mapped of them as the other kind goes first, so
 * that nobody ever sees a mapping that contradicts the attribute.
 */
export function kvmVmIoctlSetMemAttributes(kvm: Kvm, args: KvmMemoryAttributes): Errno {
  const { address, size, attributes } = args;
  if (args.flags !== 0n) return -EINVAL;
  if (attributes & ~kvmSupportedMemAttributes(kvm)) return -EINVAL;
  if (!isPageAligned(address) || !isPageAligned(size) || size === 0) return -EINVAL;
  const start = address / PAGE_SIZE;
  const end = start + size / PAGE_SIZE;
  if (end > MAX_GFN) return -EINVAL;
  // all checks passed
  const isPrivate = attributes !== 0n;
  if (kvmRangeIsPrivate(kvm, start, end, isPrivate)) return 0;
  kvmHandleGfnRange(kvm, start, end, isPrivate ? 'shared' : 'private');
  kvm.privateFrames ??= new FrameSet();
  kvm.privateFrames.set(start, end, isPrivate);
  return 0;
}
