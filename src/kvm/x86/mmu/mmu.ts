/**
 * Page faults of guest-physical addresses: RAM gets mapped, everything else is MMIO.
 *
 * @upstream arch/x86/kvm/mmu/mmu.c kvm_mmu_page_fault(), kvm_tdp_page_fault(), kvm_mmu_slot_remove_write_access()
 */
import { EFAULT } from '../../../host/errno.ts';
import { type Gfn, type Gpa, PAGE_SIZE } from '../../../util/address.ts';
import {
  KVM_MEM_LOG_DIRTY_PAGES,
  KVM_MEM_READONLY,
  KVM_REQ_TLB_FLUSH,
  type KvmMemorySlot,
  kvmMakeAllCpusRequest,
} from '../../virt/kvm_host.ts';
import { KVM_INTERNAL_ERROR_DELIVERY_EV } from '../../virt/kvm_run.ts';
import { gfnToHvaMemslot, kvmVcpuGfnToMemslot, markPageDirtyInSlot } from '../../virt/memslots.ts';
import { kvmEmulateInstruction } from '../emulate.ts';
import type { X86Vcpu, X86Vm } from '../kvm_host.ts';
import { X86EMUL_UNHANDLEABLE_VECTORING } from '../kvm_x86_ops.ts';
import { PFERR_PRESENT_MASK, PFERR_WRITE_MASK } from './pferr.ts';
import {
  EPT_DIRTY,
  EPT_WRITABLE,
  isMmioSpte,
  isShadowPresentPte,
  makeMmioSpte,
  makeSpte,
  mmioSpteIsCurrent,
} from './spte.ts';
import { PG_LEVEL_2M, PG_LEVEL_4K, pagesPerHpage, TdpMmu } from './tdp_mmu.ts';

/** What a fault came to. @upstream RET_PF_* */
const RET_PF_RETRY = 0;
const RET_PF_EMULATE = 1;

/** An EPT violation. 1 go on, 0 exit to user space, negative errno. @upstream kvm_mmu_page_fault() */
export function kvmMmuPageFault(vcpu: X86Vcpu, gpa: Gpa, errorCode: number): number {
  vcpu.stat.pf_taken++;
  const result = kvmTdpPageFault(vcpu, gpa, errorCode);
  if (result < 0) return result;
  if (result === RET_PF_RETRY) {
    vcpu.stat.pf_fixed++;
    return 1;
  }
  return emulateAt(vcpu, gpa);
}

/** An EPT misconfiguration: MMIO, unless the slots have changed since. @upstream handle_mmio_page_fault() */
export function kvmHandleMmioMisconfig(vcpu: X86Vcpu, gpa: Gpa): number {
  const walk = vcpu.kvm.arch.tdpMmu.lookup(Math.floor(gpa / PAGE_SIZE));
  if (walk !== null && isMmioSpte(walk.spte) && mmioSpteIsCurrent(walk.spte, vcpu.kvm.memslotGeneration))
    return emulateAt(vcpu, gpa);
  return kvmMmuPageFault(vcpu, gpa, 0);
}

function emulateAt(vcpu: X86Vcpu, gpa: Gpa): number {
  if (vcpu.kvm.ops.checkEmulateInstruction(vcpu) === X86EMUL_UNHANDLEABLE_VECTORING) {
    // Delivering an event touched MMIO (IDT, GDT or stack there): there is no instruction to emulate.
    vcpu.run.setInternalError(KVM_INTERNAL_ERROR_DELIVERY_EV, [BigInt(gpa)]);
    return 0;
  }
  vcpu.arch.mmioGpa = gpa;
  return kvmEmulateInstruction(vcpu);
}

