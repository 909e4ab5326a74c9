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
import { RUN_BLOCK, RUN_RESCHED } from './virt/arch_hooks.ts';
import { type KvmIoeventfdArgs, type KvmIrqfdArgs, kvmIoeventfd } from './virt/eventfd.ts';
import type { KvmIrqRoutingEntry } from './virt/irqchip.ts';
import { type KvmModule, kvmVcpuKick, kvmVmDead } from './virt/kvm_host.ts';
import { KVM_DEVICE } from './virt/kvm_main.ts';
import type { KvmRun, VcpuExit } from './virt/kvm_run.ts';
import {
  type KvmUserspaceMemoryRegion,
  kvmClearDirtyLog,
  kvmGetDirtyLog,
  kvmSetMemoryRegion,
} from './virt/memslots.ts';
import { kvmVcpuIoctlRun, kvmVmIoctlCreateVcpu, vcpuLoad } from './virt/vcpu.ts';
import { kvmCreateVm, kvmPutKvm } from './virt/vm.ts';
import { type KvmCpuidEntry2, kvmGetSupportedCpuid, kvmVcpuIoctlSetCpuid2 } from './x86/cpuid.ts';
import { kvmVmIoctlEnableCap } from './x86/enable_cap.ts';
import {
  type KvmFpu,
  kvmVcpuIoctlGetFpu,
  kvmVcpuIoctlGetXsave,
  kvmVcpuIoctlSetFpu,
  kvmVcpuIoctlSetXsave,
} from './x86/fpu.ts';
import { type KvmGuestDebug, kvmArchVcpuIoctlSetGuestDebug } from './x86/guest_debug.ts';
import { kvmInjectNmi } from './x86/inject.ts';
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
import { lapicInKernel } from './x86/irqchip_mode.ts';
import type { X86Vcpu, X86Vm } from './x86/kvm_host.ts';
import { kvmApicGetState, kvmApicSetState } from './x86/lapic.ts';
import { kvmGetMsr, kvmSetMsr, MSRS_TO_SAVE } from './x86/msr.ts';
import { kvmVmIoctlGetClock, kvmVmIoctlSetClock } from './x86/pvclock.ts';
import { type KvmRegs, type KvmSregs, kvmGetRegs, kvmGetSregs, kvmSetRegs, kvmSetSregs } from './x86/sregs.ts';
import { kvmSetTscKhz } from './x86/tsc.ts';
import {
  type KvmDebugregs,
  type KvmVcpuEvents,
  kvmArchVcpuIoctlGetMpstate,
  kvmArchVcpuIoctlSetMpstate,
  kvmArchVcpuIoctlTranslate,
  kvmVcpuIoctlGetDebugregs,
  kvmVcpuIoctlGetVcpuEvents,
  kvmVcpuIoctlGetXcrs,
  kvmVcpuIoctlInterrupt,
  kvmVcpuIoctlSetDebugregs,
  kvmVcpuIoctlSetVcpuEvents,
  kvmVcpuIoctlSetXcrs,
} from './x86/vcpu_state.ts';

/** KVM_GET_API_VERSION */
export const KVM_API_VERSION = 12;
/** An MSR with its value. @upstream struct kvm_msr_entry */
export interface KvmMsrEntry {
  index: number;
  data: bigint;
}

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
    return this.kvm.vmBugged ? -EIO : 0;
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

/** A vCPU, and the thread that runs it. */
export class Vcpu {
  readonly vcpu: X86Vcpu;

  constructor(vcpu: X86Vcpu) {
    this.vcpu = vcpu;
  }

  /** Shared with the kernel: requests to KVM_RUN, and why it returned. */
  get kvmRun(): KvmRun {
    return this.vcpu.run;
  }
  /** Exits so far by basic exit reason. */
  get exitCounts(): ArrayLike<number> {
    return this.vcpu.exitCounts;
  }

