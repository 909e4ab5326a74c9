/**
 * KVM as user space sees it: `Kvm` opens, `Vm` and `Vcpu` come out of it, each ioctl is a method.
 *
 * A method's result is a value, or a negative errno; nothing throws. Structures are upstream's, with numbers where 32
 * bits or an address suffice and bigints where all 64 bits may matter.
 *
 * @upstream Documentation/virt/kvm/api.rst
 */
import { EBADF, EINVAL, EIO, ENOENT, type Errno } from '../host/errno.ts';
import type { Host } from '../host/host.ts';
import type { UserMemory } from '../host/mm.ts';
import { Vcpu } from './api_vcpu.ts';
import { type KvmIoeventfdArgs, type KvmIrqfdArgs, kvmIoeventfd } from './virt/eventfd.ts';
import { type GuestMemfd, type KvmCreateGuestMemfd, kvmGmemCreate } from './virt/guest_memfd.ts';
import type { KvmIrqRoutingEntry } from './virt/irqchip.ts';
import { type KvmModule, kvmVmDead } from './virt/kvm_host.ts';
import { KVM_DEVICE } from './virt/kvm_main.ts';
import { type KvmMemoryAttributes, kvmVmIoctlSetMemAttributes } from './virt/mem_attributes.ts';
import {
  type KvmUserspaceMemoryRegion,
  type KvmUserspaceMemoryRegion2,
  kvmClearDirtyLog,
  kvmGetDirtyLog,
  kvmSetMemoryRegion,
  kvmSetMemoryRegion2,
} from './virt/memslots.ts';
import { kvmVmIoctlCreateVcpu } from './virt/vcpu.ts';
import { kvmCreateVm, kvmPutKvm } from './virt/vm.ts';
import { type KvmCpuidEntry2, kvmGetSupportedCpuid } from './x86/cpuid.ts';
import { kvmVmIoctlEnableCap } from './x86/enable_cap.ts';
import {
  kvmVmIoctlCreateIrqchip,
  kvmVmIoctlCreatePit2,
  kvmVmIoctlGetIrqchip,
  kvmVmIoctlGetPit2,
  kvmVmIoctlIrqfd,
  kvmVmIoctlIrqLine,
  kvmVmIoctlReinjectControl,
  kvmVmIoctlSetBootCpuId,
  kvmVmIoctlSetIrqchip,
  kvmVmIoctlSetPit2,
} from './x86/irq.ts';
import { type KvmMsi, kvmSetGsiRouting, kvmSignalMsi } from './x86/irq_comm.ts';
import type { X86Vcpu, X86Vm } from './x86/kvm_host.ts';
import { MSRS_TO_SAVE } from './x86/msr.ts';
import { type KvmMsrFilter, kvmVmIoctlSetMsrFilter } from './x86/msr_filter.ts';
import { kvmVmIoctlGetClock, kvmVmIoctlSetClock } from './x86/pvclock.ts';
import { kvmVmIoctlSetTscKhz } from './x86/tsc.ts';
import type { KvmTdxCmd } from './x86/uapi_tdx.ts';

export { Vcpu };

/** KVM_GET_API_VERSION */
export const KVM_API_VERSION = 12;

/** /dev/kvm, open. */
export class Kvm {
  readonly module: KvmModule;

  constructor(module: KvmModule) {
    this.module = module;
  }

  /** Opens /dev/kvm of a host; −ENOENT while KVM is not loaded. */
  static open(host: Host): Kvm | Errno {
    const module = host.misc.open(KVM_DEVICE) as KvmModule | undefined;
    return module === undefined ? -ENOENT : new Kvm(module);
  }

