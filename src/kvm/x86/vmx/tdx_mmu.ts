/**
 * The secure EPT behind a TD's mirror: every entry that KVM's MMU makes present or takes away, as SEAMCALLs.
 *
 * Before a page comes back no processor may have a translation of it: it is blocked, the TD's TLB epoch advances, vCPUs
 * leave the guest, and only then is it removed. A call that finds a lock of the module taken has met a vCPU inside the TD:
 * all are kept out while it is made again.
 *
 * @upstream arch/x86/kvm/vmx/tdx.c tdx_sept_*(), tdx_track(), tdx_mem_page_*()
 */
import { EBUSY, EIO, type Errno } from '../../../host/errno.ts';
import { TDX_SUCCESS, tdxOperandBusy } from '../../../host/tdx-errno.ts';
import {
  tdhMemPageAdd,
  tdhMemPageAug,
  tdhMemPageRemove,
  tdhMemRangeBlock,
  tdhMemSeptAdd,
  tdhMemTrack,
  tdhPhymemPageWbinvdHkid,
} from '../../../host/tdx-leaves.ts';
import { type Gfn, type Hpa, PAGE_SIZE } from '../../../util/address.ts';
import { IN_GUEST_MODE, kvmVcpuKick, kvmVmBugged } from '../../virt/kvm_host.ts';
import type { X86Vm } from '../kvm_host.ts';
import { EPT_EXECUTABLE, EPT_READABLE, EPT_WRITABLE, spteAddress } from '../mmu/spte.ts';
import { PG_LEVEL_4K } from '../mmu/tdp_mmu.ts';
import { tdxBug, tdxQuirkResetPage, tdxReclaimPage, tdxRetryBusy } from './tdx_pages.ts';
import { type KvmTdx, TD_STATE_RUNNABLE, toKvmTdx } from './tdx_types.ts';

const RWX: bigint = EPT_READABLE | EPT_WRITABLE | EPT_EXECUTABLE;

/** KVM's levels begin with 1, the module's with 0. @upstream pg_level_to_tdx_sept_level() */
const septLevel = (level: number): number => level - 1;

function bug(kvm: X86Vm, what: string): Errno {
  kvmVmBugged(kvm, what);
  return -EIO;
}

/** −EBUSY where a lock is taken, to fault again; anything else is a bug. */
function outcome(kvm: X86Vm, leaf: string, rax: bigint): Errno {
  if (rax === TDX_SUCCESS) return 0;
  if (tdxOperandBusy(rax)) return -EBUSY;
  tdxBug(kvm, leaf, rax);
  return -EIO;
}

/** A table becomes part of the secure EPT. @upstream tdx_sept_link_private_spt() */
export function tdxSeptLinkPrivateSpt(kvm: X86Vm, gfn: Gfn, level: number, table: Hpa): Errno {
  const { cpus, tdr } = toKvmTdx(kvm);
  if (tdr === null) return bug(kvm, 'secure EPT of a TD that does not exist');
  const { rax } = tdhMemSeptAdd(cpus, tdr, gfn * PAGE_SIZE, septLevel(level), table);
  return outcome(kvm, 'TDH.MEM.SEPT.ADD', rax);
}

/** A page becomes the TD's: with content before it runs, to be accepted afterwards. @upstream tdx_sept_set_private_spte() */
export function tdxSeptSetPrivateSpte(kvm: X86Vm, gfn: Gfn, level: number, mirrorSpte: bigint): Errno {
  const td = toKvmTdx(kvm);
  const { tdr } = td;
  if (tdr === null) return bug(kvm, 'secure EPT of a TD that does not exist');
  if (level !== PG_LEVEL_4K) return bug(kvm, `a private page of level ${level}`);
  if ((mirrorSpte & RWX) !== RWX) return bug(kvm, 'a private page with restricted access');
  const page = spteAddress(mirrorSpte);
  // The module has it until it gives it back: if it never does, the page is lost to the host.
  kvm.host.pages.pin(page);
  const failed = addOrAug(td, tdr, gfn, level, page);
  if (failed !== 0) kvm.host.pages.unpin(page);
  return failed;
}

