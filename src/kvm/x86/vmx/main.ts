/**
 * The Intel module: one table of operations for the whole system, which serves VMs by VMX and trust domains by TDX, and
 * the order of load.
 *
 * Every entry is a wrapper vt* that asks which kind of VM it is about. This is the only file that knows both backends.
 *
 * @upstream arch/x86/kvm/vmx/main.c
 */
import type { Cpu } from '../../../host/cpus.ts';
import { EINVAL, EIO, ENOTTY, type Errno } from '../../../host/errno.ts';
import type { Host } from '../../../host/host.ts';
import type { Gfn, Gpa, Hpa } from '../../../util/address.ts';
import { type KvmModule, kvmVmBugged } from '../../virt/kvm_host.ts';
import { type KvmModuleParameters, kvmExit, kvmInit } from '../../virt/kvm_main.ts';
import { enableApicv, kvmVcpuApicvActive } from '../apicv.ts';
import { kvmCompleteInsnGp } from '../cr.ts';
import type { KvmDtable, KvmSegment, X86Vcpu, X86Vm } from '../kvm_host.ts';
import {
  type Fastpath,
  type KvmExitInfo,
  type KvmX86InitOps,
  type KvmX86Ops,
  X86EMUL_RETRY_INSTR,
} from '../kvm_x86_ops.ts';
import { PG_LEVEL_4K } from '../mmu/tdp_mmu.ts';
import type { KvmTdxCmd } from '../uapi_tdx.ts';
import { kvmVcpuDeliverSipiVector } from '../vcpu_reset.ts';
import { X86ArchHooks } from '../x86.ts';
import { cpuHasVmxEptAdBits } from './capabilities.ts';
import { isTd, isTdVcpu } from './common.ts';
import { piApicvPreStateRestore } from './posted_intr.ts';
import { tdxBringup, tdxCleanup } from './tdx.ts';
import { tdxCompleteEmulatedMsr } from './tdx_emulate.ts';
import { tdxHandleExit } from './tdx_exits.ts';
import { tdxVcpuIoctl, tdxVmIoctl } from './tdx_ioctl.ts';
import {
  tdxDeliverInterrupt,
  tdxFlushTlb,
  tdxInjectNmi,
  tdxInterruptAllowed,
  tdxLoadMmuPgd,
  tdxProtectedApicHasInterrupt,
} from './tdx_irq.ts';
import {
  tdxSeptFreePrivateSpt,
  tdxSeptLinkPrivateSpt,
  tdxSeptRemovePrivateSpte,
  tdxSeptSetPrivateSpte,
} from './tdx_mmu.ts';
import { tdxGetMsr, tdxHasEmulatedMsr, tdxSetMsr } from './tdx_msr.ts';
import { tdxGetExitInfo, tdxVcpuRun } from './tdx_run.ts';
import {
  tdxDisableVirtualizationCpu,
  tdxVcpuCreate,
  tdxVcpuFree,
  tdxVcpuLoad,
  tdxVcpuPreRun,
  tdxVcpuPut,
  tdxVcpuReset,
} from './tdx_vcpu.ts';
import { tdxVmDestroy, tdxVmInit, tdxVmPreDestroy } from './tdx_vm.ts';
import { vmxCacheReg, vmxGetRflags, vmxSetRflags } from './vcpu_vmx.ts';
import {
  vmxCheckEmulateInstruction,
  vmxCheckProcessorCompatibility,
  vmxDisableVirtualizationCpu,
  vmxEmergencyDisableVirtualizationCpu,
  vmxEnableVirtualizationCpu,
  vmxExit,
  vmxGetIfFlag,
  vmxHardware,
  vmxHardwareSetup,
  vmxHardwareUnsetup,
  vmxHasEmulatedMsr,
  vmxInitEarly,
  vmxPatchHypercall,
  vmxRebooting,
  vmxRecalcIntercepts,
  vmxVcpuAfterSetCpuid,
  vmxVcpuCreate,
  vmxVcpuFree,
  vmxVcpuLoad,
  vmxVcpuPrecreate,
  vmxVcpuPreRun,
  vmxVcpuPut,
  vmxVcpuReset,
  vmxVmInit,
} from './vmx.ts';
import {
  VMX_REQUIRED_APICV_INHIBITS,
  vmxDeliverInterrupt,
  vmxHwapicIsrUpdate,
  vmxLoadEoiExitmap,
  vmxRefreshApicvExecCtrl,
  vmxSetApicAccessPageAddr,
  vmxSetVirtualApicMode,
  vmxSyncPirToIrr,
  vmxVmDestroy,
} from './vmx_apicv.ts';
import {
  vmxFlushTlbAll,
  vmxFlushTlbCurrent,
  vmxFlushTlbGuest,
  vmxFlushTlbGva,
  vmxGetMtMask,
  vmxLoadMmuPgd,
  vmxSetDr7,
  vmxSyncDirtyDebugRegs,
  vmxUpdateExceptionBitmap,
  vmxWriteTscMultiplier,
  vmxWriteTscOffset,
} from './vmx_controls.ts';
import {
  vmxCancelInjection,
  vmxEnableIrqWindow,
  vmxEnableNmiWindow,
  vmxGetInterruptShadow,
  vmxGetNmiMask,
  vmxInjectException,
  vmxInjectIrq,
  vmxInjectNmi,
  vmxInterruptAllowed,
  vmxNmiAllowed,
  vmxSetInterruptShadow,
  vmxSetNmiMask,
  vmxUpdateCr8Intercept,
} from './vmx_events.ts';
import { vmxHandleExit } from './vmx_exits.ts';
import { vmxGetMsr, vmxPrepareSwitchToGuest, vmxSetMsr } from './vmx_msr.ts';
import { vmxGetExitInfo, vmxHandleExitIrqoff, vmxSkipEmulatedInstruction, vmxVcpuRun } from './vmx_run.ts';
import {
  vmxGetCpl,
  vmxGetCsDbLBits,
  vmxGetGdt,
  vmxGetIdt,
  vmxGetSegment,
  vmxGetSegmentBase,
  vmxIsValidCr0,
  vmxIsValidCr4,
  vmxSetCr0,
  vmxSetCr4,
  vmxSetEfer,
  vmxSetGdt,
  vmxSetIdt,
  vmxSetSegment,
} from './vmx_state.ts';
import type { TdxBackend, VmxBackend, VmxModuleParameters } from './x86_ops.ts';

