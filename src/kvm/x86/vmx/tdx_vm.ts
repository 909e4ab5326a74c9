/**
 * A trust domain's life: created with a KeyID and control structures, torn down in the order that the TDX module demands.
 *
 * @upstream arch/x86/kvm/vmx/tdx.c tdx_vm_init(), __tdx_td_init(), tdx_mmu_release_hkid(), tdx_vm_destroy()
 */
import type { Cpu } from '../../../host/cpus.ts';
import { EAGAIN, EINVAL, EIO, ENOMEM, type Errno } from '../../../host/errno.ts';
import {
  TDX_FLUSHVP_NOT_DONE,
  TDX_INTERRUPTED_RESUMABLE,
  TDX_KEY_GENERATION_FAILED,
  TDX_NO_HKID_READY_TO_WBCACHE,
  TDX_OPERAND_INVALID,
  TDX_RND_NO_ENTROPY,
  TDX_SUCCESS,
  tdxHex,
  tdxStatus,
} from '../../../host/tdx-errno.ts';
import {
  tdhMngAddcx,
  tdhMngCreate,
  tdhMngInit,
  tdhMngKeyConfig,
  tdhMngKeyFreeid,
  tdhMngRd,
  tdhMngVpflushdone,
  tdhPhymemCacheWb,
} from '../../../host/tdx-leaves.ts';
import { type Hpa, PAGE_SIZE } from '../../../util/address.ts';
import { vcpusOf, type X86Vm } from '../kvm_host.ts';
import { SHADOW_MMIO_VALUE_TD } from '../mmu/spte.ts';
import { TD_TDCS_EXEC_TSC_MULTIPLIER, TD_TDCS_EXEC_TSC_OFFSET } from './tdx_arch.ts';
import { tdxAllocPage, tdxBug, tdxFreePage, tdxReclaimTdControlPages, tdxRetryBusy } from './tdx_pages.ts';
import { type KvmTdx, newKvmTdx, TD_STATE_UNINITIALIZED, toKvmTdx } from './tdx_types.ts';
import { tdxFlushVpOnCpu } from './tdx_vcpu.ts';

/** KVM_X86_QUIRK_IGNORE_GUEST_PAT: a TD's PAT counts. */
const QUIRK_IGNORE_GUEST_PAT = 1n << 9n;
/** How often the write-back of caches is resumed. */
const CACHE_WB_RETRIES = 10_000;
/** Key generation may lack entropy for a while. */
const KEY_RETRIES = 10;

/** KVM_CREATE_VM: nothing is asked of the module yet. @upstream tdx_vm_init() */
export function tdxVmInit(kvm: X86Vm): Errno {
  const { arch, host } = kvm;
  newKvmTdx(kvm);
  arch.hasProtectedState = true;
  arch.hasProtectedEoi = true;
  arch.hasPrivateMem = true;
  arch.disabledQuirks |= QUIRK_IGNORE_GUEST_PAT;
  // The guest takes #VE on MMIO, and asks for the access by TDG.VP.VMCALL.
  arch.shadowMmioValue = SHADOW_MMIO_VALUE_TD;
  kvm.maxVcpus = Math.min(kvm.maxVcpus, host.cpus.possible.length);
  return 0;
}

/** What KVM_TDX_INIT_VM came to: an errno, and what the module said where it refused the parameters. */
export interface TdInitResult {
  readonly result: Errno;
  readonly hwError: bigint;
}

const failed = (result: Errno, hwError = 0n): TdInitResult => ({ result, hwError });

/**
 * KeyID, TDR, TDCS and MNG.INIT. Whatever fails, nothing stays: what the module has is torn down, what it has not is freed.
 *
 * @param params TD_PARAMS, in a page of the host
 * @upstream __tdx_td_init()
 */
export function tdxTdInit(td: KvmTdx, params: Hpa): TdInitResult {
  const { kvm, cpus } = td;
  const { tdx } = kvm.host;
  const info = tdx.sysInfo;
  if (info === null) return failed(-EIO);
  const hkid = tdx.keyIds.alloc();
  if (hkid < 0) return failed(hkid);

  const tdr = tdxAllocPage(kvm);
  const tdcs: Hpa[] = [];
  for (let i = 0; i < info.tdcsBaseSize / PAGE_SIZE && tdr !== undefined; i++) {
    const page = tdxAllocPage(kvm);
    if (page === undefined) break;
    tdcs.push(page);
  }
  // Before the module has the TDR, pages and KeyID are simply given back.
  const undo = (result: Errno): TdInitResult => {
    for (const page of tdcs) tdxFreePage(kvm, page);
    if (tdr !== undefined) tdxFreePage(kvm, tdr);
    tdx.keyIds.free(hkid);
    return failed(result);
  };
  if (tdr === undefined || tdcs.length < info.tdcsBaseSize / PAGE_SIZE) return undo(-ENOMEM);
  const packages = tdx.onePerPackage();
  // The key is configured in every package, by a CPU of it.
  if (packages.length < tdx.packages.size) return undo(-EIO);
  const created = tdxRetryBusy(() => tdhMngCreate(cpus, tdr, hkid));
  if (created !== TDX_SUCCESS) return undo(tdxStatus(created) === TDX_RND_NO_ENTROPY ? -EAGAIN : -EIO);

  td.hkid = hkid;
  td.tdr = tdr;
  const result = initCreated(td, tdr, tdcs, packages, params);
  if (result.result !== 0) {
    tdxMmuReleaseHkid(kvm);
    tdxReclaimTdControlPages(td);
    for (const page of tdcs) tdxFreePage(kvm, page);
  }
  return result;
}

