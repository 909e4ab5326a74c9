/**
 * The VMX backend: setup, CPUs, and the life of a vCPU.
 *
 * Operations are named vmx*; main.ts decides which VMs they serve.
 *
 * @upstream arch/x86/kvm/vmx/vmx.c
 */
import { HOST_CS, HOST_DS, HOST_TR } from '../../../host/boot.ts';
import type { Cpu, Cpus } from '../../../host/cpus.ts';
import { EEXIST, ENOMEM, EOPNOTSUPP, type Errno } from '../../../host/errno.ts';
import type { Host } from '../../../host/host.ts';
import { PAGE_OWNER } from '../../../host/pages.ts';
import { POSTED_INTR_VECTOR } from '../../../host/vectors.ts';
import { readMsr } from '../../../machine/msr/msr.ts';
import { EXIT_CONTROL, PRIMARY, SECONDARY } from '../../../machine/vtx/controls.ts';
import { kvmMakeRequest } from '../../virt/kvm_host.ts';
import { enableApicv, kvmAllocApicAccessPage, kvmVcpuApicvActive, setEnableApicv } from '../apicv.ts';
import { guestCpuidHas } from '../cpuid_caps.ts';
import { lapicInKernel } from '../irqchip_mode.ts';
import {
  KVM_REQ_TLB_FLUSH_CURRENT,
  VCPU_SREG_CS,
  VCPU_SREG_LDTR,
  VCPU_SREG_TR,
  type X86Vcpu,
  type X86Vm,
} from '../kvm_host.ts';
import { X86EMUL_CONTINUE, X86EMUL_UNHANDLEABLE_VECTORING } from '../kvm_x86_ops.ts';
import {
  cpuHasVmxApicv,
  cpuHasVmxEpt,
  cpuHasVmxFlexpriority,
  cpuHasVmxIpiv,
  cpuHasVmxMsrBitmap,
  cpuHasVmxPle,
  cpuHasVmxTprShadow,
  cpuHasVmxUnrestrictedGuest,
  cpuHasVmxVpid,
  setupVmcsConfig,
} from './capabilities.ts';
import { piExit, piInit, piSetSn, vmxVcpuPiLoad, vmxVcpuPiPut, vtPiDescAlloc, vtPiDescFree } from './posted_intr.ts';
import { controlsSet, toVmx, VcpuVmx, vmxGetRflags, vmxWriteGuestSeg } from './vcpu_vmx.ts';
import {
  CPU_BASED_VM_EXEC_CONTROL,
  CR3_TARGET_COUNT,
  EOI_EXIT_BITMAP0,
  GUEST_ACTIVITY_ACTIVE,
  GUEST_ACTIVITY_STATE,
  GUEST_GDTR_BASE,
  GUEST_GDTR_LIMIT,
  GUEST_IA32_DEBUGCTL,
  GUEST_IA32_PAT,
  GUEST_IDTR_BASE,
  GUEST_IDTR_LIMIT,
  GUEST_INTERRUPTIBILITY_INFO,
  GUEST_INTR_STATUS,
  GUEST_PENDING_DBG_EXCEPTIONS,
  GUEST_SYSENTER_CS,
  GUEST_SYSENTER_EIP,
  GUEST_SYSENTER_ESP,
  HOST_CR0,
  HOST_CR3,
  HOST_CR4,
  HOST_CS_SELECTOR,
  HOST_DS_SELECTOR,
  HOST_ES_SELECTOR,
  HOST_FS_BASE,
  HOST_FS_SELECTOR,
  HOST_GDTR_BASE,
  HOST_GS_BASE,
  HOST_GS_SELECTOR,
  HOST_IA32_EFER,
  HOST_IA32_PAT,
  HOST_IA32_SYSENTER_CS,
  HOST_IA32_SYSENTER_EIP,
  HOST_IA32_SYSENTER_ESP,
  HOST_IDTR_BASE,
  HOST_RIP,
  HOST_RSP,
  HOST_SS_SELECTOR,
  HOST_TR_BASE,
  HOST_TR_SELECTOR,
  INTR_INFO_VALID_MASK,
  MSR_BITMAP,
  PAGE_FAULT_ERROR_CODE_MASK,
  PAGE_FAULT_ERROR_CODE_MATCH,
  PIN_BASED_VM_EXEC_CONTROL,
  PLE_GAP,
  PLE_WINDOW,
  POSTED_INTR_DESC_ADDR,
  POSTED_INTR_NV,
  SECONDARY_VM_EXEC_CONTROL,
  TPR_THRESHOLD,
  VIRTUAL_APIC_PAGE_ADDR,
  VIRTUAL_PROCESSOR_ID,
  VM_ENTRY_CONTROLS,
  VM_ENTRY_INTR_INFO_FIELD,
  VM_ENTRY_MSR_LOAD_COUNT,
  VM_EXIT_CONTROLS,
  VM_EXIT_MSR_LOAD_COUNT,
  VM_EXIT_MSR_STORE_COUNT,
  VM_FUNCTION_CONTROL,
  VMCS_LINK_POINTER,
  vmcsWrite,
  XSS_EXIT_BITMAP,
} from './vmcs.ts';
import {
  APIC_MODE_CONTROLS,
  APICV_CONTROLS,
  vmxAllocIpivPidTable,
  vmxPinBasedExecCtrl,
  vmxSetPidTableEntry,
  vmxSetTertiaryExecControl,
  vmxSetVirtualApicMode,
  vmxWritePidTable,
} from './vmx_apicv.ts';
import { vmxWriteTscMultiplier, vmxWriteTscOffset } from './vmx_controls.ts';
import { VmxHardware } from './vmx_hardware.ts';
import { initMsrBitmap, vmxInterceptFilteredMsrs, vmxPrepareSwitchToHost } from './vmx_msr.ts';
import { setCr0GuestHostMask, setCr4GuestHostMask } from './vmx_state.ts';
import type { VmxModuleParameters } from './x86_ops.ts';