/** The backends' life cycles, as x86_ops.ts declares them. */
const vmxBackend: VmxBackend = {
  vmxInitEarly,
  vmxExit,
  vmxHardwareSetup,
  vmxHardwareUnsetup,
};
const tdxBackend: TdxBackend = { tdxBringup, tdxCleanup };

const hiddenSegment = (): KvmSegment => ({
  base: 0n,
  limit: 0,
  selector: 0,
  type: 0,
  present: 0,
  dpl: 0,
  db: 0,
  s: 0,
  l: 0,
  g: 0,
  avl: 0,
  unusable: 0,
});
const hiddenTable = (): KvmDtable => ({ base: 0n, limit: 0 });

/** VMX and TDX need the same of every CPU. */
function vtCheckProcessorCompatibility(cpu: Cpu): Errno {
  return vmxCheckProcessorCompatibility(cpu);
}

/** VMXON serves both. */
function vtEnableVirtualizationCpu(cpu: Cpu): Errno {
  return vmxEnableVirtualizationCpu(cpu);
}

/** TD vCPUs on this CPU are flushed, which needs SEAMCALL; then VMXOFF. */
function vtDisableVirtualizationCpu(cpu: Cpu): void {
  tdxDisableVirtualizationCpu(cpu);
  vmxDisableVirtualizationCpu(cpu);
}

/** VMCLEAR of what is on this CPU, on the way to a crash kernel. */
function vtEmergencyDisableVirtualizationCpu(cpu: Cpu): void {
  vmxEmergencyDisableVirtualizationCpu(cpu);
}

/** Undoes vtHardwareSetup in reverse order. */
function vtHardwareUnsetup(host: Host): void {
  tdxBackend.tdxCleanup(host);
  vmxBackend.vmxHardwareUnsetup(host);
}

/** From here on, faults of VMX instructions are expected. */
function vtRebooting(host: Host): void {
  vmxRebooting(host);
}

/** The TDX module is initialised while VMX is on everywhere. */
function vtPostHardwareEnableSetup(host: Host): Errno {
  return tdxBackend.tdxBringup(host, vmxLackingForTdx(host));
}

/** What keeps VMX from carrying TDs, or null. */
function vmxLackingForTdx(host: Host): string | null {
  if (vmxHardware(host.cpus).parameters.tdx === false) return 'it is switched off by the parameter tdx';
  // KVM counts on shared EPT being written with accessed and dirty flags, as the module does on its own.
  if (!cpuHasVmxEptAdBits(vmxHardware(host.cpus).config)) return 'EPT has no accessed and dirty flags';
  // Posting is the only way to give a TD an interrupt.
  return enableApicv(host) ? null : 'APIC virtualization is off';
}

/** A TD's MSRs are the module's, but for a short list. */
function vtHasEmulatedMsr(kvm: X86Vm | null, index: number): boolean {
  return kvm !== null && isTd(kvm) ? tdxHasEmulatedMsr(index) : vmxHasEmulatedMsr(index);
}

/** No SEAMCALL yet: a TD gets its KeyID by KVM_TDX_INIT_VM. */
function vtVmInit(kvm: X86Vm): Errno {
  return isTd(kvm) ? tdxVmInit(kvm) : vmxVmInit(kvm);
}

