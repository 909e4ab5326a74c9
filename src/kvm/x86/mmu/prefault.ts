/**
 * Mapping pages before the guest touches them: on user space's wish, or for the content that a trust domain starts with.
 *
 * @upstream arch/x86/kvm/mmu/mmu.c kvm_arch_vcpu_pre_fault_memory(), kvm_tdp_mmu_map_private_pfn()
 */
import { EBUSY, EINTR, EINVAL, EIO, ENOENT, ENOMEM, EOPNOTSUPP, type Errno } from '../../../host/errno.ts';
import { type Gfn, type Gpa, type Hpa, PAGE_SIZE } from '../../../util/address.ts';
import { kvmCheckRequest } from '../../virt/kvm_host.ts';
import { kvmMemIsPrivate } from '../../virt/mem_attributes.ts';
import { KVM_REQ_LOAD_MMU_PGD, type X86Vcpu } from '../kvm_host.ts';
import {
  gfnOfGpa,
  kvmMmuLoad,
  kvmMmuMapPrivatePage,
  kvmTdpPageFault,
  RET_PF_EMULATE,
  RET_PF_FIXED,
  RET_PF_RETRY,
} from './mmu.ts';
import { PFERR_PRIVATE_ACCESS } from './pferr.ts';
import { pagesPerHpage } from './tdp_mmu.ts';

/** How often a page is tried that somebody else is at. Nobody else runs in between, so more would not help. */
const TRIES = 16;

/** The root is there. @upstream kvm_mmu_reload() */
function kvmMmuReload(vcpu: X86Vcpu): Errno {
  if (!kvmCheckRequest(KVM_REQ_LOAD_MMU_PGD, vcpu) && vcpu.kvm.arch.tdpMmu.hasRoot) return 0;
  return kvmMmuLoad(vcpu) ? 0 : -ENOMEM;
}

/** RET_PF_*, or a negative errno, after trying again as long as it may help. */
function retried(vcpu: X86Vcpu, map: () => number): number {
  for (let i = 0; i < TRIES; i++) {
    if (vcpu.task.signalPending) return -EINTR;
    if (vcpu.kvm.vmDead) return -EIO;
    const result = map();
    if (result !== RET_PF_RETRY) return result;
  }
  return -EBUSY;
}

/** Maps the page at `gpa`: how many bytes from there on are mapped now, at most `size`, or a negative errno. */
export function kvmArchVcpuPreFaultMemory(vcpu: X86Vcpu, gpa: Gpa, size: number): number {
  const { kvm } = vcpu;
  if (!kvm.arch.preFaultAllowed) return -EOPNOTSUPP;
  // An address is given without the bit that says shared or private: the attribute does.
  const gfn = gpa / PAGE_SIZE;
  if (gfnOfGpa(kvm, gpa) !== gfn) return -EINVAL;
  const failed = kvmMmuReload(vcpu);
  if (failed !== 0) return failed;
  const isPrivate = kvmMemIsPrivate(kvm, gfn);
  const address = isPrivate ? gpa : gpa + kvm.arch.gfnDirectBits * PAGE_SIZE;
  const result = retried(vcpu, () => kvmTdpPageFault(vcpu, address, isPrivate ? PFERR_PRIVATE_ACCESS : 0));
  if (result < 0) return result;
  if (result === RET_PF_EMULATE) return -ENOENT;
  const mmu = isPrivate ? (kvm.arch.mirrorMmu ?? kvm.arch.tdpMmu) : kvm.arch.tdpMmu;
  const mapped = pagesPerHpage(mmu.lookup(gfn)!.level) * PAGE_SIZE;
  return Math.min(size, mapped - (gpa % mapped));
}

/** Maps a page of a guest_memfd where nothing is mapped yet; −EIO where something is. @upstream kvm_tdp_mmu_map_private_pfn() */
export function kvmTdpMmuMapPrivatePfn(vcpu: X86Vcpu, gfn: Gfn, page: Hpa): Errno {
  const failed = kvmMmuReload(vcpu);
  if (failed !== 0) return failed;
  const result = retried(vcpu, () => kvmMmuMapPrivatePage(vcpu, gfn, page));
  if (result < 0) return result;
  return result === RET_PF_FIXED ? 0 : -EIO;
}
