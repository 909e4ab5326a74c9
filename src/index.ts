/**
 * softvt as a library: the composition root, and what others build on.
 *
 * {@link createHost} gives an emulated machine whose host kernel has KVM loaded; {@link startGuest} runs a kernel on one.
 */

import { Host } from './host/index.ts';
import { defaultPlatform } from './host/platform.ts';
import { Kvm, Vm, vtInit } from './kvm/index.ts';
import { tdxState } from './kvm/x86/vmx/tdx.ts';
import { toKvmTdx } from './kvm/x86/vmx/tdx_types.ts';
import { Machine } from './machine/machine.ts';
import { vcpuStates } from './tdx-module/inspect.ts';
import { installTdxModule, type TdxModule } from './tdx-module/module.ts';
import { PAGE_SIZE } from './util/address.ts';
import { hexOf } from './util/bytes.ts';
import { SoftvtError } from './util/errors.ts';
import { BareRunner } from './vmm/bare/bare-runner.ts';
import type { GuestConfig, GuestRun, StartGuest, StartGuests, TdxStatistics } from './vmm/guest-run.ts';
import { type GuestHost, GuestRunner } from './vmm/guest-runner.ts';
import type { VmmVm } from './vmm/kvm-api.ts';
import type { ConsoleSink } from './vmm/serial-console.ts';

export type { Errno } from './host/errno.ts';
export { Host } from './host/index.ts';
export { Kvm, Vcpu, type VcpuExit, Vm } from './kvm/index.ts';
export { Machine } from './machine/machine.ts';
export { REPORT_OFFSET, verifyReport } from './tdx-module/report/tdreport.ts';
export { SoftvtError } from './util/errors.ts';
export { describeEnd, exitCode, type GuestEnd } from './vmm/guest-end.ts';
export type { ConsoleSink, GuestConfig, GuestRun, StartGuest, StartGuests };

const MIB = 2 ** 20;
/** What the host itself needs beside guests' memory: page tables, VMCSs, its own pages. */
const HOST_MEMORY: number = 32 * MIB;
/** What a TDX module needs in addition: its metadata of all memory, and secure page tables. */
const TDX_MEMORY: number = 32 * MIB;
const MOST_PROCESSORS = 64;

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

/** What {@link createHost} gives. */
export interface CreatedHost {
  readonly host: Host;
  readonly kvm: Kvm;
  /** The machine's TDX module, if firmware has loaded one. */
  readonly module: TdxModule | undefined;
}

/** An emulated machine with a host kernel on it and KVM loaded. Throws ERR_SOFTVT_KVM if KVM does not load. */
export function createHost(options: HostOptions = {}): CreatedHost {
  const { processors = 1, guestMemory = 64 * MIB, seed = 0, epochSeconds = 0, tdx = 'module', log } = options;
  const hostMemory = HOST_MEMORY + (tdx === 'module' ? TDX_MEMORY : 0);
  const machine = new Machine({ processors, ramSize: guestMemory + hostMemory, profile: 'tdx-host', seed });
  const module = tdx === 'module' ? installTdxModule(machine) : undefined;
  const host = new Host(machine);
  host.epochNs = BigInt(epochSeconds) * 1_000_000_000n;
  if (log !== undefined) host.log = log;
  const loaded = vtInit(host);
  const kvm = typeof loaded === 'number' ? loaded : Kvm.open(host);
  if (typeof kvm === 'number') throw new SoftvtError('ERR_SOFTVT_KVM', `KVM does not load: errno ${-kvm}`);
  return { host, kvm, module };
}

const tdrOf = (vm: VmmVm): number | null => (vm instanceof Vm ? toKvmTdx(vm.kvm).tdr : null);

function tdVcpus(module: TdxModule, vm: VmmVm): unknown[] {
  const tdr = tdrOf(vm);
  return tdr === null ? [] : vcpuStates(module, tdr);
}

const RTMRS = [0, 1, 2, 3] as const;

/** What the module knows of a TD. KVM cannot see it; whoever emulates the module can. */
function inspectTd(module: TdxModule, vm: VmmVm): TdxStatistics | undefined {
  const tdr = tdrOf(vm);
  if (tdr === null) return undefined;
  const { tdcs, seamcalls, tdcalls } = module.tdrAt(tdr);
  return {
    seamcalls: Object.fromEntries(seamcalls),
    tdcalls: Object.fromEntries(tdcalls),
    mrtd: hexOf(tdcs.bytes('MRTD')),
    rtmr: RTMRS.map((index) => hexOf(tdcs.bytes('RTMR', index))),
  };
}

/** A host for these guests; it brings up TDX only if one of them is a TD. */
function hostFor(configs: readonly GuestConfig[]): GuestHost {
  const sum = (of: (config: GuestConfig) => number): number => configs.reduce((total, config) => total + of(config), 0);
  const [first] = configs;
  const { host, kvm, module } = createHost({
    processors: Math.min(
      sum(({ cpus }) => cpus),
      MOST_PROCESSORS,
    ),
    guestMemory: sum(({ memorySize }) => memorySize),
    seed: first?.seed ?? 0,
    epochSeconds: first?.epochSeconds ?? 0,
    tdx: configs.some(({ type }) => type === 'td') ? 'module' : 'none',
  });
  const { keyed } = host.machine.memory;
  const ownersView = (page: number): Uint8Array => keyed.readBytes(page, keyed.ownerOf(page), PAGE_SIZE);
  const common = { host, kvm, noTdx: tdxState(host).reason };
  if (module === undefined) return common;
  return {
    ...common,
    inspectTd: (vm) => inspectTd(module, vm),
    ownersView: { page: ownersView, vcpus: (vm) => tdVcpus(module, vm) },
  };
}

/** Starts a guest on a machine with KVM, or on a machine of its own if it is to run bare. Throws a SoftvtError if the input cannot be a guest. */
export const startGuest: StartGuest = async (config: GuestConfig, sink: ConsoleSink): Promise<GuestRun> =>
  config.type === 'bare'
    ? new BareRunner(defaultPlatform, config, sink)
    : new GuestRunner(hostFor([config]), config, sink);

/** Makes one machine with KVM and starts all guests on it, side by side. Throws a SoftvtError if one cannot be a guest. */
export const startGuests: StartGuests = async (
  guests: readonly { readonly config: GuestConfig; readonly sink: ConsoleSink }[],
): Promise<readonly GuestRun[]> => {
  const host = hostFor(guests.map(({ config }) => config));
  return guests.map(({ config, sink }) => new GuestRunner(host, config, sink));
};