/** Before vCPUs are freed a TD gives its KeyID back; a VM has nothing to give. */
function vtVmPreDestroy(kvm: X86Vm): void {
  if (isTd(kvm)) tdxVmPreDestroy(kvm);
}

/** Last step: a TD's control pages are reclaimed; a VM's memory is all KVM's own. */
function vtVmDestroy(kvm: X86Vm): void {
  if (isTd(kvm)) tdxVmDestroy(kvm);
  else vmxVmDestroy(kvm);
}

/** What the vCPUs of a VM share; those of a TD share nothing of KVM's. */
function vtVcpuPrecreate(kvm: X86Vm): Errno {
  return isTd(kvm) ? 0 : vmxVcpuPrecreate(kvm);
}

/** A TD's register state lives in its TDVPS, out of KVM's reach; a VM's lives in a VMCS. */
function vtVcpuCreate(vcpu: X86Vcpu): Errno {
  return isTdVcpu(vcpu) ? tdxVcpuCreate(vcpu) : vmxVcpuCreate(vcpu);
}

/** Frees what vcpuCreate made; pages of a TD vCPU come back from the module. */
function vtVcpuFree(vcpu: X86Vcpu): void {
  if (isTdVcpu(vcpu)) tdxVcpuFree(vcpu);
  else vmxVcpuFree(vcpu);
}

/** KVM_TDX_INIT_VCPU gives a TD vCPU its state, so there is little to reset. */
function vtVcpuReset(vcpu: X86Vcpu, initEvent: boolean): void {
  if (isTdVcpu(vcpu)) tdxVcpuReset(vcpu, initEvent);
  else vmxVcpuReset(vcpu, initEvent);
}

/** A TD's CPUID was fixed when it was initialised. */
function vtVcpuAfterSetCpuid(vcpu: X86Vcpu): void {
  if (!isTdVcpu(vcpu)) vmxVcpuAfterSetCpuid(vcpu);
}

/** A TD vCPU is associated with a CPU by the module: it is flushed from the one before. */
function vtVcpuLoad(vcpu: X86Vcpu, cpu: Cpu): void {
  if (isTdVcpu(vcpu)) tdxVcpuLoad(vcpu, cpu);
  else vmxVcpuLoad(vcpu, cpu);
}

/** A TD vCPU stays associated. */
function vtVcpuPut(vcpu: X86Vcpu): void {
  if (isTdVcpu(vcpu)) tdxVcpuPut(vcpu);
  else vmxVcpuPut(vcpu);
}

/** The module switches a TD's MSRs, and leaves those of the host in a state that the host uses as well. */
function vtPrepareSwitchToGuest(vcpu: X86Vcpu): void {
  if (!isTdVcpu(vcpu)) vmxPrepareSwitchToGuest(vcpu);
}

/** KVM does not see a TD's exceptions. */
function vtUpdateExceptionBitmap(vcpu: X86Vcpu): void {
  if (!isTdVcpu(vcpu)) vmxUpdateExceptionBitmap(vcpu);
}

/** Feature MSRs for user space. */
function vtGetFeatureMsr(_index: number): bigint | undefined {
  // VMX capability MSRs matter to nested guests only.
  return undefined;
}

/** As vtHasEmulatedMsr. */
function vtGetMsr(vcpu: X86Vcpu, index: number): bigint | undefined {
  return isTdVcpu(vcpu) ? tdxGetMsr(vcpu, index) : vmxGetMsr(vcpu, index);
}

/** As vtHasEmulatedMsr. */
function vtSetMsr(vcpu: X86Vcpu, index: number, value: bigint, hostInitiated: boolean): boolean {
  return isTdVcpu(vcpu) ? tdxSetMsr(vcpu, index, value, hostInitiated) : vmxSetMsr(vcpu, index, value, hostInitiated);
}

/** A TD's registers are hidden: zero. */
function vtGetSegmentBase(vcpu: X86Vcpu, seg: number): bigint {
  return isTdVcpu(vcpu) ? 0n : vmxGetSegmentBase(vcpu, seg);
}

/** A TD's registers are hidden: zero. */
function vtGetSegment(vcpu: X86Vcpu, seg: number): KvmSegment {
  return isTdVcpu(vcpu) ? hiddenSegment() : vmxGetSegment(vcpu, seg);
}

/** A TD's registers cannot be set. */
function vtSetSegment(vcpu: X86Vcpu, seg: number, value: KvmSegment): void {
  if (!isTdVcpu(vcpu)) vmxSetSegment(vcpu, seg, value);
}

/** A TD's privilege level is hidden. */
function vtGetCpl(vcpu: X86Vcpu): number {
  return isTdVcpu(vcpu) ? 0 : vmxGetCpl(vcpu);
}

