/**
 * The structures of the generic part of KVM: module, VM, vCPU, memory slot, and vCPU requests.
 *
 * @upstream include/linux/kvm_host.h
 */
import type { Cpu } from '../../host/cpus.ts';
import type { Host } from '../../host/host.ts';
import { UserMemory } from '../../host/mm.ts';
import type { Task } from '../../host/sched.ts';
import type { Gfn } from '../../util/address.ts';
import type { KvmArchHooks } from './arch_hooks.ts';
import type { FrameSet } from './frame_set.ts';
import type { GuestMemfd } from './guest_memfd.ts';
import { KvmIoBus } from './io_bus.ts';
import type { KvmIrqAckNotifier, KvmIrqRoutingTable } from './irqchip.ts';
import type { KvmRun } from './kvm_run.ts';

/** What the loaded module knows: upstream's global variables. One per host. */
export interface KvmModule {
  readonly host: Host;
  readonly arch: KvmArchHooks;
  /** Virtualization is on from load to unload, not only while VMs exist. @upstream kvm.enable_virt_at_load */
  readonly enableVirtAtLoad: boolean;
  /** How many users of virtualization there are: VMs, and the load itself while it runs its hook. */
  usageCount: number;
  /** CPUs whose virtualization is on (cpus_hardware_enabled). */
  readonly hardwareEnabled: Set<Cpu>;
  /** The first error of the enabling that is under way; 0 for none. */
  hardwareEnableFailed: number;
  readonly vmList: Kvm[];
  /** The machine is going down. */
  rebooting: boolean;
  /** The vCPU whose state is on each CPU, by CPU id. @upstream kvm_running_vcpu */
  readonly runningVcpu: (KvmVcpu | null)[];
}

/** KVM_MEM_* flags of a memory slot. */
export const KVM_MEM_LOG_DIRTY_PAGES = 1;
export const KVM_MEM_READONLY = 2;
export const KVM_MEM_GUEST_MEMFD = 4;

/** A piece of guest-physical memory. @upstream struct kvm_memory_slot */
export interface KvmMemorySlot {
  readonly id: number;
  readonly asId: number;
  readonly baseGfn: Gfn;
  readonly npages: number;
  readonly userspaceAddr: number;
  readonly flags: number;
  /** One bit per page, in 32-bit words; null without dirty logging. */
  readonly dirtyBitmap: Uint32Array | null;
  /** Where private frames come from; null in a slot without a guest_memfd. */
  gmem: KvmSlotGmem | null;
}

/** The part of a guest_memfd that a slot has. */
export interface KvmSlotGmem {
  /** null once the file is closed. */
  file: GuestMemfd | null;
  /** Page of the file where the slot begins. */
  readonly pgoff: number;
}

/** Index of an I/O bus. @upstream enum kvm_bus */
export const KVM_MMIO_BUS = 0;
export const KVM_PIO_BUS = 1;
export const KVM_FAST_MMIO_BUS = 2;

/** A VM. Architectures derive from it. @upstream struct kvm */
export class Kvm {
  readonly module: KvmModule;
  readonly host: Host;
  readonly arch_hooks: KvmArchHooks;
  /** The address space of the process that made the VM. */
  readonly mm: UserMemory;
  /** vCPUs in order of creation. */
  readonly vcpus: KvmVcpu[] = [];
  /** Active slots by guest frame, no two overlap. */
  memslots: readonly KvmMemorySlot[] = [];
  /** Changes with every change of slots. @upstream kvm_memslots.generation */
  memslotGeneration = 0;
  readonly buses: readonly KvmIoBus[] = [new KvmIoBus(), new KvmIoBus(), new KvmIoBus()];
  /** Where GSIs lead; null without in-kernel interrupt controllers. */
  irqRouting: KvmIrqRoutingTable | null = null;
  /** Who wants to hear of ended interrupts. */
  readonly irqAckNotifiers: Set<KvmIrqAckNotifier> = new Set();
  /** A bug of ours or of the guest's module: every ioctl fails with −EIO from now on. */
  vmBugged = false;
  vmDead = false;
  /** Guest frames that user space has made private; null while there never was one. @upstream mem_attr_array */
  privateFrames: FrameSet | null = null;
  /** Who keeps the VM alive: its file, and each guest_memfd of it. @upstream users_count */
  usersCount = 1;
  /** KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 flags. */
  manualDirtyLogProtect = 0;
  maxVcpus = 1024;
  /** Something of user space that wants to hear of the VM's end (irqfds, devices). */
  readonly onDestroy: (() => void)[] = [];
  /** Releases the hooks into the process's address space; set while the VM lives. */
  releaseMm: () => void = () => {};
  created = false;

  constructor(module: KvmModule, mm?: UserMemory) {
    this.module = module;
    this.host = module.host;
    this.arch_hooks = module.arch;
    this.mm = mm ?? new UserMemory(module.host.machine.memory, module.host.pages);
  }
}

