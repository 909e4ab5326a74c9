/**
 * Virtual processors of a trust domain: made, initialised, loaded on a CPU and flushed from it, freed.
 *
 * The module keeps a vCPU's state on the CPU that entered it last ("association"). Before it runs elsewhere, before that
 * CPU leaves VMX operation, and before the TD is torn down, it is flushed from there.
 *
 * @upstream arch/x86/kvm/vmx/tdx.c tdx_vcpu_create(), tdx_td_vcpu_init(), tdx_vcpu_load(), tdx_flush_vp()
 */
import type { Cpu } from '../../../host/cpus.ts';
import { EINVAL, EIO, ENOMEM, type Errno } from '../../../host/errno.ts';
import { TDX_SUCCESS, TDX_VCPU_NOT_ASSOCIATED, tdxHex, tdxStatus } from '../../../host/tdx-errno.ts';
import { tdhVpAddcx, tdhVpCreate, tdhVpFlush, tdhVpInit, tdhVpRd, tdhVpWr } from '../../../host/tdx-leaves.ts';
import { POSTED_INTR_VECTOR } from '../../../host/vectors.ts';
import { PIN } from '../../../machine/vtx/controls.ts';
import { PAGE_SIZE } from '../../../util/address.ts';
import { KVM_MP_STATE_RUNNABLE, type X86Vcpu } from '../kvm_host.ts';
import { kvmApicSetBase } from '../lapic.ts';
import { piSetSn } from './pi_desc.ts';
import { vmxVcpuPiLoad, vmxVcpuPiPut, vtPiDescAlloc, vtPiDescFree } from './posted_intr.ts';
import { POSTED_INTR_DESC_ADDR, POSTED_INTR_NV, tdvpsVmcs } from './tdx_arch.ts';
import { tdxAllocPage, tdxBug, tdxFreePage, tdxReclaimControlPage, tdxRetryBusy } from './tdx_pages.ts';
import {
  TD_STATE_INITIALIZED,
  TD_STATE_RUNNABLE,
  toKvmTdx,
  toTdx,
  VCPU_TD_STATE_INITIALIZED,
  VCPU_TD_STATE_UNINITIALIZED,
  VcpuTdx,
} from './tdx_types.ts';
import { PIN_BASED_VM_EXEC_CONTROL } from './vmcs.ts';

/** SCE, LME, LMA and NX: what the module gives every TD. */
const TD_EFER = 0xd01;
const APIC_DEFAULT_PHYS_BASE = 0xfee0_0000n;
const APICBASE_BSP = 0x100n;
const APICBASE_X2APIC_ENABLED = 0xc00n;

/** vCPUs whose state is on each CPU. @upstream associated_tdvcpus */
const associatedTdvcpus: WeakMap<Cpu, Set<X86Vcpu>> = new WeakMap();
function associatedOn(cpu: Cpu): Set<X86Vcpu> {
  let list = associatedTdvcpus.get(cpu);
  if (list === undefined) {
    list = new Set();
    associatedTdvcpus.set(cpu, list);
  }
  return list;
}
/** How many TD vCPUs have state on a CPU. */
export const tdxAssociatedCount = (cpu: Cpu): number => associatedTdvcpus.get(cpu)?.size ?? 0;

// ---- life

/** KVM_CREATE_VCPU: the module hears nothing yet. @upstream tdx_vcpu_create() */
export function tdxVcpuCreate(vcpu: X86Vcpu): Errno {
  const { arch, kvm } = vcpu;
  const td = toKvmTdx(kvm);
  if (td.state !== TD_STATE_INITIALIZED) return -EIO;
  // The module's APIC takes messages and posted interrupts: PIC and IOAPIC would need EOIs, which nobody sees.
  if (kvm.arch.irqchipMode !== 'split') return -EINVAL;
  const piDesc = vtPiDescAlloc(kvm.host);
  if (piDesc === undefined) return -ENOMEM;
  // all checks passed
  const tdx = new VcpuTdx(td);
  vcpu.vt = tdx;
  arch.guestApicProtected = true;
  arch.efer = TD_EFER;
  arch.cr0GuestOwnedBits = -1;
  arch.cr4GuestOwnedBits = -1;
  arch.tscOffset = td.tscOffset;
  arch.tscScalingRatio = td.tscMultiplier;
  arch.guestTscProtected = true;
  // Debug TDs are not supported, so no register of any TD can be seen.
  arch.guestStateProtected = true;
  arch.guestFpuConfidential = true;
  piDesc.nv = POSTED_INTR_VECTOR;
  piSetSn(piDesc);
  tdx.piDesc = piDesc;
  return 0;
}