function addOrAug(td: KvmTdx, tdr: Hpa, gfn: Gfn, level: number, page: Hpa): Errno {
  const { kvm, cpus } = td;
  const gpa = gfn * PAGE_SIZE;
  if (td.state === TD_STATE_RUNNABLE) {
    const { rax } = tdhMemPageAug(cpus, tdr, gpa, septLevel(level), page);
    return outcome(kvm, 'TDH.MEM.PAGE.AUG', rax);
  }
  // Until then nothing but KVM_TDX_INIT_MEM_REGION adds pages.
  if (td.pageAddSrc === null) return bug(kvm, 'a private page is added without content');
  const { rax } = tdhMemPageAdd(cpus, tdr, gpa, page, td.pageAddSrc);
  return outcome(kvm, 'TDH.MEM.PAGE.ADD', rax);
}

/** vCPUs are kicked out and none enters while `call` is made. @upstream tdx_no_vcpus_enter_start() */
function withoutVcpus(td: KvmTdx, call: () => bigint): bigint {
  td.waitForSeptZap = true;
  kickVcpus(td);
  const rax = call();
  td.waitForSeptZap = false;
  return rax;
}

/** Every vCPU in guest mode leaves it. @upstream kvm_make_all_cpus_request() with KVM_REQ_OUTSIDE_GUEST_MODE */
function kickVcpus(td: KvmTdx): void {
  for (const vcpu of td.kvm.vcpus) if (vcpu.mode === IN_GUEST_MODE) kvmVcpuKick(vcpu);
}

/** Once, and again with all vCPUs out. @upstream tdh_do_no_vcpus() */
function doNoVcpus(td: KvmTdx, call: () => bigint): bigint {
  const rax = call();
  return tdxOperandBusy(rax) ? withoutVcpus(td, () => tdxRetryBusy(call)) : rax;
}

/** A new TLB epoch: when every vCPU has left the guest once, old translations are gone. @upstream tdx_track() */
function tdxTrack(td: KvmTdx, tdr: Hpa): boolean {
  // Before it runs a TD has no translations.
  if (td.state !== TD_STATE_RUNNABLE) return true;
  const rax = doNoVcpus(td, () => tdhMemTrack(td.cpus, tdr));
  if (rax !== TDX_SUCCESS) {
    tdxBug(td.kvm, 'TDH.MEM.TRACK', rax);
    return false;
  }
  kickVcpus(td);
  return true;
}

/** A page is taken from the TD and is the host's again. @upstream tdx_sept_remove_private_spte() */
export function tdxSeptRemovePrivateSpte(kvm: X86Vm, gfn: Gfn, level: number, mirrorSpte: bigint): void {
  const td = toKvmTdx(kvm);
  const { cpus, tdr } = td;
  // guest_memfd keeps the VM, so private pages go while the KeyID is there.
  if (tdr === null || !td.hkidAssigned) {
    kvmVmBugged(kvm, 'a private page outlives the KeyID of its TD');
    return;
  }
  if (level !== PG_LEVEL_4K) {
    kvmVmBugged(kvm, `a private page of level ${level}`);
    return;
  }
  const gpa = gfn * PAGE_SIZE;
  const blocked = doNoVcpus(td, () => tdhMemRangeBlock(cpus, tdr, gpa, septLevel(level)).rax);
  if (blocked !== TDX_SUCCESS) {
    tdxBug(kvm, 'TDH.MEM.RANGE.BLOCK', blocked);
    return;
  }
  if (!tdxTrack(td, tdr)) return;
  const removed = doNoVcpus(td, () => tdhMemPageRemove(cpus, tdr, gpa, septLevel(level)).rax);
  if (removed !== TDX_SUCCESS) {
    tdxBug(kvm, 'TDH.MEM.PAGE.REMOVE', removed);
    return;
  }
  const page = spteAddress(mirrorSpte);
  const written = tdxRetryBusy(() => tdhPhymemPageWbinvdHkid(cpus, page, td.hkid));
  if (written !== TDX_SUCCESS) {
    tdxBug(kvm, 'TDH.PHYMEM.PAGE.WBINVD', written);
    return;
  }
  tdxQuirkResetPage(kvm, page);
  kvm.host.pages.unpin(page);
}

/** A table comes back: only when the TD is torn down, as nothing tracks translations through it. @upstream tdx_sept_free_private_spt() */
export function tdxSeptFreePrivateSpt(kvm: X86Vm, _gfn: Gfn, _level: number, table: Hpa): Errno {
  const td = toKvmTdx(kvm);
  // With the KeyID still assigned it is lost, without being a bug of this moment.
  if (td.hkidAssigned) return -EIO;
  return tdxReclaimPage(kvm, table);
}
