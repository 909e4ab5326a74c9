/**
 * Page faults of guest-physical addresses: RAM gets mapped, everything else is MMIO.
 *
 * A frame is shared or private, as user space has said (mem_attributes.ts). Shared ones map memory of the process, private
 * ones that of a guest_memfd. An access of the other kind than the frame's exits to user space.
 *
 * @upstream arch/x86/kvm/mmu/mmu.c kvm_mmu_page_fault(), kvm_tdp_page_fault(), kvm_mmu_faultin_pfn()
 */

import { EFAULT, ENOMEM, type Errno } from '../../../host/errno.ts';
import { type Gfn, type Gpa, type Hpa, PAGE_SIZE } from '../../../util/address.ts';
import { kvmGmemGetPfn, kvmSlotHasGmem } from '../../virt/guest_memfd.ts';
import {
  KVM_MEM_LOG_DIRTY_PAGES,
  KVM_MEM_READONLY,
  KVM_REQ_TLB_FLUSH,
  type KvmMemorySlot,
  kvmMakeAllCpusRequest,
} from '../../virt/kvm_host.ts';
import { KVM_INTERNAL_ERROR_DELIVERY_EV, KVM_MEMORY_EXIT_FLAG_PRIVATE } from '../../virt/kvm_run.ts';
import { kvmMemIsPrivate, kvmRangeIsPrivate } from '../../virt/mem_attributes.ts';
import { gfnToHvaMemslot, kvmVcpuGfnToMemslot, markPageDirtyInSlot } from '../../virt/memslots.ts';
import { isApicAccessGfn, kvmApicvActivated } from '../apicv.ts';
import { kvmEmulateInstruction } from '../emulate.ts';
import { KVM_X86_SW_PROTECTED_VM, type X86Vcpu, type X86Vm } from '../kvm_host.ts';
import { X86EMUL_RETRY_INSTR, X86EMUL_UNHANDLEABLE_VECTORING } from '../kvm_x86_ops.ts';
import { PFERR_PRESENT_MASK, PFERR_PRIVATE_ACCESS, PFERR_WRITE_MASK } from './pferr.ts';
import {
  EPT_DIRTY,
  EPT_WRITABLE,
  isMmioSpte,
  isShadowPresentPte,
  makeMmioSpte,
  makeSpte,
  mmioSpteIsCurrent,
} from './spte.ts';
import {
  gfnRoundForLevel,
  MAP_FIXED,
  MAP_NOMEM,
  MAP_RETRY,
  PG_LEVEL_2M,
  PG_LEVEL_4K,
  pagesPerHpage,
  TdpMmu,
} from './tdp_mmu.ts';

/** What a fault came to, where it is no errno. @upstream RET_PF_* */
export const RET_PF_RETRY = 0;
export const RET_PF_EMULATE = 1;
export const RET_PF_FIXED = 2;
export const RET_PF_SPURIOUS = 3;

/** An EPT violation. 1 go on, 0 exit to user space, negative errno. @upstream kvm_mmu_page_fault() */
export function kvmMmuPageFault(vcpu: X86Vcpu, gpa: Gpa, errorCode: number): number {
  vcpu.stat.pf_taken++;
  const result = kvmTdpPageFault(vcpu, gpa, withPrivateAccess(vcpu.kvm, gpa, errorCode));
  if (result < 0) return result;
  if (result === RET_PF_EMULATE) return emulateAt(vcpu, gpa);
  if (result !== RET_PF_RETRY) vcpu.stat.pf_fixed++;
  return 1;
}

/** Without hardware that tells one kind of access from the other, the attribute is what decides. */
const withPrivateAccess = (kvm: X86Vm, gpa: Gpa, errorCode: number): number =>
  kvm.arch.vmType === KVM_X86_SW_PROTECTED_VM && kvmMemIsPrivate(kvm, Math.floor(gpa / PAGE_SIZE))
    ? errorCode | PFERR_PRIVATE_ACCESS
    : errorCode;

/** An EPT misconfiguration: MMIO, unless the slots have changed since. @upstream handle_mmio_page_fault() */
export function kvmHandleMmioMisconfig(vcpu: X86Vcpu, gpa: Gpa): number {
  const { kvm } = vcpu;
  const walk = kvm.arch.tdpMmu.lookup(Math.floor(gpa / PAGE_SIZE));
  const isMmio = walk !== null && isMmioSpte(walk.spte, kvm.arch.shadowMmioValue);
  if (isMmio && mmioSpteIsCurrent(walk.spte, kvm.memslotGeneration)) return emulateAt(vcpu, gpa);
  return kvmMmuPageFault(vcpu, gpa, 0);
}