/** A TD's code size is hidden. */
function vtGetCsDbLBits(vcpu: X86Vcpu): number {
  return isTdVcpu(vcpu) ? 0 : vmxGetCsDbLBits(vcpu);
}

/** The module checks a TD's CR0. */
function vtIsValidCr0(vcpu: X86Vcpu, cr0: number): boolean {
  return isTdVcpu(vcpu) ? true : vmxIsValidCr0(vcpu, cr0);
}

/** The module checks a TD's CR4. */
function vtIsValidCr4(vcpu: X86Vcpu, cr4: number): boolean {
  return isTdVcpu(vcpu) ? true : vmxIsValidCr4(vcpu, cr4);
}

/** A TD's CR0 is its own. */
function vtSetCr0(vcpu: X86Vcpu, cr0: number): void {
  if (!isTdVcpu(vcpu)) vmxSetCr0(vcpu, cr0);
}

/** A TD's CR4 is its own. */
function vtSetCr4(vcpu: X86Vcpu, cr4: number): void {
  if (!isTdVcpu(vcpu)) vmxSetCr4(vcpu, cr4);
}

/** A TD's EFER is fixed. */
function vtSetEfer(vcpu: X86Vcpu, efer: number): number {
  return isTdVcpu(vcpu) ? 0 : vmxSetEfer(vcpu, efer);
}

/** A TD's registers are hidden: zero. */
function vtGetIdt(vcpu: X86Vcpu): KvmDtable {
  return isTdVcpu(vcpu) ? hiddenTable() : vmxGetIdt(vcpu);
}

/** A TD's registers cannot be set. */
function vtSetIdt(vcpu: X86Vcpu, table: KvmDtable): void {
  if (!isTdVcpu(vcpu)) vmxSetIdt(vcpu, table);
}

/** A TD's registers are hidden: zero. */
function vtGetGdt(vcpu: X86Vcpu): KvmDtable {
  return isTdVcpu(vcpu) ? hiddenTable() : vmxGetGdt(vcpu);
}

/** A TD's registers cannot be set. */
function vtSetGdt(vcpu: X86Vcpu, table: KvmDtable): void {
  if (!isTdVcpu(vcpu)) vmxSetGdt(vcpu, table);
}

/** A TD's debug registers are its own. */
function vtSetDr7(vcpu: X86Vcpu, dr7: bigint): void {
  if (!isTdVcpu(vcpu)) vmxSetDr7(vcpu, dr7);
}

/** A TD's debug registers are its own. */
function vtSyncDirtyDebugRegs(vcpu: X86Vcpu): void {
  if (!isTdVcpu(vcpu)) vmxSyncDirtyDebugRegs(vcpu);
}

/** Nothing of a TD's registers can be read. */
function vtCacheReg(vcpu: X86Vcpu, reg: number): void {
  if (!isTdVcpu(vcpu)) vmxCacheReg(vcpu, reg);
}

/** A TD's flags are hidden. */
function vtGetRflags(vcpu: X86Vcpu): number {
  return isTdVcpu(vcpu) ? 0 : vmxGetRflags(vcpu);
}

/** A TD's flags cannot be set. */
function vtSetRflags(vcpu: X86Vcpu, rflags: number): void {
  if (!isTdVcpu(vcpu)) vmxSetRflags(vcpu, rflags);
}

/** A TD's flags are hidden. */
function vtGetIfFlag(vcpu: X86Vcpu): boolean {
  return isTdVcpu(vcpu) ? false : vmxGetIfFlag(vcpu);
}

/** INVEPT of everything covers a TD's shared EPT; its private EPT is flushed by TDH.MEM.TRACK. */
function vtFlushTlbAll(vcpu: X86Vcpu): void {
  if (isTdVcpu(vcpu)) tdxFlushTlb(vcpu);
  else vmxFlushTlbAll(vcpu);
}

/** As vtFlushTlbAll. */
function vtFlushTlbCurrent(vcpu: X86Vcpu): void {
  if (isTdVcpu(vcpu)) tdxFlushTlb(vcpu);
  else vmxFlushTlbCurrent(vcpu);
}

/** A TD's linear translations are the module's business. */
function vtFlushTlbGva(vcpu: X86Vcpu, gva: bigint): void {
  if (!isTdVcpu(vcpu)) vmxFlushTlbGva(vcpu, gva);
}

/** A TD's linear translations are the module's business. */
function vtFlushTlbGuest(vcpu: X86Vcpu): void {
  if (!isTdVcpu(vcpu)) vmxFlushTlbGuest(vcpu);
}

/** Memory types are alike. */
function vtGetMtMask(vcpu: X86Vcpu, isMmio: boolean): number {
  return vmxGetMtMask(vcpu, isMmio);
}

