/**
 * What an architecture gives the generic part of KVM: the kvm_arch_* functions, as one interface.
 *
 * Nothing in kvm/virt knows an architecture; everything it needs from one goes through here.
 *
 * @upstream include/linux/kvm_host.h, the kvm_arch_* prototypes
 */
import type { Cpu } from '../../host/cpus.ts';
import type { Errno } from '../../host/errno.ts';
import type { Gfn, Gpa } from '../../util/address.ts';
import type { Kvm, KvmMemorySlot, KvmModule, KvmVcpu } from './kvm_host.ts';
import type { KvmGfnRangeFilter } from './mem_attributes.ts';

/** What happens to a memory slot. @upstream enum kvm_mr_change */
export type KvmMrChange = 'create' | 'delete' | 'move' | 'flagsOnly';

/**
 * What one call of the run function came to: 0 an exit to user space (kvm_run says which), a negative errno, or one of
 * the RUN values: the call is not over and continues when it is made again.
 */
export type RunResult = number;
/** The slice is over: let others run, then call again. */
export const RUN_RESCHED = 1;
/** The vCPU waits for an event: call again after it is woken. */
export const RUN_BLOCK = 2;

/** The architecture. Methods are called in the order of facts that each one documents. */
export interface KvmArchHooks {
  /** Name in messages. */
  readonly name: string;

  // ---- load and unload
  /** First step of kvm_init: can this machine do it at all? @upstream kvm_arch_init() */
  kvmArchInit(): Errno;
  kvmArchExit(): void;
  /** Fills the ops table and the capabilities. @upstream kvm_arch_hardware_setup() */
  kvmArchHardwareSetup(): Errno;
  kvmArchHardwareUnsetup(): void;
  /** Whether this CPU is like the boot CPU; runs on the CPU before each enabling. @upstream kvm_arch_check_processor_compat() */
  kvmArchCheckProcessorCompat(cpu: Cpu): Errno;
  /** (A): turns virtualization on, on the current CPU. */
  kvmArchHardwareEnable(cpu: Cpu): Errno;
  /** (B): turns it off, on the current CPU. */
  kvmArchHardwareDisable(cpu: Cpu): void;
  /** Runs once per load while every online CPU has virtualization on, before /dev/kvm exists. An error fails the load. */
  kvmArchPostHardwareEnableSetup(): Errno;
  /** The machine goes down: from here on faults of virtualization instructions are swallowed. */
  kvmArchReboot(): void;

  // ---- VMs
  /** The VM object of this architecture, empty. @upstream kvm_arch_alloc_vm() */
  kvmArchAllocVm(module: KvmModule, type: number): Kvm;
  kvmArchInitVm(kvm: Kvm, type: number): Errno;
  kvmArchPreDestroyVm(kvm: Kvm): void;
  kvmArchDestroyVm(kvm: Kvm): void;
  kvmVmIoctlCheckExtension(kvm: Kvm | null, extension: number): number;

  // ---- vCPUs
  kvmArchVcpuPrecreate(kvm: Kvm, id: number): Errno;
  /** The vCPU object of this architecture. */
  kvmArchAllocVcpu(kvm: Kvm, id: number): KvmVcpu;
  kvmArchVcpuCreate(vcpu: KvmVcpu): Errno;
  kvmArchVcpuPostcreate(vcpu: KvmVcpu): void;
  kvmArchVcpuDestroy(vcpu: KvmVcpu): void;
  kvmArchVcpuLoad(vcpu: KvmVcpu, cpu: Cpu): void;
  kvmArchVcpuPut(vcpu: KvmVcpu): void;
  /** Begins or continues a KVM_RUN. @upstream kvm_arch_vcpu_ioctl_run() */
  kvmArchVcpuIoctlRun(vcpu: KvmVcpu): RunResult;
  /** Whether a blocked vCPU has something to do. @upstream kvm_arch_vcpu_runnable() */
  kvmArchVcpuRunnable(vcpu: KvmVcpu): boolean;

  /** Who wants to hear of ended interrupts has changed. @upstream kvm_arch_post_irq_ack_notifier_list_update() */
  kvmArchPostIrqAckNotifierListUpdate?(kvm: Kvm): void;

  // ---- memory
  kvmArchPrepareMemoryRegion(
    kvm: Kvm,
    old: KvmMemorySlot | null,
    slot: KvmMemorySlot | null,
    change: KvmMrChange,
  ): Errno;
  kvmArchCommitMemoryRegion(kvm: Kvm, old: KvmMemorySlot | null, slot: KvmMemorySlot | null, change: KvmMrChange): void;
  /** Removes every mapping of a slot that is being deleted or moved. */
  kvmArchFlushShadowMemslot(kvm: Kvm, slot: KvmMemorySlot): void;
  /** Whether guest memory of this VM may be private. */
  kvmArchHasPrivateMem(kvm: Kvm): boolean;
  /** Whether slots of this VM may be read-only. */
  kvmArchHasReadonlyMem(kvm: Kvm): boolean;
  /** Removes the mappings of frames [start, end) that `filter` is about; true if TLBs must be flushed. @upstream kvm_unmap_gfn_range() */
  kvmArchUnmapGfnRange(kvm: Kvm, start: Gfn, end: Gfn, filter: KvmGfnRangeFilter): boolean;
  /** Maps a page before the guest touches it: how many bytes from `gpa` on are mapped now, or a negative errno. */
  kvmArchVcpuPreFaultMemory(vcpu: KvmVcpu, gpa: Gpa, size: number): number;
  /** Write-protects (or clears dirty flags of) the pages of `mask` from `gfn` on, so that writes are logged again. */
  kvmArchMmuEnableLogDirtyPtMasked(kvm: Kvm, slot: KvmMemorySlot, offset: number, mask: number): void;
  /** Dirty state that is still in hardware buffers comes to the bitmap. */
  kvmArchSyncDirtyLog(kvm: Kvm): void;
  kvmArchFlushRemoteTlbs(kvm: Kvm): void;
}