const MSR_IA32_CR_PAT = 0x277;
const KVM_DEFAULT_PLE_GAP = 128;
const KVM_VMX_DEFAULT_PLE_WINDOW = 4096;
/** INVVPID of one context. */
const EXTENT_SINGLE_CONTEXT = 1;

/** The backend of each host that has it loaded. Filled at (*): before anything can enable or disable hardware. */
const loaded: WeakMap<Cpus, VmxHardware> = new WeakMap();

/** The backend that a host has loaded. */
export function vmxHardware(cpus: Cpus): VmxHardware {
  const hardware = loaded.get(cpus);
  if (hardware === undefined) throw new Error('the VMX backend is not loaded');
  return hardware;
}
const hardwareOf = (vcpu: X86Vcpu): VmxHardware => vmxHardware(vcpu.kvm.host.cpus);

// ---- setup

/** (*): reads what the boot CPU offers and prepares what enabling depends on. @upstream vmx_init_early(), setup_vmcs_config() */
export function vmxInitEarly(host: Host, parameters: VmxModuleParameters = {}): Errno {
  if (loaded.has(host.cpus)) return -EEXIST;
  const config = setupVmcsConfig((index) => readMsr(host.cpu.processor, index));
  if (typeof config === 'number') return config;
  loaded.set(host.cpus, new VmxHardware(host, config, parameters));
  return 0;
}

/** Undoes {@link vmxInitEarly}. */
export function vmxExit(host: Host): void {
  loaded.delete(host.cpus);
}

/** @upstream vmx_hardware_setup() */
export function vmxHardwareSetup(host: Host): Errno {
  const hw = vmxHardware(host.cpus);
  // Guests run in every mode natively or not at all: there is no shadow paging and no real-mode emulation here.
  if (!cpuHasVmxEpt(hw.config) || !cpuHasVmxUnrestrictedGuest(hw.config)) return -EOPNOTSUPP;
  if (!cpuHasVmxMsrBitmap(hw.config)) return -EOPNOTSUPP;
  setEnableApicv(host, hw.parameters.enableApicv !== false && cpuHasVmxApicv(hw.config));
  hw.enableIpiv = enableApicv(host) && hw.parameters.enableIpiv !== false && cpuHasVmxIpiv(hw.config);
  piInit(host);
  return hw.allocKvmArea();
}
/** @upstream vmx_hardware_unsetup() */
export function vmxHardwareUnsetup(host: Host): void {
  piExit(host);
  vmxHardware(host.cpus).freeKvmArea();
}