/** @upstream tdx_vcpu_free() */
export function tdxVcpuFree(vcpu: X86Vcpu): void {
  const { kvm } = vcpu;
  const tdx = toTdx(vcpu);
  disassociate(vcpu);
  if (tdx.piDesc !== null) vtPiDescFree(kvm.host, tdx.piDesc);
  tdx.piDesc = null;
  // With the KeyID still assigned the pages are the TD's for ever.
  if (tdx.td.hkidAssigned) return;
  for (const page of tdx.tdcx.splice(0)) tdxReclaimControlPage(kvm, page);
  if (tdx.tdvpr !== null) tdxReclaimControlPage(kvm, tdx.tdvpr);
  tdx.tdvpr = null;
  tdx.state = VCPU_TD_STATE_UNINITIALIZED;
}

/** State that KVM keeps is set by KVM_TDX_INIT_VCPU, the rest is the module's. @upstream tdx_vcpu_reset() */
export function tdxVcpuReset(vcpu: X86Vcpu, initEvent: boolean): void {
  // INIT is blocked on its way (apicInitSignalBlocked).
  if (initEvent) vcpu.kvm.host.log('kvm: INIT reached a vCPU of a TD');
}

/** −EINVAL until the vCPU is initialised and the TD's measurement is complete. @upstream tdx_vcpu_pre_run() */
export function tdxVcpuPreRun(vcpu: X86Vcpu): number {
  const tdx = toTdx(vcpu);
  return tdx.state === VCPU_TD_STATE_INITIALIZED && tdx.td.state === TD_STATE_RUNNABLE ? 1 : -EINVAL;
}

/**
 * KVM_TDX_INIT_VCPU: the APIC is in x2APIC mode, the module gets the vCPU's pages, and where interrupts are posted.
 *
 * @param rcx what the guest starts with in RCX and R8
 * @upstream tdx_vcpu_init()
 */
export function tdxVcpuInit(vcpu: X86Vcpu, rcx: bigint): Errno {
  const tdx = toTdx(vcpu);
  if (tdx.state !== VCPU_TD_STATE_UNINITIALIZED) return -EINVAL;
  const bsp = vcpu.vcpuId === vcpu.kvm.arch.bspVcpuId ? APICBASE_BSP : 0n;
  const base = APIC_DEFAULT_PHYS_BASE | APICBASE_X2APIC_ENABLED | bsp;
  if (kvmApicSetBase(vcpu, base, true) !== 0) return -EINVAL;
  const failed = tdxTdVcpuInit(vcpu, rcx);
  if (failed !== 0) return failed;
  const posted = BigInt(PIN.POSTED_INTERRUPTS);
  if (
    !vmcsWrite(vcpu, POSTED_INTR_NV, BigInt(POSTED_INTR_VECTOR), 0xffffn) ||
    !vmcsWrite(vcpu, POSTED_INTR_DESC_ADDR, BigInt(tdx.piDesc!.hpa), 0xffff_ffff_ffff_ffffn) ||
    !vmcsWrite(vcpu, PIN_BASED_VM_EXEC_CONTROL, posted, posted)
  ) {
    return -EIO;
  }
  tdx.state = VCPU_TD_STATE_INITIALIZED;
  return 0;
}

/** @upstream tdx_td_vcpu_init() */
function tdxTdVcpuInit(vcpu: X86Vcpu, rcx: bigint): Errno {
  const { kvm } = vcpu;
  const tdx = toTdx(vcpu);
  const { cpus } = kvm.host;
  const { sysInfo } = kvm.host.tdx;
  const { tdr } = tdx.td;
  if (sysInfo === null || tdr === null) return -EIO;
  const pages: number[] = [];
  for (let i = 0; i < sysInfo.tdvpsBaseSize / PAGE_SIZE; i++) {
    const page = tdxAllocPage(kvm);
    if (page !== undefined) pages.push(page);
  }
  const freeRest = (result: Errno): Errno => {
    for (const page of pages) tdxFreePage(kvm, page);
    return result;
  };
  if (pages.length < sysInfo.tdvpsBaseSize / PAGE_SIZE) return freeRest(-ENOMEM);
  const tdvpr = pages[0]!;
  const created = tdxRetryBusy(() => tdhVpCreate(cpus, tdr, tdvpr));
  if (created !== TDX_SUCCESS) {
    kvm.host.log(`kvm: TDH.VP.CREATE failed: ${tdxHex(created)}`);
    return freeRest(-EIO);
  }
  pages.shift();
  // From here on what the module has comes back when the vCPU is freed, and half a vCPU is good for nothing.
  tdx.tdvpr = tdvpr;
  const giveUp = (leaf: string, rax: bigint): Errno => {
    tdxBug(kvm, leaf, rax);
    return freeRest(-EIO);
  };
  for (let page = pages[0]; page !== undefined; page = pages[0]) {
    const added = page;
    const rax = tdxRetryBusy(() => tdhVpAddcx(cpus, tdvpr, added));
    if (rax !== TDX_SUCCESS) return giveUp('TDH.VP.ADDCX', rax);
    tdx.tdcx.push(added);
    pages.shift();
  }
  const rax = tdxRetryBusy(() => tdhVpInit(cpus, tdvpr, rcx, vcpu.vcpuId));
  if (rax !== TDX_SUCCESS) return giveUp('TDH.VP.INIT', rax);
  vcpu.arch.mpState = KVM_MP_STATE_RUNNABLE;
  return 0;
}