/** A TD has a shared root besides the secure one. */
function vtLoadMmuPgd(vcpu: X86Vcpu, root: Hpa, rootLevel: number): void {
  if (isTdVcpu(vcpu)) tdxLoadMmuPgd(vcpu, root, rootLevel);
  else vmxLoadMmuPgd(vcpu, root, rootLevel);
}

/** Only a TD has tables that somebody else keeps: a VM's are KVM's own. */
function vtLinkExternalSpt(kvm: X86Vm, gfn: Gfn, level: number, table: Hpa): Errno {
  return isTd(kvm) ? tdxSeptLinkPrivateSpt(kvm, gfn, level, table) : -EIO;
}

/** As vtLinkExternalSpt. */
function vtSetExternalSpte(kvm: X86Vm, gfn: Gfn, level: number, mirrorSpte: bigint): Errno {
  return isTd(kvm) ? tdxSeptSetPrivateSpte(kvm, gfn, level, mirrorSpte) : -EIO;
}

/** As vtLinkExternalSpt. */
function vtRemoveExternalSpte(kvm: X86Vm, gfn: Gfn, level: number, mirrorSpte: bigint): void {
  if (isTd(kvm)) tdxSeptRemovePrivateSpte(kvm, gfn, level, mirrorSpte);
}

/** As vtLinkExternalSpt. */
function vtFreeExternalSpt(kvm: X86Vm, gfn: Gfn, level: number, table: Hpa): Errno {
  return isTd(kvm) ? tdxSeptFreePrivateSpt(kvm, gfn, level, table) : -EIO;
}

/** The secure EPT is built of 4 KiB pages; shared memory and VMs have no cap. */
function vtGmemMaxMappingLevel(kvm: X86Vm, _gfn: Gfn, isPrivate: boolean): number {
  return isTd(kvm) && isPrivate ? PG_LEVEL_4K : 0;
}

/** A TD vCPU that was not initialised does not run, nor one of a TD that was not finalized. */
function vtVcpuPreRun(vcpu: X86Vcpu): number {
  return isTdVcpu(vcpu) ? tdxVcpuPreRun(vcpu) : vmxVcpuPreRun(vcpu);
}

/** Enters the guest: VMRESUME, or TDH.VP.ENTER. */
function vtVcpuRun(vcpu: X86Vcpu, forceImmediateExit: boolean): Fastpath {
  return isTdVcpu(vcpu) ? tdxVcpuRun(vcpu, forceImmediateExit) : vmxVcpuRun(vcpu, forceImmediateExit);
}

/** Dispatches the exit. */
function vtHandleExit(vcpu: X86Vcpu, fastpath: Fastpath): number {
  return isTdVcpu(vcpu) ? tdxHandleExit(vcpu, fastpath) : vmxHandleExit(vcpu, fastpath);
}

/** Interrupts that ended a guest are alike. */
function vtHandleExitIrqoff(vcpu: X86Vcpu): void {
  vmxHandleExitIrqoff(vcpu);
}

/** KVM never emulates for a TD. */
function vtSkipEmulatedInstruction(vcpu: X86Vcpu): number {
  return vmxSkipEmulatedInstruction(vcpu);
}

/** For traces. */
function vtGetExitInfo(vcpu: X86Vcpu, info: KvmExitInfo): void {
  if (isTdVcpu(vcpu)) tdxGetExitInfo(vcpu, info);
  else vmxGetExitInfo(vcpu, info);
}

/** A TD's interruptibility is hidden. */
function vtSetInterruptShadow(vcpu: X86Vcpu, mask: number): void {
  if (!isTdVcpu(vcpu)) vmxSetInterruptShadow(vcpu, mask);
}

/** A TD's interruptibility is hidden. */
function vtGetInterruptShadow(vcpu: X86Vcpu): number {
  return isTdVcpu(vcpu) ? 0 : vmxGetInterruptShadow(vcpu);
}

/** The hypercall instruction. */
function vtPatchHypercall(_vcpu: X86Vcpu): Uint8Array {
  return vmxPatchHypercall();
}

/** TDs get interrupts by posting only. */
function vtInjectIrq(vcpu: X86Vcpu, reinjected: boolean): void {
  if (!isTdVcpu(vcpu)) vmxInjectIrq(vcpu, reinjected);
}

/** The module injects NMIs into TDs, when they can be: KVM leaves it with it. */
function vtInjectNmi(vcpu: X86Vcpu): void {
  if (isTdVcpu(vcpu)) tdxInjectNmi(vcpu);
  else vmxInjectNmi(vcpu);
}

/** KVM cannot inject exceptions into a TD. */
function vtInjectException(vcpu: X86Vcpu): void {
  if (!isTdVcpu(vcpu)) vmxInjectException(vcpu);
}

