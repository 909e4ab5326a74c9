/** The part of the host and of KVM's API that running a VM takes. */

import type { Clock } from '../devices/clock.ts';
import type { ClockMode, UserMemory } from '../host/index.ts';
import type { Kvm, Vcpu, Vm } from '../kvm/index.ts';
import type { EngineStatistics } from '../machine/engine/counters.ts';
import type { PhysicalMemory } from '../machine/memory.ts';
import { SoftvtError } from '../util/errors.ts';

/** The host as a VMM process sees it. */
export interface VmmHost {
  readonly machine: {
    readonly memory: PhysicalMemory;
    readonly clock: { readonly instructions: number; now(): number };
    /** Not there in tests without a machine. */
    readonly engine?: { statistics(): EngineStatistics };
  };
  /** Clock and alarms for device models. */
  readonly timers: Clock;
  readonly sched: {
    mode: ClockMode;
    /** Nothing but input can wake anything. */
    onStuck: () => void;
    /** Keeps machine time from passing until the result is called. */
    hold(): () => void;
    /** Lets threads that `begin` starts enter in their order before the first one runs. */
    startTogether(begin: () => void): void;
  };
  readonly platform: { turn(done: () => void): void };
}

/** A negative errno where a call failed. */
export type Errno = number;

/** The result of a KVM call that must not fail. Throws ERR_SOFTVT_KVM if it did. */
export function expectOk<T>(call: string, result: T | Errno): T {
  if (typeof result === 'number' && result < 0) {
    throw new SoftvtError('ERR_SOFTVT_KVM', `${call} failed with errno ${-result}`);
  }
  return result as T;
}

/** A vCPU. */
export type VmmVcpu = Pick<
  Vcpu,
  | 'run'
  | 'stop'
  | 'exitCounts'
  | 'kvmRun'
  | 'setCpuid2'
  | 'getRegs'
  | 'setRegs'
  | 'getSregs'
  | 'setSregs'
  | 'getXsave'
  | 'getXcrs'
  | 'getDebugregs'
  | 'getVcpuEvents'
  | 'getMpState'
  | 'getLapic'
  | 'getMsrs'
  | 'memoryEncryptOp'
  | 'preFaultMemory'
>;

/** A VM. */
export interface VmmVm
  extends Pick<
    Vm,
    | 'setTssAddr'
    | 'setIdentityMapAddr'
    | 'setUserMemoryRegion'
    | 'createIrqchip'
    | 'enableCap'
    | 'setGsiRouting'
    | 'createPit2'
    | 'irqLine'
    | 'getIrqchip'
    | 'getPit2'
    | 'createGuestMemfd'
    | 'setUserMemoryRegion2'
    | 'setMemoryAttributes'
    | 'memoryEncryptOp'
    | 'close'
  > {
  readonly mm: UserMemory;
  createVcpu(id: number): VmmVcpu | Errno;
}

/** /dev/kvm. */
export interface VmmKvm extends Pick<Kvm, 'checkExtension' | 'getSupportedCpuid' | 'getMsrIndexList'> {
  createVm(type?: number): VmmVm | Errno;
}

/** General registers, RIP and RFLAGS. */
export type VcpuRegs = Exclude<ReturnType<Vcpu['getRegs']>, Errno>;
/** Segment, control and descriptor table registers. */
export type VcpuSregs = Exclude<ReturnType<Vcpu['getSregs']>, Errno>;
/** A segment register with its hidden part. */
export type VcpuSegment = VcpuSregs['cs'];
/** A CPUID leaf. */
export type CpuidEntry = ReturnType<Kvm['getSupportedCpuid']>[number];
