/**
 * softvt as a library: the composition root, and what others build on.
 *
 * {@link createHost} gives an emulated machine whose host kernel has KVM loaded; {@link startGuest} runs a kernel on one.
 */

import { Host } from './host/index.ts';
import { Kvm, vtInit } from './kvm/index.ts';
import { Machine } from './machine/machine.ts';
import { installTdxModule } from './tdx-module/module.ts';
import { SoftvtError } from './util/errors.ts';
import type { GuestConfig, GuestRun, StartGuest } from './vmm/guest-run.ts';
import { GuestRunner } from './vmm/guest-runner.ts';
import type { ConsoleSink } from './vmm/serial-console.ts';

export type { Errno } from './host/errno.ts';
export { Host } from './host/index.ts';
export { Kvm, Vcpu, type VcpuExit, Vm } from './kvm/index.ts';
export { Machine } from './machine/machine.ts';
export { SoftvtError } from './util/errors.ts';
export { describeEnd, exitCode, type GuestEnd } from './vmm/guest-end.ts';
export type { ConsoleSink, GuestConfig, GuestRun, StartGuest };

const MIB = 2 ** 20;
/** What the host itself needs beside guests' memory: page tables, VMCSs, its own pages. */
const HOST_MEMORY: number = 32 * MIB;

/** What {@link createHost} builds. */
export interface HostOptions {
  /** Logical processors of the machine; 1 if not given. */
  readonly processors?: number;
  /** Bytes of memory for guests; 64 MiB if not given. */
  readonly guestMemory?: number;
  /** Seed of all chance. */
  readonly seed?: number;
  /** Wall time at the machine's start, in seconds since 1970. */
  readonly epochSeconds?: number;
  /** Whether firmware has loaded a TDX module, so that trust domains can run; `module` if not given. */
  readonly tdx?: 'module' | 'none';
  /** Receives what the host kernel logs. */
  readonly log?: (message: string) => void;
}

/** An emulated machine with a host kernel on it and KVM loaded. Throws ERR_SOFTVT_KVM if KVM does not load. */
export function createHost(options: HostOptions = {}): { readonly host: Host; readonly kvm: Kvm } {
  const { processors = 1, guestMemory = 64 * MIB, seed = 0, epochSeconds = 0, tdx = 'module', log } = options;
  const machine = new Machine({ processors, ramSize: guestMemory + HOST_MEMORY, profile: 'tdx-host', seed });
  if (tdx === 'module') installTdxModule(machine);
  const host = new Host(machine);
  host.epochNs = BigInt(epochSeconds) * 1_000_000_000n;
  if (log !== undefined) host.log = log;
  const loaded = vtInit(host);
  const kvm = typeof loaded === 'number' ? loaded : Kvm.open(host);
  if (typeof kvm === 'number') throw new SoftvtError('ERR_SOFTVT_KVM', `KVM does not load: errno ${-kvm}`);
  return { host, kvm };
}

/** Makes a machine with KVM and starts a guest on it. Throws a SoftvtError if the input cannot be a guest. */
export const startGuest: StartGuest = async (config: GuestConfig, sink: ConsoleSink): Promise<GuestRun> => {
  const { cpus, memorySize, seed, epochSeconds } = config;
  const { host, kvm } = createHost({ processors: cpus, guestMemory: memorySize, seed, epochSeconds });
  return new GuestRunner({ host, kvm }, config, sink);
};