/** KVM injects nothing into a TD. */
function vtCancelInjection(vcpu: X86Vcpu): void {
  if (!isTdVcpu(vcpu)) vmxCancelInjection(vcpu);
}

/** The processor delivers a TD's interrupts when it can; only a TD that halts says that it cannot. */
function vtInterruptAllowed(vcpu: X86Vcpu): boolean {
  return isTdVcpu(vcpu) ? tdxInterruptAllowed(vcpu) : vmxInterruptAllowed(vcpu);
}

/** The module delivers a TD's NMIs when it can. */
function vtNmiAllowed(vcpu: X86Vcpu): boolean {
  return isTdVcpu(vcpu) ? true : vmxNmiAllowed(vcpu);
}

/** A TD's NMI blocking is hidden. */
function vtGetNmiMask(vcpu: X86Vcpu): boolean {
  return isTdVcpu(vcpu) ? false : vmxGetNmiMask(vcpu);
}

/** A TD's NMI blocking is its own. */
function vtSetNmiMask(vcpu: X86Vcpu, masked: boolean): void {
  if (!isTdVcpu(vcpu)) vmxSetNmiMask(vcpu, masked);
}

/** The module waits for the window. */
function vtEnableNmiWindow(vcpu: X86Vcpu): void {
  if (!isTdVcpu(vcpu)) vmxEnableNmiWindow(vcpu);
}

/** Posted interrupts need no window. */
function vtEnableIrqWindow(vcpu: X86Vcpu): void {
  if (!isTdVcpu(vcpu)) vmxEnableIrqWindow(vcpu);
}

/** A TD's task priority is in its virtual APIC page. */
function vtUpdateCr8Intercept(vcpu: X86Vcpu, tpr: number, irr: number): void {
  if (!isTdVcpu(vcpu)) vmxUpdateCr8Intercept(vcpu, tpr, irr);
}

/** A TD is posted to. */
function vtDeliverInterrupt(vcpu: X86Vcpu, deliveryMode: number, trigMode: number, vector: number): void {
  if (isTdVcpu(vcpu)) tdxDeliverInterrupt(vcpu, vector);
  else vmxDeliverInterrupt(vcpu, deliveryMode, trigMode, vector);
}

/** A TD is in x2APIC mode for good. */
function vtSetVirtualApicMode(vcpu: X86Vcpu): void {
  if (!isTdVcpu(vcpu)) vmxSetVirtualApicMode(vcpu);
}

/** A TD has no APIC-access page. */
function vtSetApicAccessPageAddr(vcpu: X86Vcpu): void {
  if (!isTdVcpu(vcpu)) vmxSetApicAccessPageAddr(vcpu);
}

/** A TD cannot do without. */
function vtRefreshApicvExecCtrl(vcpu: X86Vcpu): void {
  if (!isTdVcpu(vcpu)) vmxRefreshApicvExecCtrl(vcpu);
  else if (!kvmVcpuApicvActive(vcpu)) kvmVmBugged(vcpu.kvm, 'a TD without APIC virtualization');
}

/** A TD's EOIs never exit. */
function vtLoadEoiExitmap(vcpu: X86Vcpu, handled: Uint32Array): void {
  if (!isTdVcpu(vcpu)) vmxLoadEoiExitmap(vcpu, handled);
}

/** A TD's interrupts in service are hidden. */
function vtHwapicIsrUpdate(vcpu: X86Vcpu, maxIsr: number): void {
  if (!isTdVcpu(vcpu)) vmxHwapicIsrUpdate(vcpu, maxIsr);
}

/** What is posted to a TD waits in its descriptor. */
function vtSyncPirToIrr(vcpu: X86Vcpu): number {
  return isTdVcpu(vcpu) ? -1 : vmxSyncPirToIrr(vcpu);
}

/** The descriptor is alike. */
function vtApicvPreStateRestore(vcpu: X86Vcpu): void {
  piApicvPreStateRestore(vcpu);
}

/** Whether INIT is dropped. */
function vtApicInitSignalBlocked(vcpu: X86Vcpu): boolean {
  // INIT and SIPI do not reach TD vCPUs.
  return isTdVcpu(vcpu);
}

/** Never reached by a TD, whose INIT is blocked. */
function vtVcpuDeliverSipiVector(vcpu: X86Vcpu, vector: number): void {
  kvmVcpuDeliverSipiVector(vcpu, vector);
}

/** A TD's TSC offset is the module's. */
function vtWriteTscOffset(vcpu: X86Vcpu): void {
  if (!isTdVcpu(vcpu)) vmxWriteTscOffset(vcpu);
}

/** A TD's TSC frequency was fixed when it was initialised. */
function vtWriteTscMultiplier(vcpu: X86Vcpu): void {
  if (!isTdVcpu(vcpu)) vmxWriteTscMultiplier(vcpu);
}

