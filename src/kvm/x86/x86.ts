/**
 * x86 KVM's answers to the generic part: load, VMs, vCPUs, memory.
 *
 * @upstream arch/x86/kvm/x86.c
 */
import type { Cpu } from '../../host/cpus.ts';
import { EEXIST, EINVAL, EIO, type Errno } from '../../host/errno.ts';
import type { Host } from '../../host/host.ts';
import { Task } from '../../host/sched.ts';
import { readMsr } from '../../machine/msr/msr.ts';
import { type Gfn, type Gpa, PAGE_SIZE } from '../../util/address.ts';
import type { KvmArchHooks, KvmMrChange } from '../virt/arch_hooks.ts';
import {
  KVM_MEM_LOG_DIRTY_PAGES,
  type Kvm,
  type KvmMemorySlot,
  type KvmModule,
  type KvmVcpu,
  kvmMakeAllCpusRequest,
  kvmMakeRequest,
} from '../virt/kvm_host.ts';
import type { KvmGfnRangeFilter } from '../virt/mem_attributes.ts';
import { KVM_MAX_VCPU_IDS } from '../virt/vcpu.ts';
import { kvmApicvInit, kvmFreeApicAccessPage } from './apicv.ts';
import { kvmVmIoctlCheckExtension } from './caps.ts';
import { freeGuestFpu } from './fpu.ts';
import { kvmDestroyIrqchip } from './irq.ts';
import { irqchipInKernel } from './irqchip_mode.ts';
import { forgetKvmCaps, kvmIsVmTypeSupported } from './kvm_caps.ts';
import {
  KVM_MP_STATE_RUNNABLE,
  KVM_MP_STATE_UNINITIALIZED,
  KVM_REQ_RECALC_INTERCEPTS,
  KVM_REQ_SCAN_IOAPIC,
  KVM_X86_DEFAULT_VM,
  KVM_X86_SW_PROTECTED_VM,
  KVM_X86_TDX_VM,
  vcpusOf,
  X86Vcpu,
  X86Vm,
} from './kvm_host.ts';
import type { KvmX86InitOps, KvmX86Ops } from './kvm_x86_ops.ts';
import { kvmCreateLapic, kvmFreeLapic } from './lapic.ts';
import { gfnOfGpa, kvmFlushRemoteTlbs, kvmMmuMaxGfn } from './mmu/mmu.ts';
import {
  kvmMmuRecoverHugePages,
  kvmMmuSlotRemoveWriteAccess,
  kvmMmuWriteProtectPtMasked,
  kvmMmuZapSlot,
  kvmUnmapGfnRange,
} from './mmu/mmu_slots.ts';
import { kvmArchVcpuPreFaultMemory } from './mmu/prefault.ts';
import { TdpMmu } from './mmu/tdp_mmu.ts';
import { newKvmPv } from './pvclock.ts';
import { kvmArchVcpuIoctlRun, kvmArchVcpuRunnable } from './run.ts';
import { kvmSynchronizeTsc, tscScalingRatio } from './tsc.ts';
import { kvmVcpuReset } from './vcpu_reset.ts';

const MSR_IA32_CR_PAT = 0x277;
const MSR_IA32_ARCH_CAPABILITIES = 0x10a;
/** Bits that say what the guest need not fear; others name MSRs that it does not have. @upstream KVM_SUPPORTED_ARCH_CAP */
const SUPPORTED_ARCH_CAPABILITIES: bigint = [0, 1, 2, 3, 4, 5, 6, 8, 13, 14, 15, 17, 19, 20, 24, 26, 27, 28, 62].reduce(
  (mask, bit) => mask | (1n << BigInt(bit)),
  0n,
);
const PAT_WB = 6n;
const MCG_CTL_P = 0x100n;
const DEFAULT_MCE_BANKS = 4n;

/** The architecture for one load of the module on one host. */
export class X86ArchHooks implements KvmArchHooks {
  readonly name = 'x86';
  readonly host: Host;
  readonly #init: KvmX86InitOps;
  /** Set by hardware setup. @upstream kvm_x86_ops */
  #ops: KvmX86Ops | null = null;

  constructor(host: Host, init: KvmX86InitOps) {
    this.host = host;
    this.#init = init;
  }