// ---- CPUs

/** @upstream vmx_check_processor_compat() */
export const vmxCheckProcessorCompatibility = (cpu: Cpu): Errno => vmxHardware(cpu.cpus).checkProcessorCompat(cpu);
/** (A) @upstream vmx_enable_virtualization_cpu() */
export const vmxEnableVirtualizationCpu = (cpu: Cpu): Errno => vmxHardware(cpu.cpus).enableCpu(cpu);
/** (B) @upstream vmx_disable_virtualization_cpu() */
export function vmxDisableVirtualizationCpu(cpu: Cpu): void {
  vmxHardware(cpu.cpus).disableCpu(cpu);
}
/** @upstream vmx_emergency_disable_virtualization_cpu() */
export function vmxEmergencyDisableVirtualizationCpu(cpu: Cpu): void {
  vmxHardware(cpu.cpus).clearLocalLoadedVmcss(cpu);
}
/** Faults of VMX instructions are expected from now on. */
export function vmxRebooting(host: Host): void {
  vmxHardware(host.cpus).rebooting = true;
}

// ---- vCPU life cycle

/** What the VM's vCPUs share. @upstream vmx_vcpu_precreate() */
export const vmxVcpuPrecreate = (kvm: X86Vm): Errno => vmxAllocIpivPidTable(vmxHardware(kvm.host.cpus), kvm);

/** @upstream vmx_vcpu_create() */
export function vmxVcpuCreate(vcpu: X86Vcpu): Errno {
  const hw = hardwareOf(vcpu);
  const { host } = hw;
  if (enableApicv(host) && lapicInKernel(vcpu) && cpuHasVmxFlexpriority(hw.config)) {
    const failed = kvmAllocApicAccessPage(vcpu.kvm);
    if (failed !== 0) return failed;
  }
  const msrBitmap = host.pages.alloc(PAGE_OWNER.kernel);
  if (msrBitmap === undefined) return -ENOMEM;
  const piDesc = enableApicv(host) && lapicInKernel(vcpu) ? vtPiDescAlloc(host) : null;
  const loadedVmcs = piDesc === undefined ? undefined : hw.allocLoadedVmcs();
  if (piDesc === undefined || loadedVmcs === undefined) {
    if (piDesc) vtPiDescFree(host, piDesc);
    host.pages.free(msrBitmap);
    return -ENOMEM;
  }
  const vpid = cpuHasVmxVpid(hw.config) ? hw.allocateVpid() : 0;
  const vmx = new VcpuVmx(hw, loadedVmcs, vpid, msrBitmap);
  vcpu.vt = vmx;
  if (piDesc !== null) {
    vmx.piDesc = piDesc;
    piDesc.nv = POSTED_INTR_VECTOR;
    // Until the vCPU is loaded there is nobody to notify.
    piSetSn(piDesc);
    vmxSetPidTableEntry(vcpu, true);
  }
  initMsrBitmap(vmx);
  return 0;
}

/** @upstream vmx_vcpu_free() */
export function vmxVcpuFree(vcpu: X86Vcpu): void {
  const vmx = toVmx(vcpu);
  const { pages } = vmx.hw.host;
  vmxSetPidTableEntry(vcpu, false);
  vmx.hw.freeVpid(vmx.vpid);
  vmx.hw.freeLoadedVmcs(vmx.loadedVmcs);
  pages.free(vmx.msrBitmap);
  if (vmx.piDesc !== null) vtPiDescFree(vmx.hw.host, vmx.piDesc);
}

/** @upstream vmx_exec_control() */
function vmxExecControl(vcpu: X86Vcpu): number {
  const { config } = hardwareOf(vcpu);
  let controls =
    config.cpuBased &
    ~(
      PRIMARY.RDTSC |
      PRIMARY.IO_BITMAPS |
      PRIMARY.MONITOR_TRAP_FLAG |
      PRIMARY.NMI_WINDOW |
      PRIMARY.INTERRUPT_WINDOW |
      PRIMARY.PAUSE
    );
  if (cpuHasVmxTprShadow(config) && !lapicInKernel(vcpu)) {
    controls &= ~PRIMARY.TPR_SHADOW;
    controls |= PRIMARY.CR8_LOAD | PRIMARY.CR8_STORE;
  }
  if (vcpu.kvm.arch.hltInGuest) controls &= ~PRIMARY.HLT;
  if (vcpu.kvm.arch.mwaitInGuest) controls &= ~(PRIMARY.MWAIT | PRIMARY.MONITOR);
  return controls >>> 0;
}