/** Where a vCPU is. @upstream vcpu->mode */
export const OUTSIDE_GUEST_MODE = 0;
export const IN_GUEST_MODE = 1;

/** A vCPU. Architectures derive from it. @upstream struct kvm_vcpu */
export class KvmVcpu {
  readonly kvm: Kvm;
  readonly vcpuId: number;
  readonly vcpuIdx: number;
  /** The thread that runs it. */
  readonly task: Task;
  /** Shared with user space: why KVM_RUN returned, and what it wants. */
  readonly run: KvmRun;
  /** The CPU its state was last loaded on; null before. */
  cpu: Cpu | null = null;
  mode: number = OUTSIDE_GUEST_MODE;
  /** Pending requests, a bit each. */
  requests = 0;
  /** A KVM_RUN is under way (it blocked or its slice ended). */
  running = false;
  /** KVM_RUN was entered to run the guest, not only to complete an exit. @upstream vcpu->wants_to_run */
  wantsToRun = false;
  /** The last memory slot that was looked up. */
  lastUsedSlot: KvmMemorySlot | null = null;
  lastUsedSlotGeneration = -1;
  /** Counters under upstream's names. */
  readonly stat: KvmVcpuStat = {
    exits: 0,
    io_exits: 0,
    mmio_exits: 0,
    halt_exits: 0,
    irq_exits: 0,
    irq_window_exits: 0,
    pf_taken: 0,
    pf_fixed: 0,
    insn_emulation: 0,
    hypercalls: 0,
    irq_injections: 0,
  };
  /** Exits by architecture exit reason. */
  readonly exitCounts: Float64Array = new Float64Array(128);

  constructor(kvm: Kvm, vcpuId: number, vcpuIdx: number, task: Task, run: KvmRun) {
    this.kvm = kvm;
    this.vcpuId = vcpuId;
    this.vcpuIdx = vcpuIdx;
    this.task = task;
    this.run = run;
  }
}

/** @upstream struct kvm_vcpu_stat */
export interface KvmVcpuStat {
  exits: number;
  io_exits: number;
  mmio_exits: number;
  halt_exits: number;
  irq_exits: number;
  irq_window_exits: number;
  pf_taken: number;
  pf_fixed: number;
  insn_emulation: number;
  hypercalls: number;
  irq_injections: number;
}

/** Requests that every architecture has; an architecture's own begin at bit 8. */
export const KVM_REQ_TLB_FLUSH = 0;
export const KVM_REQ_VM_DEAD = 1;
export const KVM_REQ_UNBLOCK = 2;
export const KVM_REQ_ARCH_BASE = 8;

/** @upstream kvm_make_request() */
export function kvmMakeRequest(request: number, vcpu: KvmVcpu): void {
  vcpu.requests |= 1 << request;
}
/** @upstream kvm_test_request() */
export const kvmTestRequest = (request: number, vcpu: KvmVcpu): boolean => (vcpu.requests & (1 << request)) !== 0;
/** Tests and clears. @upstream kvm_check_request() */
export function kvmCheckRequest(request: number, vcpu: KvmVcpu): boolean {
  if ((vcpu.requests & (1 << request)) === 0) return false;
  vcpu.requests &= ~(1 << request);
  return true;
}

/** Wakes a blocked vCPU. @upstream kvm_vcpu_wake_up() */
export function kvmVcpuWakeUp(vcpu: KvmVcpu): void {
  vcpu.kvm.host.sched.wake(vcpu.task);
}

/** Wakes the vCPU, or makes it leave guest mode before its next instruction. @upstream kvm_vcpu_kick() */
export function kvmVcpuKick(vcpu: KvmVcpu): void {
  if (vcpu.task.state === 'blocked') kvmVcpuWakeUp(vcpu);
  else if (vcpu.mode === IN_GUEST_MODE && vcpu.cpu !== null) vcpu.kvm.host.cpus.kick(vcpu.cpu);
}

/** Makes a request of every vCPU and kicks those in guest mode. @upstream kvm_make_all_cpus_request() */
export function kvmMakeAllCpusRequest(kvm: Kvm, request: number): void {
  for (const vcpu of kvm.vcpus) {
    kvmMakeRequest(request, vcpu);
    if (vcpu.mode === IN_GUEST_MODE) kvmVcpuKick(vcpu);
  }
}

/** The VM is broken by a bug: nothing more runs in it, the host goes on. @upstream kvm_vm_bugged() */
export function kvmVmBugged(kvm: Kvm, message: string): void {
  if (kvm.vmBugged) return;
  kvm.vmBugged = true;
  kvm.host.log(`kvm: VM bug: ${message}`);
  kvmVmDead(kvm);
}

/** @upstream kvm_vm_dead() */
export function kvmVmDead(kvm: Kvm): void {
  kvm.vmDead = true;
  for (const vcpu of kvm.vcpus) {
    kvmMakeRequest(KVM_REQ_VM_DEAD, vcpu);
    kvmVcpuKick(vcpu);
  }
}
