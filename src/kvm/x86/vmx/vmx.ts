/**
 * The VMX backend: setup, vCPU life cycle, and entering the guest.
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
import { GPR } from '../../../machine/engine/layout.ts';
import { readMsr } from '../../../machine/msr/msr.ts';
import { EXIT_CONTROL, PIN, PRIMARY, SECONDARY } from '../../../machine/vtx/controls.ts';
import type { Hpa } from '../../../util/address.ts';
import { trace } from '../../../util/trace.ts';
import { kvmMakeRequest, kvmVcpuKick } from '../../virt/kvm_host.ts';
import { guestCpuidHas } from '../cpuid_caps.ts';
import { lapicInKernel } from '../irqchip_mode.ts';
import { kvmRegisterMarkDirty, kvmRipRead, kvmRipWrite } from '../kvm_cache_regs.ts';
import {
  KVM_REQ_EVENT,
  KVM_REQ_TLB_FLUSH_CURRENT,
  VCPU_REGS_RIP,
  VCPU_REGS_RSP,
  VCPU_SREG_CS,
  VCPU_SREG_LDTR,
  VCPU_SREG_TR,
  type X86Vcpu,
  type X86Vm,
} from '../kvm_host.ts';
import {
  EXIT_FASTPATH_EXIT_HANDLED,
  EXIT_FASTPATH_NONE,
  type Fastpath,
  type KvmExitInfo,
  X86EMUL_CONTINUE,
  X86EMUL_UNHANDLEABLE_VECTORING,
} from '../kvm_x86_ops.ts';
import { kvmLapicSyncTpr, kvmLapicTpr } from '../lapic.ts';
import {
  cpuHasVmxEpt,
  cpuHasVmxEptAdBits,
  cpuHasVmxMsrBitmap,
  cpuHasVmxPle,
  cpuHasVmxTprShadow,
  cpuHasVmxUnrestrictedGuest,
  cpuHasVmxVpid,
  setupVmcsConfig,
  type VmcsConfig,
} from './capabilities.ts';
import {
  controlsGet,
  controlsSet,
  toVmx,
  VcpuVmx,
  VMX_REGS_LAZY_LOAD_SET,
  vmxGetExitQual,
  vmxGetIntrInfo,
  vmxGetRflags,
  vmxWriteGuestSeg,
} from './vcpu_vmx.ts';
import {
  CPU_BASED_VM_EXEC_CONTROL,
  CR3_TARGET_COUNT,
  EPT_POINTER,
  EXCEPTION_BITMAP,
  EXIT_REASON_EXCEPTION_NMI,
  EXIT_REASON_EXTERNAL_INTERRUPT,
  EXIT_REASON_VM_FAIL,
  GUEST_ACTIVITY_ACTIVE,
  GUEST_ACTIVITY_STATE,
  GUEST_DR7,
  GUEST_GDTR_BASE,
  GUEST_GDTR_LIMIT,
  GUEST_IA32_DEBUGCTL,
  GUEST_IA32_PAT,
  GUEST_IDTR_BASE,
  GUEST_IDTR_LIMIT,
  GUEST_INTERRUPTIBILITY_INFO,
  GUEST_PENDING_DBG_EXCEPTIONS,
  GUEST_RIP,
  GUEST_RSP,
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
  IDT_VECTORING_ERROR_CODE,
  IDT_VECTORING_INFO_FIELD,
  INTR_INFO_VALID_MASK,
  INTR_INFO_VECTOR_MASK,
  MSR_BITMAP,
  PAGE_FAULT_ERROR_CODE_MASK,
  PAGE_FAULT_ERROR_CODE_MATCH,
  PIN_BASED_VM_EXEC_CONTROL,
  PLE_GAP,
  PLE_WINDOW,
  SECONDARY_VM_EXEC_CONTROL,
  TPR_THRESHOLD,
  TSC_MULTIPLIER,
  TSC_OFFSET,
  VIRTUAL_APIC_PAGE_ADDR,
  VIRTUAL_PROCESSOR_ID,
  VM_ENTRY_CONTROLS,
  VM_ENTRY_INTR_INFO_FIELD,
  VM_ENTRY_MSR_LOAD_COUNT,
  VM_EXIT_CONTROLS,
  VM_EXIT_INSTRUCTION_LEN,
  VM_EXIT_MSR_LOAD_COUNT,
  VM_EXIT_MSR_STORE_COUNT,
  VM_EXIT_REASON,
  VM_FUNCTION_CONTROL,
  VM_INSTRUCTION_ERROR,
  VM_SUCCEED,
  VMCS_LINK_POINTER,
  VMX_EXIT_REASONS_FAILED_VMENTRY,
  vmcsRead32,
  vmcsWrite,
  XSS_EXIT_BITMAP,
} from './vmcs.ts';
import { vmxCompleteInterrupts, vmxRecoverNmiBlocking } from './vmx_events.ts';
import { VmxHardware } from './vmx_hardware.ts';
import { initMsrBitmap, vmxPrepareSwitchToHost } from './vmx_msr.ts';
import { setCr0GuestHostMask, setCr4GuestHostMask, vmxLoadMmuPgdWith } from './vmx_state.ts';

/** The backend of each host that has it loaded. Filled at (*): before anything can enable or disable hardware. */
const loaded: WeakMap<Cpus, VmxHardware> = new WeakMap();

