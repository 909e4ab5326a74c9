/** A guest as its user sees it: what is asked for, how it ends, what it cost. */

import type { EngineStatistics } from '../machine/engine/counters.ts';
import type { GuestEnd } from './guest-end.ts';
import type { BootModule } from './loaders/boot-input.ts';
import type { ConsoleSink } from './serial-console.ts';

/** Everything a guest is made of. */
export interface GuestConfig {
  /** A virtual machine, a Trust Domain, or code that runs on the machine itself; `vm` if not given. */
  readonly type?: 'vm' | 'td' | 'bare';
  /** Empty where firmware starts the guest. */
  readonly kernel: Uint8Array;
  /** Name of the kernel in messages. */
  readonly kernelName: string;
  readonly initrd?: Uint8Array;
  readonly initrdName?: string;
  /** Further modules of a Multiboot image, behind the initrd. */
  readonly modules?: readonly BootModule[];
  readonly commandLine: string;
  /** Bare guests only: what runs from the reset vector on, instead of a kernel. */
  readonly firmware?: Uint8Array;
  readonly firmwareName?: string;
  /** Bare guests only: contents of up to four hard disks; what the guest writes changes them. */
  readonly disks?: readonly Uint8Array[];
  /** Bytes of RAM. */
  readonly memorySize: number;
  readonly cpus: number;
  /** Seed of all chance in the run. */
  readonly seed: number;
  /** `virtual`: idle time costs nothing. `real`: idle time passes as on the wall. */
  readonly clock: 'virtual' | 'real';
  /** What the guest's real-time clock shows at the start, in seconds since 1970. */
  readonly epochSeconds: number;
  /** Start again after a reset instead of ending. */
  readonly reboot: boolean;
}

/** What a run has cost so far. */
export interface GuestStatistics {
  /** Instructions retired by all processors. */
  readonly instructions: number;
  /** Machine time in seconds. */
  readonly virtualSeconds: number;
  /** VM exits by the exit reason's name. */
  readonly exits: Readonly<Record<string, number>>;
  /** What the machine's engine has done for all guests. */
  readonly engine?: EngineStatistics;
  /** Of a TD: what its host saw of TDX. */
  readonly tdx?: TdxStatistics;
}

/** What the TDX module has done. */
export interface TdxStatistics {
  /** Calls of the host for this TD by the leaf's name. */
  readonly seamcalls: Readonly<Record<string, number>>;
  /** Calls of the TD. */
  readonly tdcalls: Readonly<Record<string, number>>;
  /** Measurements of this TD in hexadecimal digits. */
  readonly mrtd: string;
  readonly rtmr: readonly string[];
}

/** A guest that runs. */
export interface GuestRun {
  /** Resolves when the guest is over; rejects only on a defect of softvt itself. */
  readonly done: Promise<GuestEnd>;
  /** Ends the guest from outside. */
  stop(end: GuestEnd): void;
  /** Console input; false: wait for {@link onInputDrained} before giving more. */
  input(bytes: Uint8Array): boolean;
  /** Calls back once when the guest has read all input. */
  onInputDrained(callback: () => void): void;
  /** There will be no more input. */
  endInput(): void;
  statistics(): GuestStatistics;
  /** Hash over guest RAM and vCPU state, in hex; of a TD over counts too. Meaningful when the guest is over. */
  stateHash(): string;
  /** What the host reads in the page behind a guest-physical address; undefined where there is none. */
  hostView(gpa: number): Uint8Array | undefined;
}

/**
 * Makes a guest and starts it.
 *
 * Throws a SoftvtError if the input cannot be a guest.
 */
export type StartGuest = (config: GuestConfig, console: ConsoleSink) => Promise<GuestRun>;

/** Makes several guests on one host, to run side by side. */
export type StartGuests = (
  guests: readonly { readonly config: GuestConfig; readonly sink: ConsoleSink }[],
) => Promise<readonly GuestRun[]>;