/** Accepted for the sake of user space. */
function vtSetTssAddr(kvm: X86Vm, address: Gpa): Errno {
  // Unrestricted guest needs no page for real mode; a TD ignores it as well.
  kvm.arch.tssAddr = address;
  return 0;
}

/** Accepted for the sake of user space. */
function vtSetIdentityMapAddr(kvm: X86Vm, address: Gpa): Errno {
  kvm.arch.identityMapAddr = address;
  return 0;
}

/** After KVM_X86_SETUP_MCE. */
function vtSetupMce(_vcpu: X86Vcpu): void {
  // LMCE is not offered, so there is nothing to allow in IA32_FEATURE_CONTROL.
}

/** Whether KVM may look at the instruction. */
function vtCheckEmulateInstruction(vcpu: X86Vcpu): number {
  // The instruction runs again and the TD gets a #VE.
  return isTdVcpu(vcpu) ? X86EMUL_RETRY_INSTR : vmxCheckEmulateInstruction(vcpu);
}

/** Hardware dirty logging. */
function vtUpdateCpuDirtyLogging(_vcpu: X86Vcpu): void {
  // Dirty pages are found by write protection, not by page-modification logging.
}

/** #GP, or past the instruction; a TD gets a status, and moves on by itself. */
function vtCompleteEmulatedMsr(vcpu: X86Vcpu, failed: boolean): number {
  return isTdVcpu(vcpu) ? tdxCompleteEmulatedMsr(vcpu, failed) : kvmCompleteInsnGp(vcpu, failed ? 1 : 0);
}

/** A TD's MSR intercepts are the module's. */
function vtRecalcIntercepts(vcpu: X86Vcpu): void {
  if (!isTdVcpu(vcpu)) vmxRecalcIntercepts(vcpu);
}

/** KVM_MEMORY_ENCRYPT_OP is for TDs. */
function vtMemEncIoctl(kvm: X86Vm, command: KvmTdxCmd): Errno {
  return isTd(kvm) ? tdxVmIoctl(kvm, command) : -ENOTTY;
}

/** As vtMemEncIoctl, with upstream's other errno. */
function vtVcpuMemEncIoctl(vcpu: X86Vcpu, command: KvmTdxCmd): Errno {
  return isTdVcpu(vcpu) ? tdxVcpuIoctl(vcpu, command) : -EINVAL;
}

/** Only a TD's APIC is protected. */
function vtProtectedApicHasInterrupt(vcpu: X86Vcpu): boolean {
  return isTdVcpu(vcpu) && tdxProtectedApicHasInterrupt(vcpu);
}