/** @upstream kvm_tdp_page_fault(), direct_page_fault() */
function kvmTdpPageFault(vcpu: X86Vcpu, gpa: Gpa, errorCode: number): number {
  const { kvm } = vcpu;
  const mmu = kvm.arch.tdpMmu;
  const gfn = Math.floor(gpa / PAGE_SIZE);
  const write = (errorCode & PFERR_WRITE_MASK) !== 0;
  const slot = kvmVcpuGfnToMemslot(vcpu, gfn);
  if (slot === null) {
    mmu.map(gfn, PG_LEVEL_4K, makeMmioSpte(gfn, kvm.memslotGeneration));
    return RET_PF_EMULATE;
  }
  const readOnly = (slot.flags & KVM_MEM_READONLY) !== 0;
  if (write && readOnly) return RET_PF_EMULATE;
  if (write && errorCode & PFERR_PRESENT_MASK && fastPageFault(kvm, slot, gfn)) return RET_PF_RETRY;

  const hva = gfnToHvaMemslot(slot, gfn);
  const page = kvm.mm.faultIn(hva);
  if (page === undefined) return -EFAULT;
  const logging = (slot.flags & KVM_MEM_LOG_DIRTY_PAGES) !== 0;
  const level = logging ? PG_LEVEL_4K : mappingLevel(kvm, slot, gfn, hva);
  const writable = !readOnly && (!logging || write);
  const frames = pagesPerHpage(level);
  const base = gfn - (gfn % frames);
  const spte = makeSpte(
    page - (gfn - base) * PAGE_SIZE,
    level,
    writable,
    !readOnly,
    BigInt(kvm.ops.getMtMask(vcpu, false)),
  );
  if (!mmu.map(base, level, spte)) return -EFAULT;
  if (logging && write) markPageDirtyInSlot(slot, gfn);
  return RET_PF_RETRY;
}

/** A page that only the dirty log protects: write access comes back. @upstream fast_page_fault() */
function fastPageFault(kvm: X86Vm, slot: KvmMemorySlot, gfn: Gfn): boolean {
  const walk = kvm.arch.tdpMmu.lookup(gfn);
  if (walk === null || !isShadowPresentPte(walk.spte) || walk.level !== PG_LEVEL_4K) return false;
  if (!TdpMmu.isMmuWritable(walk.spte)) return false;
  if ((walk.spte & EPT_WRITABLE) === 0n) {
    kvm.arch.tdpMmu.replace(walk, gfn, walk.spte | EPT_WRITABLE | EPT_DIRTY);
    markPageDirtyInSlot(slot, gfn);
  }
  return true;
}

/** The largest page that host memory, slot and alignment allow. @upstream kvm_mmu_max_mapping_level() */
function mappingLevel(kvm: X86Vm, slot: KvmMemorySlot, gfn: Gfn, hva: number): number {
  const frames = pagesPerHpage(PG_LEVEL_2M);
  const base = gfn - (gfn % frames);
  if (base < slot.baseGfn || base + frames > slot.baseGfn + slot.npages) return PG_LEVEL_4K;
  if ((slot.userspaceAddr / PAGE_SIZE - slot.baseGfn) % frames !== 0) return PG_LEVEL_4K;
  return kvm.mm.isHuge(hva) ? PG_LEVEL_2M : PG_LEVEL_4K;
}

/** The root goes to the VMCS. False without memory. @upstream kvm_mmu_load() */
export function kvmMmuLoad(vcpu: X86Vcpu): boolean {
  const mmu = vcpu.kvm.arch.tdpMmu;
  const root = mmu.root();
  if (root === undefined) return false;
  vcpu.kvm.ops.loadMmuPgd(vcpu, root, mmu.rootLevel);
  return true;
}

/** Every vCPU drops its translations before it runs again. @upstream kvm_flush_remote_tlbs() */
export function kvmFlushRemoteTlbs(kvm: X86Vm): void {
  kvmMakeAllCpusRequest(kvm, KVM_REQ_TLB_FLUSH);
}

/** @upstream kvm_arch_flush_shadow_memslot() */
export function kvmMmuZapSlot(kvm: X86Vm, slot: KvmMemorySlot): void {
  if (kvm.arch.tdpMmu.zap(slot.baseGfn, slot.baseGfn + slot.npages)) kvmFlushRemoteTlbs(kvm);
}

/** Host addresses [start, end) lose their pages. @upstream kvm_unmap_gfn_range() */
export function kvmMmuUnmapHvaRange(kvm: X86Vm, start: number, end: number): void {
  let flush = false;
  for (const slot of kvm.memslots) {
    const first = Math.max(start, slot.userspaceAddr);
    const last = Math.min(end, slot.userspaceAddr + slot.npages * PAGE_SIZE);
    if (first >= last) continue;
    const gfn = slot.baseGfn + Math.floor((first - slot.userspaceAddr) / PAGE_SIZE);
    flush = kvm.arch.tdpMmu.zap(gfn, gfn + Math.ceil((last - first) / PAGE_SIZE)) || flush;
  }
  if (flush) kvmFlushRemoteTlbs(kvm);
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