  /** What every ioctl begins with: the thread's CPU is current and has the vCPU loaded. */
  #load(): X86Vcpu {
    const { vcpu } = this;
    const { cpus } = vcpu.kvm.host;
    const { task } = vcpu;
    if (!vcpu.kvm.created) throw new Error('the VM of this vCPU is closed');
    if (!task.cpu.online) task.cpu = cpus.online[0]!;
    if (cpus.current !== task.cpu) cpus.setCurrent(task.cpu);
    vcpuLoad(vcpu);
    return vcpu;
  }
  #dead(): Errno {
    const { kvm } = this.vcpu;
    return kvm.vmDead || kvm.vmBugged ? -EIO : 0;
  }

  /** KVM_RUN: runs the guest until user space is wanted, and says why; a negative errno, as −EINTR after a kick. */
  async run(): Promise<VcpuExit | Errno> {
    const { vcpu } = this;
    const { host } = vcpu.kvm;
    const { sched } = host;
    const { task } = vcpu;
    const turn = sched.enter(task);
    if (turn !== null) await turn;
    for (;;) {
      if (!task.cpu.online) task.cpu = host.cpus.online[0]!;
      if (host.cpus.current !== task.cpu) host.cpus.setCurrent(task.cpu);
      const result = kvmVcpuIoctlRun(vcpu);
      if (result === RUN_RESCHED || result === RUN_BLOCK) {
        const wait = result === RUN_BLOCK ? sched.block(task) : sched.yield(task);
        if (wait !== null) await wait;
        continue;
      }
      sched.leave(task);
      return result === 0 ? vcpu.run.exit : result;
    }
  }

  /** Makes {@link run} return −EINTR soon, as a signal to the thread does. */
  kick(): void {
    const { vcpu } = this;
    vcpu.task.signalPending = true;
    kvmVcpuKick(vcpu);
  }
  /** Makes {@link run} return −EINTR soon, and at once whenever it is called again. */
  stop(): void {
    this.kvmRun.immediateExit = true;
    this.kick();
  }

  /** KVM_GET_REGS */
  getRegs(): KvmRegs {
    return kvmGetRegs(this.#load());
  }
  /** KVM_SET_REGS */
  setRegs(regs: KvmRegs): Errno {
    return this.#dead() || kvmSetRegs(this.#load(), regs);
  }
  /** KVM_GET_SREGS */
  getSregs(): KvmSregs {
    return kvmGetSregs(this.#load());
  }
  /** KVM_SET_SREGS */
  setSregs(sregs: KvmSregs): Errno {
    return this.#dead() || kvmSetSregs(this.#load(), sregs);
  }
  /** KVM_GET_CPUID2 */
  getCpuid2(): readonly KvmCpuidEntry2[] {
    return this.vcpu.arch.cpuidEntries;
  }
  /** KVM_SET_CPUID2 */
  setCpuid2(entries: readonly KvmCpuidEntry2[]): Errno {
    return this.#dead() || kvmVcpuIoctlSetCpuid2(this.#load(), entries);
  }
  /** KVM_GET_MSRS: the values up to the first MSR that does not exist. */
  getMsrs(indices: readonly number[]): KvmMsrEntry[] {
    const vcpu = this.#load();
    const entries: KvmMsrEntry[] = [];
    for (const index of indices) {
      const data = kvmGetMsr(vcpu, index);
      if (data === undefined) break;
      entries.push({ index, data });
    }
    return entries;
  }
  /** KVM_SET_MSRS: how many were set before one was refused. */
  setMsrs(entries: readonly KvmMsrEntry[]): number {
    const vcpu = this.#load();
    let count = 0;
    for (const { index, data } of entries) {
      if (!kvmSetMsr(vcpu, index, data, true)) break;
      count++;
    }
    return count;
  }
  /** KVM_GET_FPU */
  getFpu(): KvmFpu {
    return kvmVcpuIoctlGetFpu(this.#load());
  }
  /** KVM_SET_FPU */
  setFpu(fpu: KvmFpu): Errno {
    return this.#dead() || kvmVcpuIoctlSetFpu(this.#load(), fpu);
  }
  /** KVM_GET_XSAVE: 4096 bytes in the standard format. */
  getXsave(): Uint8Array {
    return kvmVcpuIoctlGetXsave(this.#load());
  }
  /** KVM_SET_XSAVE */
  setXsave(area: Uint8Array): Errno {
    return this.#dead() || kvmVcpuIoctlSetXsave(this.#load(), area);
  }
  /** KVM_GET_XCRS */
  getXcrs(): readonly { xcr: number; value: bigint }[] {
    return kvmVcpuIoctlGetXcrs(this.#load());
  }
  /** KVM_SET_XCRS */
  setXcrs(xcrs: readonly { xcr: number; value: bigint }[]): Errno {
    return this.#dead() || kvmVcpuIoctlSetXcrs(this.#load(), xcrs);
  }
  /** KVM_GET_DEBUGREGS */
  getDebugregs(): KvmDebugregs {
    return kvmVcpuIoctlGetDebugregs(this.#load());
  }
  /** KVM_SET_DEBUGREGS */
  setDebugregs(regs: KvmDebugregs): Errno {
    return this.#dead() || kvmVcpuIoctlSetDebugregs(this.#load(), regs);
  }
  /** KVM_GET_VCPU_EVENTS */
  getVcpuEvents(): KvmVcpuEvents {
    return kvmVcpuIoctlGetVcpuEvents(this.#load());
  }
  /** KVM_SET_VCPU_EVENTS */
  setVcpuEvents(events: KvmVcpuEvents): Errno {
    return this.#dead() || kvmVcpuIoctlSetVcpuEvents(this.#load(), events);
  }
  /** KVM_GET_MP_STATE */
  getMpState(): number {
    return kvmArchVcpuIoctlGetMpstate(this.#load());
  }
  /** KVM_SET_MP_STATE */
  setMpState(state: number): Errno {
    return this.#dead() || kvmArchVcpuIoctlSetMpstate(this.#load(), state);
  }
  /** KVM_GET_LAPIC: the first KiB of the register page; −EINVAL without an in-kernel APIC. */
  getLapic(): Uint8Array | Errno {
    return lapicInKernel(this.vcpu) ? kvmApicGetState(this.#load()) : -EINVAL;
  }
  /** KVM_SET_LAPIC */
  setLapic(regs: Uint8Array): Errno {
    return lapicInKernel(this.vcpu) ? kvmApicSetState(this.#load(), regs) : -EINVAL;
  }
  /** KVM_TRANSLATE */
  translate(linearAddress: bigint): ReturnType<typeof kvmArchVcpuIoctlTranslate> {
    return kvmArchVcpuIoctlTranslate(this.#load(), linearAddress);
  }
  /** KVM_INTERRUPT: a vector of user space's interrupt controller. */
  interrupt(irq: number): Errno {
    return this.#dead() || kvmVcpuIoctlInterrupt(this.#load(), irq);
  }
  /** KVM_NMI */
  nmi(): Errno {
    kvmInjectNmi(this.vcpu);
    kvmVcpuKick(this.vcpu);
    return 0;
  }
  /** KVM_SET_GUEST_DEBUG */
  setGuestDebug(debug: KvmGuestDebug): Errno {
    return this.#dead() || kvmArchVcpuIoctlSetGuestDebug(this.#load(), debug);
  }
  /** KVM_GET_TSC_KHZ */
  getTscKhz(): number {
    return this.vcpu.arch.virtualTscKhz;
  }
  /** KVM_SET_TSC_KHZ */
  setTscKhz(khz: number): Errno {
    return this.#dead() || kvmSetTscKhz(this.#load(), khz);
  }
}