/** The table. */
export const vtX86Ops: KvmX86Ops = {
  name: 'kvm_intel',
  checkProcessorCompatibility: vtCheckProcessorCompatibility,
  enableVirtualizationCpu: vtEnableVirtualizationCpu,
  disableVirtualizationCpu: vtDisableVirtualizationCpu,
  emergencyDisableVirtualizationCpu: vtEmergencyDisableVirtualizationCpu,
  hardwareUnsetup: vtHardwareUnsetup,
  rebooting: vtRebooting,
  postHardwareEnableSetup: vtPostHardwareEnableSetup,
  hasEmulatedMsr: vtHasEmulatedMsr,
  vmInit: vtVmInit,
  vmPreDestroy: vtVmPreDestroy,
  vmDestroy: vtVmDestroy,
  vcpuPrecreate: vtVcpuPrecreate,
  vcpuCreate: vtVcpuCreate,
  vcpuFree: vtVcpuFree,
  vcpuReset: vtVcpuReset,
  vcpuAfterSetCpuid: vtVcpuAfterSetCpuid,
  vcpuLoad: vtVcpuLoad,
  vcpuPut: vtVcpuPut,
  prepareSwitchToGuest: vtPrepareSwitchToGuest,
  updateExceptionBitmap: vtUpdateExceptionBitmap,
  getFeatureMsr: vtGetFeatureMsr,
  getMsr: vtGetMsr,
  setMsr: vtSetMsr,
  getSegmentBase: vtGetSegmentBase,
  getSegment: vtGetSegment,
  setSegment: vtSetSegment,
  getCpl: vtGetCpl,
  getCsDbLBits: vtGetCsDbLBits,
  isValidCr0: vtIsValidCr0,
  isValidCr4: vtIsValidCr4,
  setCr0: vtSetCr0,
  setCr4: vtSetCr4,
  setEfer: vtSetEfer,
  getIdt: vtGetIdt,
  setIdt: vtSetIdt,
  getGdt: vtGetGdt,
  setGdt: vtSetGdt,
  setDr7: vtSetDr7,
  syncDirtyDebugRegs: vtSyncDirtyDebugRegs,
  cacheReg: vtCacheReg,
  getRflags: vtGetRflags,
  setRflags: vtSetRflags,
  getIfFlag: vtGetIfFlag,
  flushTlbAll: vtFlushTlbAll,
  flushTlbCurrent: vtFlushTlbCurrent,
  flushTlbGva: vtFlushTlbGva,
  flushTlbGuest: vtFlushTlbGuest,
  getMtMask: vtGetMtMask,
  loadMmuPgd: vtLoadMmuPgd,
  linkExternalSpt: vtLinkExternalSpt,
  setExternalSpte: vtSetExternalSpte,
  removeExternalSpte: vtRemoveExternalSpte,
  freeExternalSpt: vtFreeExternalSpt,
  gmemMaxMappingLevel: vtGmemMaxMappingLevel,
  vcpuPreRun: vtVcpuPreRun,
  vcpuRun: vtVcpuRun,
  handleExit: vtHandleExit,
  handleExitIrqoff: vtHandleExitIrqoff,
  skipEmulatedInstruction: vtSkipEmulatedInstruction,
  getExitInfo: vtGetExitInfo,
  setInterruptShadow: vtSetInterruptShadow,
  getInterruptShadow: vtGetInterruptShadow,
  patchHypercall: vtPatchHypercall,
  injectIrq: vtInjectIrq,
  injectNmi: vtInjectNmi,
  injectException: vtInjectException,
  cancelInjection: vtCancelInjection,
  interruptAllowed: vtInterruptAllowed,
  nmiAllowed: vtNmiAllowed,
  getNmiMask: vtGetNmiMask,
  setNmiMask: vtSetNmiMask,
  enableNmiWindow: vtEnableNmiWindow,
  enableIrqWindow: vtEnableIrqWindow,
  updateCr8Intercept: vtUpdateCr8Intercept,
  deliverInterrupt: vtDeliverInterrupt,
  requiredApicvInhibits: VMX_REQUIRED_APICV_INHIBITS,
  setVirtualApicMode: vtSetVirtualApicMode,
  setApicAccessPageAddr: vtSetApicAccessPageAddr,
  refreshApicvExecCtrl: vtRefreshApicvExecCtrl,
  loadEoiExitmap: vtLoadEoiExitmap,
  hwapicIsrUpdate: vtHwapicIsrUpdate,
  syncPirToIrr: vtSyncPirToIrr,
  apicvPreStateRestore: vtApicvPreStateRestore,
  apicInitSignalBlocked: vtApicInitSignalBlocked,
  vcpuDeliverSipiVector: vtVcpuDeliverSipiVector,
  writeTscOffset: vtWriteTscOffset,
  writeTscMultiplier: vtWriteTscMultiplier,
  setTssAddr: vtSetTssAddr,
  setIdentityMapAddr: vtSetIdentityMapAddr,
  setupMce: vtSetupMce,
  checkEmulateInstruction: vtCheckEmulateInstruction,
  updateCpuDirtyLogging: vtUpdateCpuDirtyLogging,
  completeEmulatedMsr: vtCompleteEmulatedMsr,
  recalcIntercepts: vtRecalcIntercepts,
  memEncIoctl: vtMemEncIoctl,
  vcpuMemEncIoctl: vtVcpuMemEncIoctl,
  protectedApicHasInterrupt: vtProtectedApicHasInterrupt,
  // The APIC timer is one of the host's timers.
  setHvTimer: null,
  cancelHvTimer: null,
};

/** @upstream vt_hardware_setup(): VMX first, TDX builds on it. */
function vtHardwareSetup(host: Host): Errno {
  return vmxBackend.vmxHardwareSetup(host);
}

/** @upstream vt_init_ops */
export const vtInitOps: KvmX86InitOps = { hardwareSetup: vtHardwareSetup, runtimeOps: vtX86Ops };

/** Parameters of the whole: the generic module's and the backend's. */
export type VtModuleParameters = KvmModuleParameters & VmxModuleParameters;

/**
 * Loads the module: what enabling hardware depends on comes before kvm_init (*), what nothing depends on after it (**).
 * A negative errno leaves nothing behind, and the module can be loaded again.
 *
 * @upstream vt_init()
 */
export function vtInit(host: Host, parameters: VtModuleParameters = {}): KvmModule | Errno {
  // (*) Lists of loaded VMCSs: the way out of VMX operation walks them.
  const early = vmxBackend.vmxInitEarly(host, parameters);
  if (early !== 0) return early;
  const module = kvmInit(host, new X86ArchHooks(host, vtInitOps), parameters);
  if (typeof module === 'number') {
    vmxBackend.vmxExit(host);
    return module;
  }
  // (**) The crash handler's pointer would be set up here: nothing needs it yet.
  return module;
}

/** Unloads the module. @upstream vt_exit() */
export function vtExit(module: KvmModule): void {
  kvmExit(module);
  vmxBackend.vmxExit(module.host);
}