/** What follows MNG.CREATE. Pages that the module takes leave `spare`. */
function initCreated(td: KvmTdx, tdr: Hpa, spare: Hpa[], packages: readonly Cpu[], params: Hpa): TdInitResult {
  const { kvm, cpus } = td;
  for (const cpu of packages) {
    const answer = { rax: TDX_SUCCESS };
    cpus.smpCallFunctionSingle(cpu, () => {
      answer.rax = configureKey(td, tdr);
    });
    if (answer.rax !== TDX_SUCCESS) {
      kvm.host.log(`kvm: TDH.MNG.KEY.CONFIG failed: ${tdxHex(answer.rax)}`);
      return failed(tdxStatus(answer.rax) === TDX_RND_NO_ENTROPY ? -EAGAIN : -EIO);
    }
  }
  for (let page = spare[0]; page !== undefined; page = spare[0]) {
    const added = page;
    const rax = tdxRetryBusy(() => tdhMngAddcx(cpus, tdr, added));
    if (rax !== TDX_SUCCESS) {
      kvm.host.log(`kvm: TDH.MNG.ADDCX failed: ${tdxHex(rax)}`);
      return failed(-EIO);
    }
    td.tdcs.push(added);
    spare.shift();
  }
  const init = tdxRetryBusy(() => tdhMngInit(cpus, tdr, params).rax);
  if (init !== TDX_SUCCESS) {
    // The parameters are user space's: the module's word about them is, too.
    if (tdxStatus(init) === TDX_OPERAND_INVALID) return failed(-EINVAL, init);
    kvm.host.log(`kvm: TDH.MNG.INIT failed: ${tdxHex(init)}`);
    return failed(-EIO);
  }
  const offset = readField(td, tdr, TD_TDCS_EXEC_TSC_OFFSET);
  const multiplier = readField(td, tdr, TD_TDCS_EXEC_TSC_MULTIPLIER);
  if (offset === null || multiplier === null) return failed(-EIO);
  td.tscOffset = BigInt.asIntN(64, offset);
  td.tscMultiplier = multiplier;
  return failed(0);
}

/** A field of the TD's metadata; null if the module does not give it. */
function readField({ cpus }: KvmTdx, tdr: Hpa, field: bigint): bigint | null {
  const answer = { r8: 0n };
  const rax = tdxRetryBusy(() => {
    const read = tdhMngRd(cpus, tdr, field);
    answer.r8 = read.r8;
    return read.rax;
  });
  return rax === TDX_SUCCESS ? answer.r8 : null;
}

function configureKey(td: KvmTdx, tdr: Hpa): bigint {
  for (let retry = KEY_RETRIES; ; retry--) {
    const rax = tdxRetryBusy(() => tdhMngKeyConfig(td.cpus, tdr));
    if (retry === 0 || tdxStatus(rax) !== TDX_KEY_GENERATION_FAILED) return rax;
  }
}

/**
 * No vCPU runs any more: nothing of the TD stays in any processor or cache, and its KeyID may serve another.
 *
 * If that fails the KeyID stays assigned, and with it every page of the TD is lost.
 *
 * @upstream tdx_mmu_release_hkid()
 */
export function tdxMmuReleaseHkid(kvm: X86Vm): void {
  const td = toKvmTdx(kvm);
  const { cpus, tdr } = td;
  if (!td.hkidAssigned || tdr === null) return;
  for (const vcpu of vcpusOf(kvm)) tdxFlushVpOnCpu(vcpu);
  const flushed = tdxRetryBusy(() => tdhMngVpflushdone(cpus, tdr));
  // A vCPU could not be flushed: the reason is known already.
  if (tdxStatus(flushed) === TDX_FLUSHVP_NOT_DONE) return;
  if (flushed !== TDX_SUCCESS) {
    tdxBug(kvm, 'TDH.MNG.VPFLUSHDONE', flushed);
    return;
  }
  const { tdx } = kvm.host;
  for (const cpu of tdx.onePerPackage()) cpus.smpCallFunctionSingle(cpu, () => writeBackCaches(kvm));
  const freed = tdxRetryBusy(() => tdhMngKeyFreeid(cpus, tdr));
  if (freed !== TDX_SUCCESS) {
    tdxBug(kvm, 'TDH.MNG.KEY.FREEID', freed);
    return;
  }
  tdx.keyIds.free(td.hkid);
  td.hkid = -1;
}

/** On one CPU of a package. @upstream smp_func_do_phymem_cache_wb() */
function writeBackCaches(kvm: X86Vm): void {
  const { cpus } = kvm.host;
  let rax = tdxRetryBusy(() => tdhPhymemCacheWb(cpus, false));
  for (let i = 0; i < CACHE_WB_RETRIES && tdxStatus(rax) === TDX_INTERRUPTED_RESUMABLE; i++)
    rax = tdxRetryBusy(() => tdhPhymemCacheWb(cpus, true));
  if (rax !== TDX_SUCCESS && tdxStatus(rax) !== TDX_NO_HKID_READY_TO_WBCACHE)
    kvm.host.log(`kvm: TDH.PHYMEM.CACHE.WB failed: ${tdxHex(rax)}`);
}

/** @upstream tdx_vm_pre_destroy() */
export const tdxVmPreDestroy = (kvm: X86Vm): void => tdxMmuReleaseHkid(kvm);

/** vCPUs and secure EPT are gone: the TD's own control structures come last. @upstream tdx_vm_destroy() */
export function tdxVmDestroy(kvm: X86Vm): void {
  const td = toKvmTdx(kvm);
  tdxReclaimTdControlPages(td);
  td.state = TD_STATE_UNINITIALIZED;
}