/** @upstream vmx_secondary_exec_control() */
function vmxSecondaryExecControl(vcpu: X86Vcpu): number {
  const { config } = hardwareOf(vcpu);
  let controls = config.secondary & ~(SECONDARY.DESCRIPTOR_TABLE | APIC_MODE_CONTROLS);
  if (!kvmVcpuApicvActive(vcpu)) controls &= ~APICV_CONTROLS;
  if (toVmx(vcpu).vpid === 0) controls &= ~SECONDARY.VPID;
  // A vCPU that is alone waits for nobody: PAUSE loops are only delays.
  if (vcpu.kvm.arch.pauseInGuest || vcpu.kvm.vcpus.length < 2) controls &= ~SECONDARY.PAUSE_LOOP;
  // Instructions follow the guest's CPUID: enabling controls on with the feature, exiting controls on without it.
  const enabling: readonly [number, string][] = [
    [SECONDARY.RDTSCP, 'rdtscp'],
    [SECONDARY.INVPCID, 'invpcid'],
    [SECONDARY.XSAVES, 'xsaves'],
  ];
  for (const [bit, feature] of enabling) {
    const also = bit === SECONDARY.RDTSCP && guestCpuidHas(vcpu, 'rdpid');
    if (!guestCpuidHas(vcpu, feature) && !also) controls &= ~bit;
  }
  if (guestCpuidHas(vcpu, 'rdrand')) controls &= ~SECONDARY.RDRAND;
  if (guestCpuidHas(vcpu, 'rdseed')) controls &= ~SECONDARY.RDSEED;
  return controls >>> 0;
}

/** Host state that never changes. @upstream vmx_set_constant_host_state(), vmx_vcpu_load_vmcs() */
function writeHostState(vmx: VcpuVmx): void {
  const { v, p } = vmx;
  vmcsWrite(v, HOST_CR0, p.cr0);
  vmcsWrite(v, HOST_CR3, p.cr3);
  vmcsWrite(v, HOST_CR4, p.cr4);
  vmcsWrite(v, HOST_CS_SELECTOR, HOST_CS);
  for (const field of [HOST_SS_SELECTOR, HOST_DS_SELECTOR, HOST_ES_SELECTOR]) vmcsWrite(v, field, HOST_DS);
  vmcsWrite(v, HOST_FS_SELECTOR, 0);
  vmcsWrite(v, HOST_GS_SELECTOR, 0);
  vmcsWrite(v, HOST_TR_SELECTOR, HOST_TR);
  vmcsWrite(v, HOST_FS_BASE, 0);
  vmcsWrite(v, HOST_GS_BASE, 0);
  vmcsWrite(v, HOST_IA32_SYSENTER_CS, 0);
  vmcsWrite(v, HOST_IA32_SYSENTER_ESP, 0);
  vmcsWrite(v, HOST_IA32_SYSENTER_EIP, 0);
  vmcsWrite(v, HOST_IA32_EFER, p.efer);
  vmcsWrite(v, HOST_IA32_PAT, readMsr(p, MSR_IA32_CR_PAT) ?? 0n);
  vmcsWrite(v, HOST_RSP, 0);
  vmcsWrite(v, HOST_RIP, 0);
}