function emulateAt(vcpu: X86Vcpu, gpa: Gpa): number {
  switch (vcpu.kvm.ops.checkEmulateInstruction(vcpu)) {
    case X86EMUL_UNHANDLEABLE_VECTORING:
      // Delivering an event touched MMIO (IDT, GDT or stack there): there is no instruction to emulate.
      vcpu.run.setInternalError(KVM_INTERNAL_ERROR_DELIVERY_EV, [BigInt(gpa)]);
      return 0;
    case X86EMUL_RETRY_INSTR:
      // Instructions of a protected guest are out of reach: it takes #VE now, and asks for the access in words.
      return 1;
    default:
      return kvmEmulateInstruction(vcpu, gpa);
  }
}

/** The frame that an address is about, whichever kind of access it is. @upstream fault->gfn */
export function gfnOfGpa(kvm: X86Vm, gpa: Gpa): Gfn {
  const gfn = Math.floor(gpa / PAGE_SIZE);
  const bits = kvm.arch.gfnDirectBits;
  return bits !== 0 && Math.floor(gfn / bits) % 2 === 1 ? gfn - bits : gfn;
}

/** The highest frame that the tables of a VM reach. @upstream kvm_mmu_max_gfn() */
export const kvmMmuMaxGfn = (kvm: X86Vm): Gfn => pagesPerHpage(kvm.arch.tdpMmu.rootLevel + 1) - 1;

/** User space hears of the access by a KVM_EXIT_MEMORY_FAULT and `error`. @upstream kvm_mmu_prepare_memory_fault_exit() */
function memoryFaultExit(vcpu: X86Vcpu, gfn: Gfn, isPrivate: boolean, error: Errno): Errno {
  const { memoryFault } = vcpu.run;
  memoryFault.flags = isPrivate ? KVM_MEMORY_EXIT_FLAG_PRIVATE : 0n;
  memoryFault.gpa = gfn * PAGE_SIZE;
  memoryFault.size = PAGE_SIZE;
  vcpu.run.setExit(memoryFault);
  return error;
}

/** RET_PF_* or a negative errno. @upstream kvm_tdp_page_fault(), direct_page_fault(), kvm_mmu_faultin_pfn() */
export function kvmTdpPageFault(vcpu: X86Vcpu, gpa: Gpa, errorCode: number): number {
  const { kvm } = vcpu;
  const gfn = gfnOfGpa(kvm, gpa);
  const isPrivate = (errorCode & PFERR_PRIVATE_ACCESS) !== 0;
  if (isPrivate !== kvmMemIsPrivate(kvm, gfn)) return memoryFaultExit(vcpu, gfn, isPrivate, -EFAULT);
  const slot = kvmVcpuGfnToMemslot(vcpu, gfn);
  if (isPrivate) return privatePageFault(vcpu, slot, gfn);
  if (slot === null) {
    // What tables cannot reach is no memory; an entry for it would be another frame's.
    if (gfn > kvmMmuMaxGfn(kvm)) return RET_PF_EMULATE;
    if (isApicAccessGfn(kvm, gfn)) return apicAccessPageFault(vcpu, gfn);
    const mmio = makeMmioSpte(gfn, kvm.memslotGeneration, kvm.arch.shadowMmioValue);
    kvm.arch.tdpMmu.map(gfn, PG_LEVEL_4K, mmio);
    return RET_PF_EMULATE;
  }
  return sharedPageFault(vcpu, slot, gfn, errorCode);
}

/** While hardware does not virtualize APIC accesses, each is emulated, and nothing is cached that would have to go again. */
function apicAccessPageFault(vcpu: X86Vcpu, gfn: Gfn): number {
  const { kvm } = vcpu;
  if (!kvmApicvActivated(kvm)) return RET_PF_EMULATE;
  const memoryType = BigInt(kvm.ops.getMtMask(vcpu, false));
  const spte = makeSpte(kvm.arch.apicAccessPage, PG_LEVEL_4K, true, true, memoryType);
  return kvm.arch.tdpMmu.map(gfn, PG_LEVEL_4K, spte) === MAP_NOMEM ? -ENOMEM : RET_PF_FIXED;
}

