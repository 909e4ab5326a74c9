/**
 * What the module asks of the processor it runs on: memory by key, MSRs, CPUID, time, entropy, and the convertible memory
 * ranges that firmware gave to TDX.
 */
import { type CpuidResult, cpuid } from '../machine/cpuid/cpuid.ts';
import type { KeyedMemory } from '../machine/keyed-memory.ts';
import type { Machine } from '../machine/machine.ts';
import { readMsr } from '../machine/msr/msr.ts';
import type { Processor } from '../machine/processor.ts';
import { readTsc } from '../machine/system/time.ts';
import type { Hpa } from '../util/address.ts';

/** Bits of a physical address, KeyID included. */
export const PHYSICAL_ADDRESS_BITS = 52;
/** Bytes of a page. */
export const PAGE = 4096;

export type { KeyedMemory };

/** IA32_MKTME_KEYID_PARTITIONING: number of shared KeyIDs in 31:0, of private KeyIDs in 63:32. */
const KEYID_PARTITIONING = 0x87;

/** A convertible memory range: bytes, 4 KiB aligned. @tdx "Physical Memory Management", Convertible Memory Ranges */
export interface Cmr {
  readonly base: Hpa;
  readonly size: number;
}

export class Platform {
  readonly machine: Machine;
  /** In ascending order. All of RAM: SEAMRR lies outside. */
  readonly cmrs: readonly Cmr[];

  constructor(machine: Machine) {
    this.machine = machine;
    this.cmrs = [{ base: 0, size: machine.memory.ramSize }];
  }

  get keyed(): KeyedMemory {
    return this.machine.memory.keyed;
  }

  /** Shared and private KeyIDs that firmware activated, KeyID 0 not counted. */
  keyIds(p: Processor): { readonly shared: number; readonly private: number } {
    const value = this.msr(p, KEYID_PARTITIONING);
    return { shared: Number(value & 0xffff_ffffn), private: Number(value >> 32n) };
  }

  /** An MSR's value; 0 if the processor lacks it. */
  msr(p: Processor, index: number): bigint {
    return readMsr(p, index) ?? 0n;
  }

  cpuid(p: Processor, leaf: number, subleaf: number): CpuidResult {
    return cpuid(p, leaf, subleaf);
  }

  /** The processor's own TSC. */
  tsc(p: Processor): bigint {
    return readTsc(p);
  }

  random64(): bigint {
    return this.machine.random.u64();
  }

  /** Packages of the platform: their keys are configured one by one. */
  get packages(): number {
    return 1;
  }

  /** One bit for each package. */
  get allPackages(): bigint {
    return (1n << BigInt(this.packages)) - 1n;
  }

  /** Number of the package a logical processor is in. */
  packageOf(_p: Processor): number {
    return 0;
  }
}