/** @upstream init_vmcs() */
function initVmcs(vcpu: X86Vcpu): void {
  const vmx = toVmx(vcpu);
  const { v, hw } = vmx;
  const { config } = hw;
  vmx.loadedVmcs.shadow.clear();
  vmcsWrite(v, MSR_BITMAP, vmx.msrBitmap);
  vmcsWrite(v, VMCS_LINK_POINTER, 0xffff_ffff_ffff_ffffn);
  controlsSet(vmx, PIN_BASED_VM_EXEC_CONTROL, vmxPinBasedExecCtrl(vcpu));
  controlsSet(vmx, CPU_BASED_VM_EXEC_CONTROL, vmxExecControl(vcpu));
  controlsSet(vmx, SECONDARY_VM_EXEC_CONTROL, vmxSecondaryExecControl(vcpu));
  vmxSetTertiaryExecControl(vcpu);
  vmxWritePidTable(vcpu);
  if (cpuHasVmxPle(config)) {
    vmcsWrite(v, PLE_GAP, KVM_DEFAULT_PLE_GAP);
    vmx.pleWindow = KVM_VMX_DEFAULT_PLE_WINDOW;
    vmcsWrite(v, PLE_WINDOW, vmx.pleWindow);
  }
  vmcsWrite(v, PAGE_FAULT_ERROR_CODE_MASK, 0);
  vmcsWrite(v, PAGE_FAULT_ERROR_CODE_MATCH, 0);
  vmcsWrite(v, CR3_TARGET_COUNT, 0);
  vmcsWrite(v, VM_FUNCTION_CONTROL, 0);
  vmcsWrite(v, VM_EXIT_MSR_STORE_COUNT, 0);
  vmcsWrite(v, VM_EXIT_MSR_LOAD_COUNT, 0);
  vmcsWrite(v, VM_ENTRY_MSR_LOAD_COUNT, 0);
  controlsSet(vmx, VM_EXIT_CONTROLS, config.vmexit & ~EXIT_CONTROL.SAVE_PREEMPTION_TIMER);
  controlsSet(vmx, VM_ENTRY_CONTROLS, config.vmentry & ~(1 << 9));
  setCr0GuestHostMask(vcpu);
  setCr4GuestHostMask(vcpu);
  if (vmx.vpid !== 0) vmcsWrite(v, VIRTUAL_PROCESSOR_ID, vmx.vpid);
  if (config.secondary & SECONDARY.XSAVES) vmcsWrite(v, XSS_EXIT_BITMAP, 0n);
  const { apic } = vcpu.arch;
  if (vmx.piDesc !== null) {
    for (let i = 0; i < 4; i++) vmcsWrite(v, EOI_EXIT_BITMAP0 + 2 * i, 0n);
    vmcsWrite(v, GUEST_INTR_STATUS, 0);
    vmcsWrite(v, POSTED_INTR_NV, POSTED_INTR_VECTOR);
    vmcsWrite(v, POSTED_INTR_DESC_ADDR, vmx.piDesc.hpa);
  }
  if (cpuHasVmxTprShadow(config) && apic !== null) {
    vmcsWrite(v, VIRTUAL_APIC_PAGE_ADDR, apic.page);
    vmcsWrite(v, TPR_THRESHOLD, 0);
    vmx.tprThreshold = 0;
  }
  vmcsWrite(v, GUEST_IA32_PAT, vcpu.arch.pat);
  vmxWriteTscOffset(vcpu);
  vmxWriteTscMultiplier(vcpu);
}

/** @upstream vmx_vcpu_reset() */
export function vmxVcpuReset(vcpu: X86Vcpu, initEvent: boolean): void {
  const vmx = toVmx(vcpu);
  const { v } = vmx;
  if (!initEvent) initVmcs(vcpu);
  vmx.segValid = 0;
  vmxWriteGuestSeg(vmx, VCPU_SREG_CS, 0xf000, 0xffff_0000n, 0xffff, 0x9b);
  for (const seg of [0, 2, 3, 4, 5]) vmxWriteGuestSeg(vmx, seg, 0, 0n, 0xffff, 0x93);
  vmxWriteGuestSeg(vmx, VCPU_SREG_TR, 0, 0n, 0xffff, 0x8b);
  vmxWriteGuestSeg(vmx, VCPU_SREG_LDTR, 0, 0n, 0xffff, 0x82);
  vmcsWrite(v, GUEST_SYSENTER_CS, 0);
  vmcsWrite(v, GUEST_SYSENTER_ESP, 0);
  vmcsWrite(v, GUEST_SYSENTER_EIP, 0);
  vmcsWrite(v, GUEST_IA32_DEBUGCTL, 0);
  vmcsWrite(v, GUEST_GDTR_BASE, 0);
  vmcsWrite(v, GUEST_GDTR_LIMIT, 0xffff);
  vmcsWrite(v, GUEST_IDTR_BASE, 0);
  vmcsWrite(v, GUEST_IDTR_LIMIT, 0xffff);
  vmcsWrite(v, GUEST_ACTIVITY_STATE, GUEST_ACTIVITY_ACTIVE);
  vmcsWrite(v, GUEST_INTERRUPTIBILITY_INFO, 0);
  vmcsWrite(v, GUEST_PENDING_DBG_EXCEPTIONS, 0);
  vmcsWrite(v, VM_ENTRY_INTR_INFO_FIELD, 0);
  vmxSetVirtualApicMode(vcpu);
  if (vmx.vpid !== 0) v.invvpid(EXTENT_SINGLE_CONTEXT, vmx.vpid);
}

