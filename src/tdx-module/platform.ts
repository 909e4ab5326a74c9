/**
 * What the module asks of the processor it runs on: memory by key, MSRs, CPUID, time, entropy, and the convertible memory
 * ranges that firmware gave to TDX.
 */
import { type CpuidResult, cpuid } from '../machine/cpuid/cpuid.ts';
import type { Machine } from '../machine/machine.ts';
import { readMsr } from '../machine/msr/msr.ts';
import type { Processor } from '../machine/processor.ts';
import { readTsc } from '../machine/system/time.ts';
import type { Hpa } from '../util/address.ts';

/** Bits of a physical address, KeyID included. */
export const PHYSICAL_ADDRESS_BITS = 52;
export const PAGE = 4096;

/** IA32_MKTME_KEYID_PARTITIONING: number of shared KeyIDs in 31:0, of private KeyIDs in 63:32. */
const KEYID_PARTITIONING = 0x87;

/** Memory whose every page is its owner key's. Addresses have no KeyID bits. @see DESIGN.md "The machine", keyed memory */
export interface KeyedMemory {
  ownerOf(page: Hpa): number;
  read8(hpa: Hpa, keyId: number): number;
  read16(hpa: Hpa, keyId: number): number;
  read32(hpa: Hpa, keyId: number): number;
  read64(hpa: Hpa, keyId: number): bigint;
  write8(hpa: Hpa, keyId: number, value: number): void;
  write16(hpa: Hpa, keyId: number, value: number): void;
  write32(hpa: Hpa, keyId: number, value: number): void;
  write64(hpa: Hpa, keyId: number, value: bigint): void;
  readBytes(hpa: Hpa, keyId: number, length: number): Uint8Array;
  writeBytes(hpa: Hpa, keyId: number, bytes: Uint8Array): void;
  fill(hpa: Hpa, keyId: number, length: number, value?: number): void;
  /** The page becomes the key's: content zero, poison gone. */
  take(page: Hpa, keyId: number): void;
  poisoned(page: Hpa): boolean;
}

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
    return (this.machine.memory as unknown as { readonly keyed: KeyedMemory }).keyed;
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

  /** Number of the package a logical processor is in. */
  packageOf(_p: Processor): number {
    return 0;
  }
}
