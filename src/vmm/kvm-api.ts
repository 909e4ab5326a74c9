/** The part of the host and of KVM's API that running a VM takes. */

import type { Clock } from '../devices/clock.ts';
import type { ClockMode, UserMemory } from '../host/index.ts';
import type { VcpuExit } from '../kvm/virt/kvm_run.ts';
import type { PhysicalMemory } from '../machine/memory.ts';
import type { CpuidEntry } from './guest-cpuid.ts';
import type { RamSlot } from './vm-memory.ts';

/** The host as a VMM process sees it. */
export interface VmmHost {
  readonly machine: {
    readonly memory: PhysicalMemory;
    readonly clock: { readonly instructions: number; now(): number };
  };
  /** Clock and alarms for device models. */
  readonly timers: Clock;
  readonly sched: {
    mode: ClockMode;
    /** Nothing but input can wake anything. */
    onStuck: () => void;
    /** Keeps machine time from passing until the result is called. */
    hold(): () => void;
  };
  readonly platform: { turn(done: () => void): void };
}

/** A negative errno where a call failed. */
export type Errno = number;

/** General registers, RIP and RFLAGS. @upstream struct kvm_regs */
export interface VcpuRegs {
  rax: bigint;
  rbx: bigint;
  rcx: bigint;
  rdx: bigint;
  rsi: bigint;
  rdi: bigint;
  rsp: bigint;
  rbp: bigint;
  r8: bigint;
  r9: bigint;
  r10: bigint;
  r11: bigint;
  r12: bigint;
  r13: bigint;
  r14: bigint;
  r15: bigint;
  rip: bigint;
  rflags: bigint;
}

/** @upstream struct kvm_segment */
export interface VcpuSegment {
  base: bigint;
  limit: number;
  selector: number;
  type: number;
  present: number;
  dpl: number;
  db: number;
  s: number;
  l: number;
  g: number;
  avl: number;
  unusable: number;
}

/** @upstream struct kvm_sregs */
export interface VcpuSregs {
  cs: VcpuSegment;
  ds: VcpuSegment;
  es: VcpuSegment;
  fs: VcpuSegment;
  gs: VcpuSegment;
  ss: VcpuSegment;
  tr: VcpuSegment;
  ldt: VcpuSegment;
  gdt: { base: bigint; limit: number };
  idt: { base: bigint; limit: number };
  cr0: bigint;
  cr2: bigint;
  cr3: bigint;
  cr4: bigint;
  cr8: bigint;
  efer: bigint;
  apicBase: bigint;
}

/** A vCPU. */
export interface VmmVcpu {
  setCpuid2(entries: readonly CpuidEntry[]): Errno;
  getRegs(): VcpuRegs;
  setRegs(regs: VcpuRegs): Errno;
  getSregs(): VcpuSregs;
  setSregs(sregs: VcpuSregs): Errno;
  /** Runs the guest until user space is wanted. */
  run(): Promise<VcpuExit | Errno>;
  /** Makes {@link run} return −EINTR soon, now and for ever. */
  stop(): void;
  /** Everything that decides how the vCPU goes on, as plain values in a fixed order. */
  state(): unknown;
  /** Exits so far by basic exit reason. */
  readonly exitCounts: ArrayLike<number>;
}

/** A VM. */
export interface VmmVm {
  readonly mm: UserMemory;
  setTssAddr(address: number): Errno;
  setIdentityMapAddr(address: number): Errno;
  setUserMemoryRegion(slot: RamSlot): Errno;
  createIrqchip(): Errno;
  createPit2(): Errno;
  irqLine(irq: number, level: boolean): void;
  createVcpu(id: number): VmmVcpu | Errno;
  /** Destroys the VM with its vCPUs. */
  close(): void;
}

/** /dev/kvm. */
export interface VmmKvm {
  readonly tscDeadline: boolean;
  getSupportedCpuid(): readonly CpuidEntry[];
  createVm(): VmmVm | Errno;
}