/** @upstream vmx_vcpu_after_set_cpuid() */
export function vmxVcpuAfterSetCpuid(vcpu: X86Vcpu): void {
  const vmx = toVmx(vcpu);
  controlsSet(vmx, SECONDARY_VM_EXEC_CONTROL, vmxSecondaryExecControl(vcpu));
  vmxSetVirtualApicMode(vcpu);
  setCr4GuestHostMask(vcpu);
}

/** @upstream vmx_vcpu_load() */
export function vmxVcpuLoad(vcpu: X86Vcpu, cpu: Cpu): void {
  const vmx = toVmx(vcpu);
  vmx.p = cpu.processor;
  vmx.v = cpu.processor.vtx;
  vmxVcpuPiLoad(vcpu, cpu);
  if (!vmx.hw.loadVmcs(vmx.loadedVmcs, cpu)) return;
  // Translations that this CPU cached for the vCPU long ago may be stale.
  kvmMakeRequest(KVM_REQ_TLB_FLUSH_CURRENT, vcpu);
  writeHostState(vmx);
  vmcsWrite(vmx.v, HOST_TR_BASE, vmx.p.tr.base);
  vmcsWrite(vmx.v, HOST_GDTR_BASE, vmx.p.gdtr.base);
  vmcsWrite(vmx.v, HOST_IDTR_BASE, vmx.p.idtr.base);
}

/** @upstream vmx_vcpu_put() */
export function vmxVcpuPut(vcpu: X86Vcpu): void {
  vmxVcpuPiPut(vcpu);
  vmxPrepareSwitchToHost(toVmx(vcpu));
}

/** @upstream vmx_get_if_flag() */
export const vmxGetIfFlag = (vcpu: X86Vcpu): boolean => (vmxGetRflags(vcpu) & 0x200) !== 0;

/** VMCALL. @upstream vmx_patch_hypercall() */
export const vmxPatchHypercall = (): Uint8Array => Uint8Array.of(0x0f, 0x01, 0xc1);

/** Nothing per VM beyond what x86.ts keeps. @upstream vmx_vm_init() */
export const vmxVmInit = (_kvm: X86Vm): Errno => 0;

/** @upstream vmx_check_emulate_instruction() */
export const vmxCheckEmulateInstruction = (vcpu: X86Vcpu): number =>
  toVmx(vcpu).idtVectoringInfo & INTR_INFO_VALID_MASK ? X86EMUL_UNHANDLEABLE_VECTORING : X86EMUL_CONTINUE;

/** Nothing keeps a vCPU from running. @upstream vmx_vcpu_pre_run() */
export const vmxVcpuPreRun = (_vcpu: X86Vcpu): number => 1;

const MSR_IA32_SMBASE = 0x9e;
const MSR_IA32_VMX_BASIC = 0x480;
const MSR_IA32_VMX_VMFUNC = 0x491;

/** There is no SMM and no nested VMX. @upstream vmx_has_emulated_msr() */
export const vmxHasEmulatedMsr = (index: number): boolean =>
  index !== MSR_IA32_SMBASE && !(index >= MSR_IA32_VMX_BASIC && index <= MSR_IA32_VMX_VMFUNC);

/** MSR bitmap and secondary controls follow from the guest's features and its number of vCPUs. @upstream vmx_recalc_intercepts() */
export function vmxRecalcIntercepts(vcpu: X86Vcpu): void {
  const vmx = toVmx(vcpu);
  initMsrBitmap(vmx);
  vmxInterceptFilteredMsrs(vcpu);
  controlsSet(vmx, SECONDARY_VM_EXEC_CONTROL, vmxSecondaryExecControl(vcpu));
  vmxSetVirtualApicMode(vcpu);
}