  /** KVM_GET_API_VERSION */
  getApiVersion(): number {
    return KVM_API_VERSION;
  }
  /** KVM_CHECK_EXTENSION: 0, or a positive number that says how much. */
  checkExtension(extension: number): number {
    return this.module.arch.kvmVmIoctlCheckExtension(null, extension);
  }
  /** KVM_GET_SUPPORTED_CPUID */
  getSupportedCpuid(): KvmCpuidEntry2[] {
    return kvmGetSupportedCpuid(this.module.host.cpu.processor);
  }
  /** KVM_GET_MSR_INDEX_LIST: the MSRs that make up a vCPU's state. */
  getMsrIndexList(): readonly number[] {
    return MSRS_TO_SAVE;
  }
  /** KVM_CREATE_VM. The first VM turns virtualization on. */
  createVm(type = 0): Vm | Errno {
    const kvm = kvmCreateVm(this.module, type);
    return typeof kvm === 'number' ? kvm : new Vm(kvm as X86Vm);
  }
}

/** A VM. */
export class Vm {
  readonly kvm: X86Vm;
  #closed = false;

  constructor(kvm: X86Vm) {
    this.kvm = kvm;
  }

  /** The address space that memory regions' `userspaceAddr` is about. */
  get mm(): UserMemory {
    return this.kvm.mm;
  }

  #gone(): Errno {
    if (this.#closed) return -EBADF;
    return this.kvm.vmDead ? -EIO : 0;
  }