// ---- fields

/** Writes bits of a VMCS field of the TD; false, with the VM dead, if the module refuses. @upstream td_vmcs_write64() */
export function vmcsWrite(vcpu: X86Vcpu, encoding: number, value: bigint, mask: bigint): boolean {
  return tdvpsWrite(vcpu, tdvpsVmcs(encoding), value, mask);
}
/** The same for any field of the vCPU. @upstream td_management_write8() */
export function tdvpsWrite(vcpu: X86Vcpu, field: bigint, value: bigint, mask: bigint): boolean {
  const { tdvpr } = toTdx(vcpu);
  if (tdvpr === null) return false;
  const rax = tdxRetryBusy(() => tdhVpWr(vcpu.kvm.host.cpus, tdvpr, field, value, mask).rax);
  if (rax === TDX_SUCCESS) return true;
  tdxBug(vcpu.kvm, `TDH.VP.WR of ${tdxHex(field)}`, rax);
  return false;
}
/** A field of the vCPU; 0, with the VM dead, if the module refuses. @upstream td_state_non_arch_read64() */
export function tdvpsRead(vcpu: X86Vcpu, field: bigint): bigint {
  const { tdvpr } = toTdx(vcpu);
  if (tdvpr === null) return 0n;
  const answer = { r8: 0n };
  const rax = tdxRetryBusy(() => {
    const result = tdhVpRd(vcpu.kvm.host.cpus, tdvpr, field);
    answer.r8 = result.r8;
    return result.rax;
  });
  if (rax === TDX_SUCCESS) return answer.r8;
  tdxBug(vcpu.kvm, `TDH.VP.RD of ${tdxHex(field)}`, rax);
  return 0n;
}

// ---- CPUs

/** @upstream tdx_vcpu_load() */
export function tdxVcpuLoad(vcpu: X86Vcpu, cpu: Cpu): void {
  const tdx = toTdx(vcpu);
  vmxVcpuPiLoad(vcpu, cpu);
  if (tdx.associatedCpu === cpu || !tdx.td.hkidAssigned) return;
  tdxFlushVpOnCpu(vcpu);
  associatedOn(cpu).add(vcpu);
  tdx.associatedCpu = cpu;
}

/** The vCPU stays associated: it may well come back. @upstream tdx_vcpu_put() */
export function tdxVcpuPut(vcpu: X86Vcpu): void {
  vmxVcpuPiPut(vcpu);
  // Registers that the module leaves in its initial state are the host's own: it has nothing to restore.
}

/** Flushes a vCPU from the CPU that has its state, by IPI if need be. @upstream tdx_flush_vp_on_cpu() */
export function tdxFlushVpOnCpu(vcpu: X86Vcpu): void {
  const { associatedCpu } = toTdx(vcpu);
  if (associatedCpu !== null) vcpu.kvm.host.cpus.smpCallFunctionSingle(associatedCpu, () => tdxFlushVp(vcpu));
}

/** On that CPU. @upstream tdx_flush_vp() */
function tdxFlushVp(vcpu: X86Vcpu): void {
  const { tdvpr } = toTdx(vcpu);
  if (tdvpr !== null) {
    const rax = tdxRetryBusy(() => tdhVpFlush(vcpu.kvm.host.cpus, tdvpr));
    // A vCPU that was loaded but never entered has nothing there.
    if (rax !== TDX_SUCCESS && tdxStatus(rax) !== TDX_VCPU_NOT_ASSOCIATED) tdxBug(vcpu.kvm, 'TDH.VP.FLUSH', rax);
  }
  disassociate(vcpu);
}

/** @upstream tdx_disassociate_vp() */
function disassociate(vcpu: X86Vcpu): void {
  const tdx = toTdx(vcpu);
  if (tdx.associatedCpu !== null) associatedOn(tdx.associatedCpu).delete(vcpu);
  tdx.associatedCpu = null;
}

/** VMX goes off on this CPU: no TD vCPU may have state on it. @upstream tdx_disable_virtualization_cpu() */
export function tdxDisableVirtualizationCpu(cpu: Cpu): void {
  for (const vcpu of [...(associatedTdvcpus.get(cpu) ?? [])]) tdxFlushVp(vcpu);
}