/** The backend that a host has loaded. */
export function vmxHardware(cpus: Cpus): VmxHardware {
  const hardware = loaded.get(cpus);
  if (hardware === undefined) throw new Error('the VMX backend is not loaded');
  return hardware;
}
const hardwareOf = (vcpu: X86Vcpu): VmxHardware => vmxHardware(vcpu.kvm.host.cpus);

const MSR_IA32_CR_PAT = 0x277;
const KVM_DEFAULT_PLE_GAP = 128;
const KVM_VMX_DEFAULT_PLE_WINDOW = 4096;
/** INVEPT and INVVPID types. */
const EXTENT_CONTEXT = 1;
const EXTENT_GLOBAL = 2;
const EXTENT_INDIVIDUAL_ADDR = 0;
const EXTENT_SINGLE_CONTEXT = 1;

const UD_VECTOR = 6;
const DB_VECTOR = 1;
const BP_VECTOR = 3;
const AC_VECTOR = 17;
const MC_VECTOR = 18;
const NMI_VECTOR = 2;

// ---- setup

/** (*): reads what the boot CPU offers and prepares what enabling depends on. @upstream vmx_init_early(), setup_vmcs_config() */
export function vmxInitEarly(host: Host): Errno {
  if (loaded.has(host.cpus)) return -EEXIST;
  const config = setupVmcsConfig((index) => readMsr(host.cpu.processor, index));
  if (typeof config === 'number') return config;
  loaded.set(host.cpus, new VmxHardware(host, config));
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
  return hw.allocKvmArea();
}
/** @upstream vmx_hardware_unsetup() */
export function vmxHardwareUnsetup(host: Host): void {
  vmxHardware(host.cpus).freeKvmArea();
}

/** Whether EPT accessed and dirty flags are used. */
export const enableEptAdBits = (config: VmcsConfig): boolean => cpuHasVmxEptAdBits(config);

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

/** @upstream vmx_vcpu_create() */
export function vmxVcpuCreate(vcpu: X86Vcpu): Errno {
  const hw = hardwareOf(vcpu);
  const pages: Hpa[] = [];
  for (let i = 0; i < 2; i++) {
    const page = hw.host.pages.alloc(PAGE_OWNER.kernel);
    if (page === undefined) {
      for (const done of pages) hw.host.pages.free(done);
      return -ENOMEM;
    }
    pages.push(page);
  }
  const loadedVmcs = hw.allocLoadedVmcs();
  if (loadedVmcs === undefined) {
    for (const done of pages) hw.host.pages.free(done);
    return -ENOMEM;
  }
  const vpid = cpuHasVmxVpid(hw.config) ? hw.allocateVpid() : 0;
  const vmx = new VcpuVmx(hw, loadedVmcs, vpid, {
    msrBitmap: pages[0]!,
    virtualApicPage: pages[1]!,
  });
  vcpu.vt = vmx;
  initMsrBitmap(vmx);
  return 0;
}