/** @upstream kvm_mmu_faultin_pfn_gmem() */
function privatePageFault(vcpu: X86Vcpu, slot: KvmMemorySlot | null, gfn: Gfn): number {
  // Devices are shared by nature, and a slot without guest_memfd has nothing private.
  if (!kvmSlotHasGmem(slot)) return memoryFaultExit(vcpu, gfn, true, -EFAULT);
  const page = kvmGmemGetPfn(slot, gfn);
  if (page < 0) return memoryFaultExit(vcpu, gfn, true, page);
  return kvmMmuMapPrivatePage(vcpu, gfn, page);
}

/** Maps a page of a guest_memfd; always in 4 KiB, which is what the files are made of. */
export function kvmMmuMapPrivatePage(vcpu: X86Vcpu, gfn: Gfn, page: Hpa): number {
  const { arch, ops } = vcpu.kvm;
  const spte = makeSpte(page, PG_LEVEL_4K, true, true, BigInt(ops.getMtMask(vcpu, false)));
  const mmu = arch.mirrorMmu ?? arch.tdpMmu;
  const mapped = arch.mmuLock.read(() => mmu.map(gfn, PG_LEVEL_4K, spte));
  if (mapped === MAP_NOMEM) return -ENOMEM;
  if (mapped === MAP_RETRY) return RET_PF_RETRY;
  return mapped === MAP_FIXED ? RET_PF_FIXED : RET_PF_SPURIOUS;
}

function sharedPageFault(vcpu: X86Vcpu, slot: KvmMemorySlot, gfn: Gfn, errorCode: number): number {
  const { kvm } = vcpu;
  const write = (errorCode & PFERR_WRITE_MASK) !== 0;
  const readOnly = (slot.flags & KVM_MEM_READONLY) !== 0;
  if (write && readOnly) return RET_PF_EMULATE;
  if (write && errorCode & PFERR_PRESENT_MASK && fastPageFault(kvm, slot, gfn)) return RET_PF_FIXED;

  const hva = gfnToHvaMemslot(slot, gfn);
  const page = kvm.mm.faultIn(hva);
  if (page === undefined) return -EFAULT;
  const logging = (slot.flags & KVM_MEM_LOG_DIRTY_PAGES) !== 0;
  const level = logging ? PG_LEVEL_4K : mappingLevel(kvm, slot, gfn, hva);
  const writable = !readOnly && (!logging || write);
  const base = gfnRoundForLevel(gfn, level);
  const memoryType = BigInt(kvm.ops.getMtMask(vcpu, false));
  const spte = makeSpte(page - (gfn - base) * PAGE_SIZE, level, writable, !readOnly, memoryType);
  if (kvm.arch.tdpMmu.map(base, level, spte) === MAP_NOMEM) return -ENOMEM;
  if (logging && write) markPageDirtyInSlot(slot, gfn);
  return RET_PF_FIXED;
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

/** The largest page that host memory, slot, attributes and alignment allow. @upstream kvm_mmu_max_mapping_level() */
function mappingLevel(kvm: X86Vm, slot: KvmMemorySlot, gfn: Gfn, hva: number): number {
  const frames = pagesPerHpage(PG_LEVEL_2M);
  const base = gfnRoundForLevel(gfn, PG_LEVEL_2M);
  if (base < slot.baseGfn || base + frames > slot.baseGfn + slot.npages) return PG_LEVEL_4K;
  if ((slot.userspaceAddr / PAGE_SIZE - slot.baseGfn) % frames !== 0) return PG_LEVEL_4K;
  if (!kvmRangeIsPrivate(kvm, base, base + frames, false)) return PG_LEVEL_4K;
  return kvm.mm.isHuge(hva) ? PG_LEVEL_2M : PG_LEVEL_4K;
}

/** The root goes to the VMCS. False without memory. @upstream kvm_mmu_load() */
export function kvmMmuLoad(vcpu: X86Vcpu): boolean {
  const { arch, ops } = vcpu.kvm;
  if (arch.mirrorMmu !== null && arch.mirrorMmu.root() === undefined) return false;
  const root = arch.tdpMmu.root();
  if (root === undefined) return false;
  ops.loadMmuPgd(vcpu, root, arch.tdpMmu.rootLevel);
  return true;
}

/** Every vCPU drops its translations before it runs again. @upstream kvm_flush_remote_tlbs() */
export function kvmFlushRemoteTlbs(kvm: X86Vm): void {
  kvmMakeAllCpusRequest(kvm, KVM_REQ_TLB_FLUSH);
}
