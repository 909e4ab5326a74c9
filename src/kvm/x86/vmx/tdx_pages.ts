/**
 * Pages that the TDX module has for a TD's control structures: given one by one, and taken back when the TD is gone.
 *
 * What cannot be taken back stays lost: its content is protected by a key that may still be in use.
 *
 * @upstream arch/x86/kvm/vmx/tdx.c tdx_reclaim_page(), tdx_reclaim_control_page(), tdx_reclaim_td_control_pages()
 */
import { EIO, type Errno } from '../../../host/errno.ts';
import { PAGE_OWNER } from '../../../host/pages.ts';
import { TDX_SUCCESS, tdxHex, tdxOperandBusy } from '../../../host/tdx-errno.ts';
import { tdhPhymemPageReclaim, tdhPhymemPageWbinvdHkid } from '../../../host/tdx-leaves.ts';
import { type Hpa, PAGE_SIZE } from '../../../util/address.ts';
import { kvmVmBugged } from '../../virt/kvm_host.ts';
import type { X86Vm } from '../kvm_host.ts';
import type { KvmTdx } from './tdx_types.ts';

/** Others hold a lock of the module only for a moment. */
const BUSY_RETRIES = 10;

/** Repeats a call that finds a lock taken. */
export function tdxRetryBusy(call: () => bigint): bigint {
  for (let retry = BUSY_RETRIES; ; retry--) {
    const rax = call();
    if (retry === 0 || !tdxOperandBusy(rax)) return rax;
  }
}

/** The module did what it must not do: the VM is dead. @upstream TDX_BUG_ON() */
export function tdxBug(kvm: X86Vm, leaf: string, rax: bigint): void {
  kvmVmBugged(kvm, `${leaf}: ${tdxHex(rax)}`);
}

/** A page for the module; undefined without memory. */
export const tdxAllocPage = (kvm: X86Vm): Hpa | undefined => kvm.host.pages.alloc(PAGE_OWNER.tdx);
export function tdxFreePage(kvm: X86Vm, page: Hpa): void {
  kvm.host.pages.free(page);
}

/** The page is the host's again, with the host's key. @upstream tdx_quirk_reset_page() */
export function tdxQuirkResetPage(kvm: X86Vm, page: Hpa): void {
  kvm.host.machine.memory.fill(page, PAGE_SIZE);
}

/** Takes one page of a dead TD back, still with the key it was written with. −EIO: it stays the module's. */
function reclaimKeyed(kvm: X86Vm, page: Hpa): Errno {
  const rax = tdxRetryBusy(() => tdhPhymemPageReclaim(kvm.host.cpus, page).rax);
  if (rax !== TDX_SUCCESS) {
    kvm.host.log(`kvm: TDH.PHYMEM.PAGE.RECLAIM of ${page.toString(16)} failed: ${tdxHex(rax)}; the page is lost`);
    return -EIO;
  }
  return 0;
}

/** The same, and the page is the host's. @upstream tdx_reclaim_page() */
export function tdxReclaimPage(kvm: X86Vm, page: Hpa): Errno {
  const failed = reclaimKeyed(kvm, page);
  if (failed === 0) tdxQuirkResetPage(kvm, page);
  return failed;
}

/** The same, and frees it. */
export function tdxReclaimControlPage(kvm: X86Vm, page: Hpa): void {
  if (tdxReclaimPage(kvm, page) === 0) tdxFreePage(kvm, page);
}

/** TDCS pages, then the TDR, which is written with the module's own key. */
export function tdxReclaimTdControlPages(td: KvmTdx): void {
  const { kvm, tdr } = td;
  // A KeyID that could not be freed may still be in some cache: its pages must not come back.
  if (td.hkidAssigned || tdr === null) return;
  for (const page of td.tdcs.splice(0)) tdxReclaimControlPage(kvm, page);
  td.tdr = null;
  if (reclaimKeyed(kvm, tdr) !== 0) return;
  const { cpus, tdx } = kvm.host;
  const rax = tdxRetryBusy(() => tdhPhymemPageWbinvdHkid(cpus, tdr, tdx.globalKeyId));
  if (rax !== TDX_SUCCESS) {
    tdxBug(kvm, 'TDH.PHYMEM.PAGE.WBINVD', rax);
    return;
  }
  tdxQuirkResetPage(kvm, tdr);
  tdxFreePage(kvm, tdr);
}
