/** MSRs of memory encryption, SEAM and SMM ranges: set up and locked by firmware, read-only since. */
import type { Processor } from '../processor.ts';
import { KEY_IDS, KEYID_BITS } from '../seam/key-id.ts';
import { SEAMRR_BASE, SEAMRR_SIZE } from '../seam/seam.ts';
import { constant, type MsrRow } from './row.ts';

export const IA32_MKTME_KEYID_PARTITIONING = 0x87;
export const IA32_TME_CAPABILITY = 0x981;
export const IA32_TME_ACTIVATE = 0x982;

const ADDRESS_BITS = 52n;
/** The mask register of a range of 2^n bytes, without its control bits. */
const maskOf = (size: number): bigint => (1n << ADDRESS_BITS) - BigInt(size);

/** 31:0 shared KeyIDs beside 0, 63:32 private ones. */
const partitioning = (p: Processor): bigint =>
  (BigInt(p.machine.seam.privateKeyIds) << 32n) | BigInt(p.machine.seam.mktmeKeyIds);

/** AES-XTS 128 (bit 0), AES-XTS 128 with integrity (1), KeyID bits in 35:32, keys in 50:36. */
const TME_CAPABILITY = 3n | (BigInt(KEYID_BITS) << 32n) | (BigInt(KEY_IDS - 1) << 36n);
/** Lock (0), enable (1), KeyID bits in 35:32, of them for TDX in 39:36, algorithms with shared KeyIDs in 63:48. */
const TME_ACTIVATE = 3n | (BigInt(KEYID_BITS) << 32n) | (1n << 36n) | (3n << 48n);

const CONFIGURED = 1n << 3n;
const LOCKED = 1n << 10n;
const ENABLED = 1n << 11n;

/** SMRAM as firmware sets it up: a MiB below 4 GiB where no RAM of a host lies. */
const SMRR_BASE = 0xf000_0000n;
const SMRR_MASK = 0xfff0_0000n;
const WRITE_BACK = 6n;

/** A read-only MSR of processors with SEAM. */
const ofSeam = (index: number, name: string, value: (p: Processor) => bigint): MsrRow => ({
  ...constant(index, name, 0n),
  read: (p) => (p.machine.seam.enabled ? value(p) : undefined),
});

/** @tdx "Enumeration and Configuration" (MSRs); @sdm "SMRR" and "Memory Encryption" */
export const SEAM_MSRS: readonly MsrRow[] = [
  ofSeam(IA32_MKTME_KEYID_PARTITIONING, 'IA32_MKTME_KEYID_PARTITIONING', partitioning),
  ofSeam(0x1f2, 'IA32_SMRR_PHYSBASE', () => SMRR_BASE | WRITE_BACK),
  ofSeam(0x1f3, 'IA32_SMRR_PHYSMASK', () => SMRR_MASK | LOCKED | ENABLED),
  ofSeam(IA32_TME_CAPABILITY, 'IA32_TME_CAPABILITY', () => TME_CAPABILITY),
  ofSeam(IA32_TME_ACTIVATE, 'IA32_TME_ACTIVATE', () => TME_ACTIVATE),
  ofSeam(0x983, 'IA32_TME_EXCLUDE_MASK', () => 0n),
  ofSeam(0x984, 'IA32_TME_EXCLUDE_BASE', () => 0n),
  ofSeam(0x1400, 'IA32_SEAMRR_PHYS_BASE', () => BigInt(SEAMRR_BASE) | CONFIGURED),
  ofSeam(0x1401, 'IA32_SEAMRR_PHYS_MASK', () => maskOf(SEAMRR_SIZE) | LOCKED | ENABLED),
];