  /** @upstream kvm_x86_ops */
  get ops(): KvmX86Ops {
    if (this.#ops === null) throw new Error('no KVM vendor module is loaded');
    return this.#ops;
  }

  /** What KVM itself needs of the processor. @upstream kvm_x86_vendor_init(), first half */
  kvmArchInit(): Errno {
    if (this.#ops !== null) return -EEXIST;
    // Guests' memory types are computed on the assumption that entry 0 of the PAT is write-back.
    const pat = readMsr(this.host.cpu.processor, MSR_IA32_CR_PAT) ?? PAT_WB;
    return (pat & 7n) === PAT_WB ? 0 : -EIO;
  }
  kvmArchExit(): void {
    forgetKvmCaps(this.host);
  }

  kvmArchHardwareSetup(): Errno {
    const failed = this.#init.hardwareSetup(this.host);
    if (failed !== 0) return failed;
    this.#ops = this.#init.runtimeOps;
    return 0;
  }
  kvmArchHardwareUnsetup(): void {
    this.ops.hardwareUnsetup(this.host);
    this.#ops = null;
  }

  kvmArchCheckProcessorCompat(cpu: Cpu): Errno {
    return this.ops.checkProcessorCompatibility(cpu);
  }
  /** @upstream kvm_arch_enable_virtualization_cpu() */
  kvmArchHardwareEnable(cpu: Cpu): Errno {
    return this.ops.enableVirtualizationCpu(cpu);
  }
  kvmArchHardwareDisable(cpu: Cpu): void {
    this.ops.disableVirtualizationCpu(cpu);
  }
  kvmArchPostHardwareEnableSetup(): Errno {
    return this.ops.postHardwareEnableSetup(this.host);
  }
  kvmArchReboot(): void {
    this.ops.rebooting(this.host);
  }

  // ---- VMs

  kvmArchAllocVm(module: KvmModule): X86Vm {
    return new X86Vm(module, this.ops);
  }
  /** @upstream kvm_arch_init_vm() */
  kvmArchInitVm(kvm: Kvm, type: number): Errno {
    if (!kvmIsVmTypeSupported(this.host, type)) return -EINVAL;
    const vm = kvm as X86Vm;
    const { arch } = vm;
    arch.vmType = type;
    arch.hasPrivateMem = type === KVM_X86_SW_PROTECTED_VM;
    arch.preFaultAllowed = type === KVM_X86_DEFAULT_VM || type === KVM_X86_SW_PROTECTED_VM;
    arch.tdpMmu = new TdpMmu(vm);
    arch.mirrorMmu = type === KVM_X86_TDX_VM ? new TdpMmu(vm, 'mirror') : null;
    kvmApicvInit(vm);
    const failed = this.ops.vmInit(vm);
    if (failed !== 0) return failed;
    vm.arch.kvmclockOffset = -this.host.timers.now();
    return 0;
  }
  kvmArchPreDestroyVm(kvm: Kvm): void {
    this.ops.vmPreDestroy(kvm as X86Vm);
  }
  kvmArchDestroyVm(kvm: Kvm): void {
    const vm = kvm as X86Vm;
    kvmDestroyIrqchip(vm);
    vm.arch.tdpMmu.destroy();
    // Who keeps private memory's tables takes pages away one by one, as KVM alone at the tables.
    vm.arch.mmuLock.write(() => vm.arch.mirrorMmu?.destroy());
    kvmFreeApicAccessPage(vm);
    this.ops.vmDestroy(vm);
  }
  kvmVmIoctlCheckExtension(kvm: Kvm | null, extension: number): number {
    return kvmVmIoctlCheckExtension(this.host, kvm as X86Vm | null, extension);
  }

  // ---- vCPUs

  kvmArchVcpuPrecreate(kvm: Kvm, id: number): Errno {
    const vm = kvm as X86Vm;
    // Without the capability the limit is everybody's, and it is settled now.
    vm.arch.maxVcpuIds ||= KVM_MAX_VCPU_IDS;
    if (id >= vm.arch.maxVcpuIds) return -EINVAL;
    return this.ops.vcpuPrecreate(vm);
  }
  kvmArchAllocVcpu(kvm: Kvm, id: number): KvmVcpu {
    const online = this.host.cpus.online;
    const cpu = online[kvm.vcpus.length % online.length]!;
    return new X86Vcpu(kvm as X86Vm, id, new Task(`vcpu${id}`, cpu));
  }

  /** @upstream kvm_arch_vcpu_create() */
  kvmArchVcpuCreate(generic: KvmVcpu): Errno {
    const vcpu = generic as X86Vcpu;
    const { arch, kvm } = vcpu;
    arch.pv = newKvmPv();
    arch.mpState =
      !irqchipInKernel(kvm) || vcpu.vcpuId === kvm.arch.bspVcpuId ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_UNINITIALIZED;
    if (irqchipInKernel(kvm)) {
      const failed = kvmCreateLapic(vcpu);
      if (failed !== 0) return failed;
    }
    arch.mcgCap = MCG_CTL_P | DEFAULT_MCE_BANKS;
    arch.mcgCtl = 0xffff_ffff_ffff_ffffn;
    const capabilities = readMsr(this.host.cpu.processor, MSR_IA32_ARCH_CAPABILITIES) ?? 0n;
    arch.archCapabilities = capabilities & SUPPORTED_ARCH_CAPABILITIES;
    arch.virtualTscKhz = kvm.arch.defaultTscKhz;
    arch.tscScalingRatio = tscScalingRatio(arch.virtualTscKhz);
    const failed = this.ops.vcpuCreate(vcpu);
    if (failed !== 0) {
      kvmFreeLapicIfPresent(vcpu);
      return failed;
    }
    this.#load(vcpu);
    kvmVcpuReset(vcpu, false);
    return 0;
  }

  /** @upstream kvm_arch_vcpu_postcreate() */
  kvmArchVcpuPostcreate(generic: KvmVcpu): void {
    const vcpu = generic as X86Vcpu;
    this.#load(vcpu);
    kvmSynchronizeTsc(vcpu, 0n);
    // What a vCPU intercepts depends on whether there are others.
    for (const other of vcpusOf(vcpu.kvm)) kvmMakeRequest(KVM_REQ_RECALC_INTERCEPTS, other);
  }

  /** vcpu_load for code that works on a vCPU which may not be in the VM's list yet. */
  #load(vcpu: X86Vcpu): void {
    const { module } = vcpu.kvm;
    const cpu = this.host.cpu;
    const loaded = module.runningVcpu[cpu.id] ?? null;
    if (loaded === vcpu) return;
    if (loaded !== null) this.kvmArchVcpuPut(loaded);
    module.runningVcpu[cpu.id] = vcpu;
    this.kvmArchVcpuLoad(vcpu, cpu);
  }

  kvmArchVcpuDestroy(generic: KvmVcpu): void {
    const vcpu = generic as X86Vcpu;
    this.ops.vcpuFree(vcpu);
    freeGuestFpu(vcpu);
    kvmFreeLapicIfPresent(vcpu);
  }
  kvmArchVcpuLoad(vcpu: KvmVcpu, cpu: Cpu): void {
    this.ops.vcpuLoad(vcpu as X86Vcpu, cpu);
    vcpu.cpu = cpu;
  }
  kvmArchVcpuPut(vcpu: KvmVcpu): void {
    this.ops.vcpuPut(vcpu as X86Vcpu);
  }
  kvmArchVcpuIoctlRun(vcpu: KvmVcpu): number {
    return kvmArchVcpuIoctlRun(vcpu as X86Vcpu);
  }
  kvmArchVcpuRunnable(vcpu: KvmVcpu): boolean {
    return kvmArchVcpuRunnable(vcpu as X86Vcpu);
  }

  kvmArchPostIrqAckNotifierListUpdate(kvm: Kvm): void {
    if ((kvm as X86Vm).arch.vioapic !== null) kvmMakeAllCpusRequest(kvm, KVM_REQ_SCAN_IOAPIC);
  }

  // ---- memory

  /** @upstream kvm_arch_prepare_memory_region() */
  kvmArchPrepareMemoryRegion(
    kvm: Kvm,
    _old: KvmMemorySlot | null,
    slot: KvmMemorySlot | null,
    change: KvmMrChange,
  ): Errno {
    if (slot === null || change === 'flagsOnly') return 0;
    const vm = kvm as X86Vm;
    const last = slot.baseGfn + slot.npages - 1;
    // A frame with the shared bit is another name of the one without it.
    return last > kvmMmuMaxGfn(vm) || gfnOfGpa(vm, last * PAGE_SIZE) !== last ? -EINVAL : 0;
  }
  /** @upstream kvm_mmu_slot_apply_flags() */
  kvmArchCommitMemoryRegion(
    kvm: Kvm,
    old: KvmMemorySlot | null,
    slot: KvmMemorySlot | null,
    change: KvmMrChange,
  ): void {
    if (slot === null || change === 'create') return;
    const was = ((old?.flags ?? 0) & KVM_MEM_LOG_DIRTY_PAGES) !== 0;
    const now = (slot.flags & KVM_MEM_LOG_DIRTY_PAGES) !== 0;
    if (!was && now) kvmMmuSlotRemoveWriteAccess(kvm as X86Vm, slot);
    if (was && !now) kvmMmuRecoverHugePages(kvm as X86Vm, slot);
  }
  kvmArchFlushShadowMemslot(kvm: Kvm, slot: KvmMemorySlot): void {
    kvmMmuZapSlot(kvm as X86Vm, slot);
  }
  kvmArchHasPrivateMem(kvm: Kvm): boolean {
    return (kvm as X86Vm).arch.hasPrivateMem;
  }
  kvmArchHasReadonlyMem(kvm: Kvm): boolean {
    return !(kvm as X86Vm).arch.hasProtectedState;
  }
  kvmArchUnmapGfnRange(kvm: Kvm, start: Gfn, end: Gfn, filter: KvmGfnRangeFilter): boolean {
    return kvmUnmapGfnRange(kvm as X86Vm, start, end, filter);
  }
  kvmArchVcpuPreFaultMemory(vcpu: KvmVcpu, gpa: Gpa, size: number): number {
    return kvmArchVcpuPreFaultMemory(vcpu as X86Vcpu, gpa, size);
  }
  kvmArchMmuEnableLogDirtyPtMasked(kvm: Kvm, slot: KvmMemorySlot, offset: number, mask: number): void {
    kvmMmuWriteProtectPtMasked(kvm as X86Vm, slot, offset, mask);
  }
  kvmArchSyncDirtyLog(_kvm: Kvm): void {
    // Write protection notes each page in the bitmap at once: no hardware buffer to empty.
  }
  kvmArchFlushRemoteTlbs(kvm: Kvm): void {
    kvmFlushRemoteTlbs(kvm as X86Vm);
  }
}

function kvmFreeLapicIfPresent(vcpu: X86Vcpu): void {
  if (vcpu.arch.apic !== null) kvmFreeLapic(vcpu);
}
