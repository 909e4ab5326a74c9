/**
 * A vCPU as user space sees it: each ioctl of its file is a method. Results are as api.ts says.
 *
 * @upstream Documentation/virt/kvm/api.rst
 */
import { EINVAL, EIO, type Errno } from '../host/errno.ts';
import { RUN_BLOCK, RUN_RESCHED } from './virt/arch_hooks.ts';
import { kvmVcpuKick } from './virt/kvm_host.ts';
import type { KvmRun, VcpuExit } from './virt/kvm_run.ts';
import { type KvmPreFaultMemory, kvmVcpuPreFaultMemory } from './virt/pre_fault.ts';
import { kvmVcpuIoctlRun, vcpuLoad } from './virt/vcpu.ts';
import { type KvmCpuidEntry2, kvmVcpuIoctlSetCpuid2 } from './x86/cpuid.ts';
import {
  type KvmFpu,
  kvmVcpuIoctlGetFpu,
  kvmVcpuIoctlGetXsave,
  kvmVcpuIoctlSetFpu,
  kvmVcpuIoctlSetXsave,
} from './x86/fpu.ts';
import { type KvmGuestDebug, kvmArchVcpuIoctlSetGuestDebug } from './x86/guest_debug.ts';
import { kvmInjectNmi } from './x86/inject.ts';
import { lapicInKernel } from './x86/irqchip_mode.ts';
import type { X86Vcpu } from './x86/kvm_host.ts';
import { kvmApicGetState, kvmApicSetState } from './x86/lapic.ts';
import { kvmGetMsr, kvmSetMsr } from './x86/msr.ts';
import { type KvmRegs, type KvmSregs, kvmGetRegs, kvmGetSregs, kvmSetRegs, kvmSetSregs } from './x86/sregs.ts';
import { kvmSetTscKhz } from './x86/tsc.ts';
import type { KvmTdxCmd } from './x86/uapi_tdx.ts';
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

/** An MSR with its value. @upstream struct kvm_msr_entry */
export interface KvmMsrEntry {
  index: number;
  data: bigint;
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
  /** −EINVAL where the registers are the guest's alone. @upstream vcpu->arch.guest_state_protected */
  #hidden(): Errno {
    const { arch, kvm } = this.vcpu;
    return kvm.arch.hasProtectedState && arch.guestStateProtected ? -EINVAL : 0;
  }
  /** The same of x87, SSE and what XSAVE has. @upstream fpstate_is_confidential() */
  #hiddenFpu(): Errno {
    const { arch, kvm } = this.vcpu;
    return kvm.arch.hasProtectedState && arch.guestFpuConfidential ? -EINVAL : 0;
  }
  /** −EINVAL without a local APIC in the kernel, or with one that only the guest sees. */
  #noLapic(): Errno {
    return !lapicInKernel(this.vcpu) || this.vcpu.arch.guestApicProtected ? -EINVAL : 0;
  }
  #dead(): Errno {
    return this.vcpu.kvm.vmDead ? -EIO : 0;
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
  getRegs(): KvmRegs | Errno {
    return this.#hidden() || kvmGetRegs(this.#load());
  }
  /** KVM_SET_REGS */
  setRegs(regs: KvmRegs): Errno {
    return this.#dead() || this.#hidden() || kvmSetRegs(this.#load(), regs);
  }
  /** KVM_GET_SREGS */
  getSregs(): KvmSregs | Errno {
    return this.#hidden() || kvmGetSregs(this.#load());
  }
  /** KVM_SET_SREGS */
  setSregs(sregs: KvmSregs): Errno {
    return this.#dead() || this.#hidden() || kvmSetSregs(this.#load(), sregs);
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
  getFpu(): KvmFpu | Errno {
    return this.#hiddenFpu() || kvmVcpuIoctlGetFpu(this.#load());
  }
  /** KVM_SET_FPU */
  setFpu(fpu: KvmFpu): Errno {
    return this.#dead() || this.#hiddenFpu() || kvmVcpuIoctlSetFpu(this.#load(), fpu);
  }
  /** KVM_GET_XSAVE: 4096 bytes in the standard format. */
  getXsave(): Uint8Array | Errno {
    return this.#hiddenFpu() || kvmVcpuIoctlGetXsave(this.#load());
  }
  /** KVM_SET_XSAVE */
  setXsave(area: Uint8Array): Errno {
    return this.#dead() || this.#hiddenFpu() || kvmVcpuIoctlSetXsave(this.#load(), area);
  }
  /** KVM_GET_XCRS */
  getXcrs(): readonly { xcr: number; value: bigint }[] | Errno {
    return this.#hidden() || kvmVcpuIoctlGetXcrs(this.#load());
  }
  /** KVM_SET_XCRS */
  setXcrs(xcrs: readonly { xcr: number; value: bigint }[]): Errno {
    return this.#dead() || this.#hidden() || kvmVcpuIoctlSetXcrs(this.#load(), xcrs);
  }
  /** KVM_GET_DEBUGREGS */
  getDebugregs(): KvmDebugregs | Errno {
    return this.#hidden() || kvmVcpuIoctlGetDebugregs(this.#load());
  }
  /** KVM_SET_DEBUGREGS */
  setDebugregs(regs: KvmDebugregs): Errno {
    return this.#dead() || this.#hidden() || kvmVcpuIoctlSetDebugregs(this.#load(), regs);
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
    return this.#noLapic() || kvmApicGetState(this.#load());
  }
  /** KVM_SET_LAPIC */
  setLapic(regs: Uint8Array): Errno {
    return this.#noLapic() || kvmApicSetState(this.#load(), regs);
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
    return this.#dead() || this.#hidden() || kvmArchVcpuIoctlSetGuestDebug(this.#load(), debug);
  }
  /** KVM_MEMORY_ENCRYPT_OP on a vCPU. */
  memoryEncryptOp(command: KvmTdxCmd): Errno {
    return this.#dead() || this.vcpu.kvm.ops.vcpuMemEncIoctl(this.#load(), command);
  }
  /** KVM_PRE_FAULT_MEMORY; the range is advanced over what is mapped. */
  preFaultMemory(range: KvmPreFaultMemory): Errno {
    return this.#dead() || kvmVcpuPreFaultMemory(this.#load(), range);
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