/** @upstream vmx_vcpu_free() */
export function vmxVcpuFree(vcpu: X86Vcpu): void {
  const vmx = toVmx(vcpu);
  const { pages } = vmx.hw.host;
  vmx.hw.freeVpid(vmx.vpid);
  vmx.hw.freeLoadedVmcs(vmx.loadedVmcs);
  for (const page of [vmx.msrBitmap, vmx.virtualApicPage]) pages.free(page);
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
  let controls = config.secondary & ~SECONDARY.DESCRIPTOR_TABLE;
  if (toVmx(vcpu).vpid === 0) controls &= ~SECONDARY.VPID;
  if (vcpu.kvm.arch.pauseInGuest) controls &= ~SECONDARY.PAUSE_LOOP;
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
  controlsSet(vmx, PIN_BASED_VM_EXEC_CONTROL, config.pinBased & ~PIN.PREEMPTION_TIMER);
  controlsSet(vmx, CPU_BASED_VM_EXEC_CONTROL, vmxExecControl(vcpu));
  controlsSet(vmx, SECONDARY_VM_EXEC_CONTROL, vmxSecondaryExecControl(vcpu));
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
  if (cpuHasVmxTprShadow(config)) {
    vmcsWrite(v, VIRTUAL_APIC_PAGE_ADDR, vmx.virtualApicPage);
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
  if (vmx.vpid !== 0) v.invvpid(EXTENT_SINGLE_CONTEXT, vmx.vpid);
}

/** @upstream vmx_vcpu_after_set_cpuid() */
export function vmxVcpuAfterSetCpuid(vcpu: X86Vcpu): void {
  const vmx = toVmx(vcpu);
  controlsSet(vmx, SECONDARY_VM_EXEC_CONTROL, vmxSecondaryExecControl(vcpu));
  setCr4GuestHostMask(vcpu);
}

/** @upstream vmx_vcpu_load() */
export function vmxVcpuLoad(vcpu: X86Vcpu, cpu: Cpu): void {
  const vmx = toVmx(vcpu);
  vmx.p = cpu.processor;
  vmx.v = cpu.processor.vtx;
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
  vmxPrepareSwitchToHost(toVmx(vcpu));
}

// ---- controls that follow guest state

/** @upstream vmx_update_exception_bitmap() */
export function vmxUpdateExceptionBitmap(vcpu: X86Vcpu): void {
  let bitmap = (1 << UD_VECTOR) | (1 << MC_VECTOR) | (1 << AC_VECTOR) | (1 << DB_VECTOR);
  // Without shadow paging or emulation, #UD, #AC and #DB of the guest are the guest's own.
  bitmap &= ~((1 << UD_VECTOR) | (1 << AC_VECTOR) | (1 << DB_VECTOR));
  const { guestDebug } = vcpu.arch;
  const GUESTDBG_ENABLE = 1;
  const GUESTDBG_USE_SW_BP = 0x10000;
  if (guestDebug & GUESTDBG_ENABLE) {
    bitmap |= 1 << DB_VECTOR;
    if (guestDebug & GUESTDBG_USE_SW_BP) bitmap |= 1 << BP_VECTOR;
  }
  vmcsWrite(toVmx(vcpu).v, EXCEPTION_BITMAP, bitmap >>> 0);
}

/** @upstream vmx_write_tsc_offset() */
export function vmxWriteTscOffset(vcpu: X86Vcpu): void {
  vmcsWrite(toVmx(vcpu).v, TSC_OFFSET, BigInt.asUintN(64, vcpu.arch.tscOffset));
}
/** @upstream vmx_write_tsc_multiplier() */
export function vmxWriteTscMultiplier(vcpu: X86Vcpu): void {
  const vmx = toVmx(vcpu);
  if (controlsGet(vmx, SECONDARY_VM_EXEC_CONTROL) & SECONDARY.TSC_SCALING)
    vmcsWrite(vmx.v, TSC_MULTIPLIER, vcpu.arch.tscScalingRatio);
}

/** @upstream vmx_set_dr7() */
export function vmxSetDr7(vcpu: X86Vcpu, dr7: bigint): void {
  vmcsWrite(toVmx(vcpu).v, GUEST_DR7, dr7);
}

/** Debug registers that the guest changed without an exit come back. @upstream vmx_sync_dirty_debug_regs() */
export function vmxSyncDirtyDebugRegs(vcpu: X86Vcpu): void {
  const vmx = toVmx(vcpu);
  for (let i = 0; i < 4; i++) vcpu.arch.db[i] = vmx.p.dr[i]!;
  vcpu.arch.dr6 = BigInt(vmx.p.dr6);
  vcpu.arch.dr7 = BigInt(vmcsRead32(vmx.v, GUEST_DR7));
  vcpu.arch.debugRegsWontExit = false;
  controlsSet(vmx, CPU_BASED_VM_EXEC_CONTROL, controlsGet(vmx, CPU_BASED_VM_EXEC_CONTROL) | PRIMARY.MOV_DR);
}

// ---- translation

/** @upstream vmx_load_mmu_pgd() */
export function vmxLoadMmuPgd(vcpu: X86Vcpu, root: Hpa, rootLevel: number): void {
  vmxLoadMmuPgdWith(vcpu, root, rootLevel, enableEptAdBits(toVmx(vcpu).hw.config));
}

/** @upstream vmx_flush_tlb_all() */
export function vmxFlushTlbAll(vcpu: X86Vcpu): void {
  toVmx(vcpu).v.invept(EXTENT_GLOBAL, 0n);
}
/** @upstream vmx_flush_tlb_current() */
export function vmxFlushTlbCurrent(vcpu: X86Vcpu): void {
  const { v } = toVmx(vcpu);
  const eptp = v.vmread(EPT_POINTER) ?? 0n;
  if (eptp !== 0n) v.invept(EXTENT_CONTEXT, eptp);
}
/** @upstream vmx_flush_tlb_gva() */
export function vmxFlushTlbGva(vcpu: X86Vcpu, gva: bigint): void {
  const { v, vpid } = toVmx(vcpu);
  if (vpid !== 0) v.invvpid(EXTENT_INDIVIDUAL_ADDR, vpid, gva);
}
/** @upstream vmx_flush_tlb_guest() */
export function vmxFlushTlbGuest(vcpu: X86Vcpu): void {
  const { v, vpid } = toVmx(vcpu);
  if (vpid !== 0) v.invvpid(EXTENT_SINGLE_CONTEXT, vpid);
}

/** Everything is write-back: there are no caches to protect a device from. @upstream vmx_get_mt_mask() */
export const vmxGetMtMask = (_vcpu: X86Vcpu, isMmio: boolean): number => (isMmio ? 0 : 6 << 3);

// ---- running

const windows: WeakMap<ArrayBufferLike, Uint8Array> = new WeakMap();
/** The running processor's sixteen general registers in the machine's memory. */
function gprWindow(buffer: ArrayBufferLike): Uint8Array {
  let window = windows.get(buffer);
  if (window === undefined) {
    window = new Uint8Array(buffer, GPR, 128);
    windows.set(buffer, window);
  }
  return window;
}

/** Enters the guest and comes back with the exit. @upstream vmx_vcpu_run() */
export function vmxVcpuRun(vcpu: X86Vcpu, forceImmediateExit: boolean): Fastpath {
  const vmx = toVmx(vcpu);
  const { arch } = vcpu;
  const { v, p, loadedVmcs } = vmx;
  const { host } = vmx.hw;
  if (arch.regsDirty !== 0) {
    if (arch.regsDirty & (1 << VCPU_REGS_RSP)) vmcsWrite(v, GUEST_RSP, arch.regs[VCPU_REGS_RSP]!);
    if (arch.regsDirty & (1 << VCPU_REGS_RIP)) vmcsWrite(v, GUEST_RIP, arch.regs[VCPU_REGS_RIP]!);
    arch.regsDirty = 0;
  }
  if (forceImmediateExit && vcpu.cpu !== null) host.cpus.kick(vcpu.cpu);
  if (p.cr2 !== arch.cr2) p.cr2 = arch.cr2;

  const apic = arch.apic !== null;
  if (apic) syncTprToPage(vcpu, vmx);

  trace.kvm_entry?.(vcpu.vcpuId, kvmRipRead(vcpu));
  // The entry code: general registers in, VMLAUNCH or VMRESUME, general registers out.
  host.machine.activate(p);
  const window = gprWindow(host.machine.memory.memory.buffer);
  window.set(arch.regs8);
  const result = loadedVmcs.launched ? v.vmresume() : v.vmlaunch();
  arch.regs8.set(window);
  arch.cr2 = p.cr2;
  arch.regsAvail = ~VMX_REGS_LAZY_LOAD_SET;
  vmx.segValid = 0;
  vcpu.stat.exits++;

  vmx.fail = result;
  if (result !== VM_SUCCEED) {
    vmx.exitReason = EXIT_REASON_VM_FAIL;
    vmx.idtVectoringInfo = 0;
    vmx.vmInstructionError = vmcsRead32(v, VM_INSTRUCTION_ERROR);
    // Only an entry that succeeds uses the event up.
    vmcsWrite(v, VM_ENTRY_INTR_INFO_FIELD, 0);
    return EXIT_FASTPATH_NONE;
  }
  const reason = vmcsRead32(v, VM_EXIT_REASON);
  vmx.exitReason = reason;
  vmx.idtVectoringInfo = vmcsRead32(v, IDT_VECTORING_INFO_FIELD);
  if (trace.kvm_exit !== undefined) traceExit(vcpu, reason);
  vcpu.exitCounts[reason & 0x7f]!++;
  if (reason & VMX_EXIT_REASONS_FAILED_VMENTRY) {
    vmcsWrite(v, VM_ENTRY_INTR_INFO_FIELD, 0);
    return EXIT_FASTPATH_NONE;
  }
  loadedVmcs.launched = true;
  if (apic) syncTprFromPage(vcpu, vmx);
  vmxRecoverNmiBlocking(vcpu);
  vmxCompleteInterrupts(vcpu);
  // External interrupts are all that an exit is about more often than not when the guest computes.
  return reason === EXIT_REASON_EXTERNAL_INTERRUPT && vmx.idtVectoringInfo === 0
    ? EXIT_FASTPATH_EXIT_HANDLED
    : EXIT_FASTPATH_NONE;
}

/** Offset of the task priority in an APIC page. */
const APIC_TASKPRI = 0x80;

/** CR8 of the guest works on the virtual-APIC page. @upstream the APIC page that is vapic page there */
function syncTprToPage(vcpu: X86Vcpu, vmx: VcpuVmx): void {
  const { memory } = vmx.hw.host.machine;
  const tpr = kvmLapicTpr(vcpu);
  const at = vmx.virtualApicPage + APIC_TASKPRI;
  if (memory.read8(at) !== tpr) memory.write8(at, tpr);
}
function syncTprFromPage(vcpu: X86Vcpu, vmx: VcpuVmx): void {
  const tpr = vmx.hw.host.machine.memory.read8(vmx.virtualApicPage + APIC_TASKPRI);
  if (tpr !== kvmLapicTpr(vcpu)) kvmLapicSyncTpr(vcpu, tpr);
}

function traceExit(vcpu: X86Vcpu, reason: number): void {
  const info: KvmExitInfo = { reason: 0, info1: 0n, info2: 0, intrInfo: 0, errorCode: 0 };
  vmxGetExitInfo(vcpu, info);
  trace.kvm_exit?.(vcpu.vcpuId, reason, kvmRipRead(vcpu), info.info1, info.info2, info.intrInfo, info.errorCode);
}

/** Interrupts that the exit acknowledged run now. @upstream vmx_handle_exit_irqoff() */
export function vmxHandleExitIrqoff(vcpu: X86Vcpu): void {
  const vmx = toVmx(vcpu);
  if (vmx.exitReason === EXIT_REASON_EXTERNAL_INTERRUPT) {
    const info = vmxGetIntrInfo(vcpu);
    vcpu.stat.irq_exits++;
    if (info & INTR_INFO_VALID_MASK && vcpu.cpu !== null)
      vmx.hw.host.interrupts.handle(vcpu.cpu, info & INTR_INFO_VECTOR_MASK);
  } else if (vmx.exitReason === EXIT_REASON_EXCEPTION_NMI) {
    const info = vmxGetIntrInfo(vcpu);
    if ((info & INTR_INFO_VECTOR_MASK) === NMI_VECTOR) vmx.p.nmiBlocked = false;
  }
}

/** @upstream vmx_skip_emulated_instruction() */
export function vmxSkipEmulatedInstruction(vcpu: X86Vcpu): number {
  const vmx = toVmx(vcpu);
  const length = BigInt(vmcsRead32(vmx.v, VM_EXIT_INSTRUCTION_LEN));
  const rip = kvmRipRead(vcpu) + length;
  // Outside 64-bit mode the instruction pointer wraps at 32 bits.
  kvmRipWrite(vcpu, (vcpu.arch.efer & 0x400) !== 0 ? BigInt.asUintN(64, rip) : rip & 0xffff_ffffn);
  kvmRegisterMarkDirty(vcpu, VCPU_REGS_RIP);
  const shadow = vmcsRead32(vmx.v, GUEST_INTERRUPTIBILITY_INFO);
  if (shadow & 3) vmcsWrite(vmx.v, GUEST_INTERRUPTIBILITY_INFO, shadow & ~3);
  return 1;
}

/** @upstream vmx_get_exit_info() */
export function vmxGetExitInfo(vcpu: X86Vcpu, info: KvmExitInfo): void {
  const vmx = toVmx(vcpu);
  info.reason = vmx.exitReason;
  info.info1 = vmxGetExitQual(vcpu);
  info.info2 = vmx.idtVectoringInfo;
  info.intrInfo = vmxGetIntrInfo(vcpu);
  info.errorCode = vmx.idtVectoringInfo & INTR_INFO_VALID_MASK ? vmcsRead32(vmx.v, IDT_VECTORING_ERROR_CODE) : 0;
}

/** IRR holds the vector already: the vCPU looks at its APIC before the next entry. @upstream vmx_deliver_interrupt() */
export function vmxDeliverInterrupt(vcpu: X86Vcpu): void {
  kvmMakeRequest(KVM_REQ_EVENT, vcpu);
  kvmVcpuKick(vcpu);
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

/** The MSR bitmap follows from the guest's features. @upstream vmx_recalc_intercepts() */
export function vmxRecalcIntercepts(vcpu: X86Vcpu): void {
  initMsrBitmap(toVmx(vcpu));
}
