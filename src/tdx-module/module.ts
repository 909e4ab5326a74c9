/**
 * The TDX module: SEAM firmware between the host and trust domains. Its state, and its one entry point for the host.
 *
 * SEAMCALLs never overlap on one thread; hooks let tests hold any lock and change what the module can do.
 */
import type { Machine } from '../machine/machine.ts';
import type { Processor } from '../machine/processor.ts';
import type { SeamFirmware } from '../machine/seam/seam.ts';
import type { Hpa } from '../util/address.ts';
import { dispatchHostCall } from './dispatch.ts';
import { type LockHook, Locks } from './locks.ts';
import type { Call } from './objects/call.ts';
import { CallCounts } from './objects/call-counts.ts';
import { Kot, type WriteBack } from './objects/kot.ts';
import { Pamt } from './objects/pamt.ts';
import { SystemState } from './objects/system-state.ts';
import type { Tdmr } from './objects/tdmr.ts';
import { Tdr } from './objects/tdr.ts';
import { Tdvps } from './objects/tdvps.ts';
import { Platform } from './platform.ts';

/** Ways in which tests make a module differ. */
export interface ModuleHooks {
  /** Whether somebody else holds a lock. */
  lockHeld?: LockHook;
  /** Status with which a call ends before it is looked at; undefined lets it run. */
  fail?: (call: Call) => bigint | undefined;
  /** Says, instead of the processor's APIC, whether an interrupt is pending that a long leaf makes way for. */
  interruptPending?: (p: Processor) => boolean;
  /** TDX_FEATURES0 bits that the module lacks. */
  missingFeatures?: bigint;
}

export class TdxModule implements SeamFirmware {
  readonly machine: Machine;
  readonly platform: Platform;
  readonly locks: Locks = new Locks();
  readonly hooks: ModuleHooks = {};
  readonly system: SystemState = new SystemState();
  readonly pamt: Pamt;
  /** In ascending order, from TDH.SYS.CONFIG on. */
  readonly tdmrs: Tdmr[] = [];
  /** Empty until TDH.SYS.INIT. */
  kot: Kot = new Kot(0, 0);
  /** Write-backs of caches that were interrupted, by package. */
  readonly writeBacks: Map<number, WriteBack> = new Map();
  /** The HKID of TDRs and PAMT, from TDH.SYS.CONFIG on. */
  globalKeyId = 0;
  /** SEAMCALLs by leaf name. */
  readonly seamcalls: CallCounts = new CallCounts();
  readonly #tdrs: Map<Hpa, Tdr> = new Map();
  readonly #tdvpses: Map<Hpa, Tdvps> = new Map();

  constructor(machine: Machine) {
    this.machine = machine;
    this.platform = new Platform(machine);
    this.pamt = new Pamt(this);
  }

  seamcall(p: Processor): void {
    dispatchHostCall(this, p);
    this.locks.releaseAll();
  }

  /** The TD whose TDR the page is: the PAMT must say that it is one. */
  tdrAt(pa: Hpa): Tdr {
    const tdr = this.#tdrs.get(pa);
    if (tdr === undefined) throw new Error(`no TDR at ${pa.toString(16)}`);
    return tdr;
  }
  /** A new TD, whose TDR's content is already there. */
  addTdr(pa: Hpa): Tdr {
    const tdr = new Tdr(this, pa);
    this.#tdrs.set(pa, tdr);
    return tdr;
  }
  removeTdr(pa: Hpa): void {
    this.#tdrs.delete(pa);
  }
  /** TDs that exist, torn down ones with a TDR included. */
  get tds(): Iterable<Tdr> {
    return this.#tdrs.values();
  }

  /** The virtual processor whose TDVPR the page is: the PAMT must say that it is one. */
  tdvpsAt(pa: Hpa): Tdvps {
    const tdvps = this.#tdvpses.get(pa);
    if (tdvps === undefined) throw new Error(`no TDVPR at ${pa.toString(16)}`);
    return tdvps;
  }
  /** A TD's virtual processors. */
  *tdvpsesOf(tdr: Hpa): Iterable<Tdvps> {
    for (const tdvps of this.#tdvpses.values()) if (tdvps.tdr.pa === tdr) yield tdvps;
  }
  addTdvps(tdr: Tdr, pa: Hpa): Tdvps {
    const tdvps = new Tdvps(tdr, pa);
    this.#tdvpses.set(pa, tdvps);
    return tdvps;
  }
  removeTdvps(pa: Hpa): void {
    this.#tdvpses.delete(pa);
  }
}

/** Loads a TDX module into a machine's SEAM, as its firmware does. */
export function installTdxModule(machine: Machine): TdxModule {
  const module = new TdxModule(machine);
  machine.seam.install(module);
  return module;
}
