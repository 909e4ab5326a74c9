/** TDMRs that would give the module wrong ideas of memory. */
import { BUFFER, MIB, PAMT, TestHost } from '../../src/tdx-module/testing/test-host.ts';
import type { Attack, Family } from './lab.ts';

const GIB = 1024 * MIB;
const SYS_CONFIG = 45;
const HKID = 32;
const INFO = BUFFER + 512;
/** Offsets in TDMR_INFO: base, size, three PAMTs, reserved areas. */
const AT = { base: 0, size: 8, pamt1g: 16, pamt2m: 32, pamt4k: 48, pamt4kSize: 56, reserved: 64 } as const;

type Words = Partial<Record<number, number>>;

/** TDH.SYS.CONFIG with one change of what is right. */
const config = (
  name: string,
  must: string,
  words: Words,
  operands: { rdx?: number; r8?: number; rcx?: number } = {},
): Attack => ({
  name,
  must,
  run() {
    const host = new TestHost(1).initialize();
    host.tdmrInfo(INFO, words);
    host.tdmrInfo(INFO + 512);
    host.memory.write64(BUFFER, BigInt(INFO));
    host.memory.write64(BUFFER + 8, BigInt(INFO + 512));
    return host.status(SYS_CONFIG, { rcx: BUFFER, rdx: 1, r8: HKID, ...operands });
  },
});

export const memoryMap: Family = {
  name: 'malformed TDMRs',
  attacks: [
    config('a base that is no multiple of 1 GiB', 'TDX_INVALID_TDMR', { [AT.base]: 4096 }),
    config('a size of nothing', 'TDX_INVALID_TDMR', { [AT.size]: 0 }),
    config('a size that is no multiple of 1 GiB', 'TDX_INVALID_TDMR', { [AT.size]: GIB + 4096 }),
    config('memory that is none', 'TDX_TDMR_OUTSIDE_CMRS', { [AT.reserved + 32]: 0, [AT.reserved + 40]: 0 }),
    config('two that overlap', 'TDX_NON_ORDERED_TDMR 0x1', {}, { rdx: 2 }),
    config('reserved areas in the wrong order', 'TDX_NON_ORDERED_RESERVED_IN_TDMR 0x100', { [AT.reserved]: 24 * MIB }),
    config('a reserved area beyond the end', 'TDX_INVALID_RESERVED_IN_TDMR 0x200', { [AT.reserved + 40]: 2 * GIB }),
    config('a PAMT that is not aligned', 'TDX_INVALID_PAMT', { [AT.pamt4k]: PAMT + 8 }),
    config('a PAMT that is too small', 'TDX_INVALID_PAMT', { [AT.pamt4kSize]: MIB }),
    config('a PAMT where there is no memory', 'TDX_PAMT_OUTSIDE_CMRS', { [AT.pamt4k]: 64 * GIB }),
    config('a PAMT in memory for TDs', 'TDX_PAMT_OVERLAP', { [AT.pamt4k]: 8 * MIB }),
    config('two PAMTs in one place', 'TDX_PAMT_OVERLAP', { [AT.pamt2m]: PAMT }),
    config('no TDMR', 'TDX_OPERAND_INVALID 0x2', {}, { rdx: 0 }),
    config('too many TDMRs', 'TDX_OPERAND_INVALID 0x2', {}, { rdx: 65 }),
    config('a list that is not aligned', 'TDX_OPERAND_INVALID 0x1', {}, { rcx: BUFFER + 8 }),
    config('a global KeyID that is a shared one', 'TDX_OPERAND_INVALID 0x8', {}, { r8: 31 }),
  ],
};
