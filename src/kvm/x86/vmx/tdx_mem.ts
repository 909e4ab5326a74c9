/**
 * Memory that a TD begins with: KVM_TDX_INIT_MEM_REGION, page by page, measured if user space says so; and
 * KVM_TDX_FINALIZE_VM, after which there is no more of it.
 *
 * @upstream arch/x86/kvm/vmx/tdx.c tdx_vcpu_init_mem_region(), tdx_gmem_post_populate(), tdx_td_finalize()
 */
import { EBUSY, EINTR, EINVAL, EIO, EOPNOTSUPP, type Errno } from '../../../host/errno.ts';
import { TDX_SUCCESS, tdxHex, tdxOperandBusy } from '../../../host/tdx-errno.ts';
import { tdhMrExtend, tdhMrFinalize } from '../../../host/tdx-leaves.ts';
import { type Gfn, type Hpa, isPageAligned, PAGE_SIZE } from '../../../util/address.ts';
import { kvmGmemPopulate } from '../../virt/guest_memfd.ts';
import type { X86Vcpu } from '../kvm_host.ts';
import { kvmTdpMmuMapPrivatePfn } from '../mmu/prefault.ts';
import { KVM_TDX_MEASURE_MEMORY_REGION, type KvmTdxInitMemRegion } from '../uapi_tdx.ts';
import { TDX_EXTENDMR_CHUNKSIZE } from './tdx_arch.ts';
import { tdxBug, tdxRetryBusy } from './tdx_pages.ts';
import { type KvmTdx, TD_STATE_RUNNABLE, toTdx, VCPU_TD_STATE_INITIALIZED, vtIsTdxPrivateGpa } from './tdx_types.ts';

/** Adds the page with its content, and measures it. @upstream tdx_gmem_post_populate() */
function postPopulate(vcpu: X86Vcpu, measure: boolean, gfn: Gfn, page: Hpa, source: Hpa | undefined): Errno {
  const { td } = toTdx(vcpu);
  if (source === undefined) return -EOPNOTSUPP;
  td.pageAddSrc = source;
  const failed = kvmTdpMmuMapPrivatePfn(vcpu, gfn, page);
  td.pageAddSrc = null;
  if (failed !== 0 || !measure) return failed;
  for (let offset = 0; offset < PAGE_SIZE; offset += TDX_EXTENDMR_CHUNKSIZE) {
    const rax = tdxRetryBusy(() => tdhMrExtend(td.cpus, td.tdr!, gfn * PAGE_SIZE + offset).rax);
    if (rax === TDX_SUCCESS) continue;
    tdxBug(td.kvm, 'TDH.MR.EXTEND', rax);
    return -EIO;
  }
  return 0;
}

/** KVM_TDX_INIT_MEM_REGION; `region` is advanced over what is done, so that it can be continued. @upstream tdx_vcpu_init_mem_region() */
export function tdxVcpuInitMemRegion(vcpu: X86Vcpu, flags: number, region: KvmTdxInitMemRegion): Errno {
  const { kvm } = vcpu;
  const tdx = toTdx(vcpu);
  if (tdx.state !== VCPU_TD_STATE_INITIALIZED) return -EINVAL;
  if (flags & ~KVM_TDX_MEASURE_MEMORY_REGION) return -EINVAL;
  const { gpa, nrPages, sourceAddr } = region;
  if (!isPageAligned(gpa) || !isPageAligned(sourceAddr) || !Number.isSafeInteger(nrPages) || nrPages <= 0)
    return -EINVAL;
  const end = gpa + nrPages * PAGE_SIZE;
  if (end >= 2 ** 52 || !vtIsTdxPrivateGpa(kvm, BigInt(gpa)) || !vtIsTdxPrivateGpa(kvm, BigInt(end - 1)))
    return -EINVAL;
  // all checks passed
  const measure = (flags & KVM_TDX_MEASURE_MEMORY_REGION) !== 0;
  while (region.nrPages > 0) {
    if (vcpu.task.signalPending) return -EINTR;
    const gfn = region.gpa / PAGE_SIZE;
    const done = kvmGmemPopulate(kvm, gfn, region.sourceAddr, 1, (_kvm, at, page, source) =>
      postPopulate(vcpu, measure, at, page, source),
    );
    if (done < 0) return done;
    if (done !== 1) return -EIO;
    region.sourceAddr += PAGE_SIZE;
    region.gpa += PAGE_SIZE;
    region.nrPages--;
  }
  return 0;
}

/** KVM_TDX_FINALIZE_VM: the measurement is complete, vCPUs may run. @upstream tdx_td_finalize() */
export function tdxTdFinalize(td: KvmTdx): Errno {
  const { kvm, tdr } = td;
  if (!td.hkidAssigned || tdr === null || td.state === TD_STATE_RUNNABLE) return -EINVAL;
  const rax = tdhMrFinalize(td.cpus, tdr);
  if (tdxOperandBusy(rax)) return -EBUSY;
  if (rax !== TDX_SUCCESS) {
    kvm.host.log(`kvm: TDH.MR.FINALIZE failed: ${tdxHex(rax)}`);
    return -EIO;
  }
  td.state = TD_STATE_RUNNABLE;
  kvm.arch.preFaultAllowed = true;
  return 0;
}