  /** Closes the VM with all its vCPUs. The last VM turns virtualization off. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    // A guest_memfd that is still open keeps the VM, which does not run any more, until it is closed.
    kvmVmDead(this.kvm);
    kvmPutKvm(this.kvm);
  }

  /** KVM_CHECK_EXTENSION on a VM. */
  checkExtension(extension: number): number {
    return this.kvm.arch_hooks.kvmVmIoctlCheckExtension(this.kvm, extension);
  }
  /** KVM_ENABLE_CAP on a VM. */
  enableCap(cap: number, args: readonly bigint[] = [], flags = 0): Errno {
    return this.#gone() || (flags !== 0 ? -EINVAL : kvmVmIoctlEnableCap(this.kvm, cap, args));
  }
  /** KVM_SET_TSS_ADDR */
  setTssAddr(address: number): Errno {
    return this.#gone() || this.kvm.ops.setTssAddr(this.kvm, address);
  }
  /** KVM_SET_IDENTITY_MAP_ADDR */
  setIdentityMapAddr(address: number): Errno {
    return this.#gone() || this.kvm.ops.setIdentityMapAddr(this.kvm, address);
  }
  /** KVM_SET_USER_MEMORY_REGION */
  setUserMemoryRegion(region: KvmUserspaceMemoryRegion): Errno {
    return this.#gone() || kvmSetMemoryRegion(this.kvm, region);
  }
  /** KVM_SET_USER_MEMORY_REGION2 */
  setUserMemoryRegion2(region: KvmUserspaceMemoryRegion2): Errno {
    return this.#gone() || kvmSetMemoryRegion2(this.kvm, region);
  }
  /** KVM_CREATE_GUEST_MEMFD. The file keeps the VM until it is closed, too. */
  createGuestMemfd(args: KvmCreateGuestMemfd): GuestMemfd | Errno {
    return this.#gone() || kvmGmemCreate(this.kvm, args);
  }
  /** KVM_SET_MEMORY_ATTRIBUTES */
  setMemoryAttributes(args: KvmMemoryAttributes): Errno {
    return this.#gone() || kvmVmIoctlSetMemAttributes(this.kvm, args);
  }
  /** KVM_MEMORY_ENCRYPT_OP on a VM. */
  memoryEncryptOp(command: KvmTdxCmd): Errno {
    return this.#gone() || this.kvm.ops.memEncIoctl(this.kvm, command);
  }
  /** KVM_GET_TSC_KHZ on a VM: what vCPUs begin with. */
  getTscKhz(): number {
    return this.kvm.arch.defaultTscKhz;
  }
  /** KVM_SET_TSC_KHZ on a VM, before it has vCPUs. */
  setTscKhz(khz: number): Errno {
    return this.#gone() || kvmVmIoctlSetTscKhz(this.kvm, khz);
  }
  /** KVM_GET_DIRTY_LOG: a bit per page, in 32-bit words. */
  getDirtyLog(slot: number): Uint32Array | Errno {
    return this.#gone() || kvmGetDirtyLog(this.kvm, slot);
  }
  /** KVM_CLEAR_DIRTY_LOG */
  clearDirtyLog(slot: number, firstPage: number, numPages: number, bitmap: Uint32Array): Errno {
    return this.#gone() || kvmClearDirtyLog(this.kvm, slot, firstPage, numPages, bitmap);
  }
  /** KVM_SET_BOOT_CPU_ID */
  setBootCpuId(id: number): Errno {
    return this.#gone() || kvmVmIoctlSetBootCpuId(this.kvm, id);
  }
  /** KVM_CREATE_IRQCHIP: PIC, IOAPIC and local APICs in the kernel. */
  createIrqchip(): Errno {
    return this.#gone() || kvmVmIoctlCreateIrqchip(this.kvm);
  }
  /** KVM_CREATE_PIT2 */
  createPit2(config: { flags: number } = { flags: 0 }): Errno {
    return this.#gone() || kvmVmIoctlCreatePit2(this.kvm, config.flags);
  }
  /** KVM_IRQ_LINE; KVM_IRQ_LINE_STATUS's status is the result where it is not negative. */
  irqLine(line: { irq: number; level: number }): number {
    return kvmVmIoctlIrqLine(this.kvm, line.irq, line.level);
  }
  /** KVM_GET_IRQCHIP: the 512 bytes of a chip's state. */
  getIrqchip(chip: number): Uint8Array | Errno {
    return this.#gone() || kvmVmIoctlGetIrqchip(this.kvm, chip);
  }
  /** KVM_SET_IRQCHIP */
  setIrqchip(chip: number, state: Uint8Array): Errno {
    return this.#gone() || kvmVmIoctlSetIrqchip(this.kvm, chip, state);
  }
  /** KVM_GET_PIT2: struct kvm_pit_state2 as bytes. */
  getPit2(): Uint8Array | Errno {
    return this.#gone() || kvmVmIoctlGetPit2(this.kvm);
  }
  /** KVM_SET_PIT2 */
  setPit2(state: Uint8Array): Errno {
    return this.#gone() || kvmVmIoctlSetPit2(this.kvm, state);
  }
  /** KVM_REINJECT_CONTROL */
  reinjectControl(reinject: boolean): Errno {
    return this.#gone() || kvmVmIoctlReinjectControl(this.kvm, reinject);
  }
  /** KVM_SET_GSI_ROUTING */
  setGsiRouting(entries: readonly KvmIrqRoutingEntry[]): Errno {
    return this.#gone() || kvmSetGsiRouting(this.kvm, entries);
  }
  /** KVM_SIGNAL_MSI: how many APICs took it. */
  signalMsi(msi: KvmMsi): number {
    return this.#gone() || kvmSignalMsi(this.kvm, msi);
  }
  /** KVM_IRQFD */
  irqfd(args: KvmIrqfdArgs): Errno {
    return this.#gone() || kvmVmIoctlIrqfd(this.kvm, args);
  }
  /** KVM_IOEVENTFD */
  ioeventfd(args: KvmIoeventfdArgs): Errno {
    return this.#gone() || kvmIoeventfd(this.kvm, args);
  }
  /** KVM_X86_SET_MSR_FILTER */
  setMsrFilter(filter: KvmMsrFilter): Errno {
    return this.#gone() || kvmVmIoctlSetMsrFilter(this.kvm, filter);
  }
  /** KVM_GET_CLOCK */
  getClock(): ReturnType<typeof kvmVmIoctlGetClock> {
    return kvmVmIoctlGetClock(this.kvm);
  }
  /** KVM_SET_CLOCK */
  setClock(clock: bigint): Errno {
    kvmVmIoctlSetClock(this.kvm, clock);
    return 0;
  }
  /** KVM_CREATE_VCPU */
  createVcpu(id: number): Vcpu | Errno {
    const gone = this.#gone();
    if (gone !== 0) return gone;
    const vcpu = kvmVmIoctlCreateVcpu(this.kvm, id);
    return typeof vcpu === 'number' ? vcpu : new Vcpu(vcpu as X86Vcpu);
  }
}
