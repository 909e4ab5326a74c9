import { describe, expect, test } from 'vitest';
import { withKeyId } from '../../machine/seam/key-id.ts';
import { SEAMRR_BASE } from '../../machine/seam/seam.ts';
import { OP_STATE, type Tdcs } from '../objects/tdcs.ts';
import { BUFFER, MIB, OUTSIDE, TestHost } from '../testing/test-host.ts';
import { CPUID_ROWS } from '../virtualization/cpuid-rows.ts';
import { CPUID_CONFIG_LEAVES } from '../virtualization/cpuid-table.ts';

const ADDCX = 1;
const KEY_CONFIG = 8;
const CREATE = 9;
const INIT = 21;
const HKID = 33;

/** A TD with all pages of its TDCS. */
function allocated(): { host: TestHost; tdr: number; tdcs: Tdcs } {
  const host = new TestHost().ready();
  const tdr = host.page();
  host.expect(CREATE, { rcx: tdr, rdx: HKID });
  host.expect(KEY_CONFIG, { rcx: tdr });
  for (let i = 0; i < 6; i++) host.expect(ADDCX, { rcx: host.page(), rdx: tdr });
  return { host, tdr, tdcs: host.module.tdrAt(tdr).tdcs };
}

describe('TDH.MNG.INIT', () => {
  test('fills the TDCS from TD_PARAMS', () => {
    const { host, tdr, tdcs } = allocated();
    host.tdParams(BUFFER, { 80: 0x1111, 128: 0x2222, 176: 0x3333 });
    expect(host.call(INIT, { rcx: tdr, rdx: BUFFER })).toMatchObject({ name: 'TDX_SUCCESS', rcx: 0n });
    expect(tdcs.opState).toBe(OP_STATE.INITIALIZED);
    expect(tdcs.get('ATTRIBUTES')).toBe(1n << 28n);
    expect(tdcs.get('XFAM')).toBe(3n);
    expect(tdcs.num('MAX_VCPUS')).toBe(4);
    expect(tdcs.gpaw).toBe(48);
    expect(tdcs.get('EPTP')).toBe(BigInt(withKeyId(tdcs.pages[3]!, HKID)) | 0x1en);
    expect(tdcs.rootLevel).toBe(3);
    expect(tdcs.get('CONFIG_FLAGS')).toBe(4n);
    expect(tdcs.get('TD_CTLS')).toBe(1n);
    expect(tdcs.get('TD_EPOCH')).toBe(1n);
    expect(tdcs.num('TSC_FREQUENCY')).toBe(40);
    expect([tdcs.get('MRCONFIGID'), tdcs.get('MROWNER'), tdcs.get('MROWNERCONFIG')]).toEqual([
      0x1111n,
      0x2222n,
      0x3333n,
    ]);
    expect(tdcs.get('RTMR', 0)).toBe(0n);
    expect(tdcs.measurement).not.toBeNull();
    const bitmap = host.memory.keyed.readBytes(tdcs.pages[2]!, HKID, 4096);
    expect(bitmap.some((byte) => byte !== 0xff)).toBe(true);
  });

  test('a TSC of 1 GHz counts as the processor does, from 0 now', () => {
    const { host, tdr, tdcs } = allocated();
    host.machine.clock.skipTo(1_000_000);
    host.tdParams(BUFFER);
    host.expect(INIT, { rcx: tdr, rdx: BUFFER });
    expect(tdcs.get('TSC_MULTIPLIER')).toBe(1n << 48n);
    expect(BigInt.asIntN(64, tdcs.get('TSC_OFFSET'))).toBe(-1_000_000n);
  });

  test('a TSC of 100 MHz counts a tenth', () => {
    const { host, tdr, tdcs } = allocated();
    host.machine.clock.skipTo(1_000_000);
    host.tdParams(BUFFER, { 40: 4 });
    host.expect(INIT, { rcx: tdr, rdx: BUFFER });
    const virtual = ((1_000_000n * tdcs.get('TSC_MULTIPLIER')) >> 48n) + BigInt.asIntN(64, tdcs.get('TSC_OFFSET'));
    expect(virtual).toBe(0n);
    expect(tdcs.get('TSC_MULTIPLIER')).toBe((1n << 48n) / 10n);
  });

  test('CPUID is computed for every row of the table', () => {
    const { host, tdr, tdcs } = allocated();
    host.tdParams(BUFFER);
    host.expect(INIT, { rcx: tdr, rdx: BUFFER });
    const row = CPUID_ROWS.find(({ leaf }) => leaf === 0x21)!;
    expect(tdcs.get('CPUID_VALUES', row.index * 2)).toBe(0x6574_6e49_0000_0000n);
    expect(tdcs.get('CPUID_VALUES', row.index * 2 + 1)).toBe(0x5844_546c_2020_2020n);
    for (const { index, kind } of CPUID_ROWS) expect(tdcs.num('CPUID_VALID', index)).toBe(kind === 've' ? 0 : 1);
  });

  test('what TD_PARAMS may not say', () => {
    const { host, tdr, tdcs } = allocated();
    const say = (words: Record<number, number | bigint>): string => {
      host.tdParams(BUFFER, words);
      const { name } = host.call(INIT, { rcx: tdr, rdx: BUFFER });
      expect(tdcs.opState).toBe(OP_STATE.UNINITIALIZED);
      return name;
    };
    for (const bit of [1, 4, 27, 29, 31, 63]) expect(say({ 0: 1n << BigInt(bit) })).toBe('TDX_OPERAND_INVALID 0x40');
    for (const xfam of [1, 2, 0xb, 5, 0xe7]) expect(say({ 8: xfam })).toBe('TDX_OPERAND_INVALID 0x41');
    for (const vcpus of [0, 577]) expect(say({ 16: vcpus })).toBe('TDX_OPERAND_INVALID 0x44');
    expect(say({ 16: 4 | (1 << 16) })).toBe('TDX_OPERAND_INVALID 0x47');
    expect(say({ 16: 4n | (1n << 32n) })).toBe('TDX_OPERAND_INVALID 0x2');
    for (const bit of [3, 5, 63]) expect(say({ 32: 1n << BigInt(bit) })).toBe('TDX_OPERAND_INVALID 0x42');
    for (const eptp of [0, 0x18, 0x16, 0x26, 0x5e, 0x101e]) expect(say({ 24: eptp })).toBe('TDX_OPERAND_INVALID 0x43');
    // 52-bit guest-physical addresses need five levels.
    expect(say({ 32: 1 })).toBe('TDX_OPERAND_INVALID 0x43');
    for (const frequency of [0, 3, 401]) expect(say({ 40: frequency })).toBe('TDX_OPERAND_INVALID 0x46');
    expect(say({ 40: 40n | (1n << 16n) })).toBe('TDX_OPERAND_INVALID 0x2');
    expect(say({ 72: 1 })).toBe('TDX_OPERAND_INVALID 0x2');
    expect(say({ 16: 4n | (2n << 24n) })).toBe('TDX_OPERAND_INVALID 0x2');
    expect(say({ 232: 1 })).toBe('TDX_OPERAND_INVALID 0x2');
    expect(say({ 1016: 1 })).toBe('TDX_OPERAND_INVALID 0x2');
    expect(say({ 16: 4n | (1n << 24n), 224: 1 })).toBe('TDX_OPERAND_INVALID 0x48');
    expect(say({ 224: 1n << 4n })).toBe('TDX_OPERAND_INVALID 0x48');
  });

  test('IA32_ARCH_CAPABILITIES has the bits that the host chose, where it says that it does', () => {
    const { host, tdr, tdcs } = allocated();
    host.tdParams(BUFFER, { 16: 4n | (1n << 24n), 224: (1n << 4n) | (1n << 19n) });
    host.expect(INIT, { rcx: tdr, rdx: BUFFER });
    const value = tdcs.get('VIRTUAL_IA32_ARCH_CAPABILITIES');
    expect([value & (1n << 19n), value & (1n << 20n), value & (1n << 62n)]).toEqual([1n << 19n, 0n, 0n]);
  });

  test('a topology that is not well formed has its own status', () => {
    const { host, tdr } = allocated();
    const at = CPUID_CONFIG_LEAVES.findIndex(({ leaf }) => leaf === 0x1f);
    host.tdParams(BUFFER, { [256 + 16 * at + 8]: 0x100 });
    const refused = { name: 'TDX_CPUID_LEAF_1F_FORMAT_UNRECOGNIZED', rcx: 0n };
    expect(host.call(INIT, { rcx: tdr, rdx: BUFFER })).toMatchObject(refused);
  });

  test('XBUFF ends with the last component of XFAM', () => {
    for (const [xfam, size] of [
      [3, 576],
      [7, 832],
    ]) {
      const { host, tdr, tdcs } = allocated();
      host.tdParams(BUFFER, { 8: xfam! });
      host.expect(INIT, { rcx: tdr, rdx: BUFFER });
      expect([tdcs.num('XBUFF_SIZE'), tdcs.num('VIRT_MAXPA')]).toEqual([size, 52]);
    }
  });

  test('a CPUID bit that cannot be configured: the leaf is named', () => {
    const { host, tdr } = allocated();
    const at = CPUID_CONFIG_LEAVES.findIndex(({ leaf, subleaf }) => leaf === 7 && subleaf === 0);
    host.tdParams(BUFFER, { [256 + 16 * at]: 0xffff_ffff });
    expect(host.call(INIT, { rcx: tdr, rdx: BUFFER })).toMatchObject({ name: 'TDX_OPERAND_INVALID 0x45', rcx: 7n });
  });

  test('errors before TD_PARAMS, in order', () => {
    const { host, tdr } = allocated();
    const p = host.machine.processors[0]!;
    p.msrs.set(0x1a0, 1n << 22n);
    expect(host.status(INIT, { rcx: 1, rdx: 1 })).toBe('TDX_LIMIT_CPUID_MAXVAL_SET');
    p.msrs.delete(0x1a0);
    expect(host.status(INIT, { rcx: 1, rdx: 1 })).toBe('TDX_OPERAND_INVALID 0x1');
    expect(host.status(INIT, { rcx: OUTSIDE, rdx: 1 })).toBe('TDX_OPERAND_ADDR_RANGE_ERROR 0x1');
    expect(host.status(INIT, { rcx: 8 * MIB, rdx: 1 })).toBe('TDX_PAGE_METADATA_INCORRECT 0x1');
    host.module.hooks.lockHeld = (kind, id) => kind === 'pamt4k' && id === tdr;
    expect(host.status(INIT, { rcx: tdr, rdx: 1 })).toBe('TDX_OPERAND_BUSY 0x1');
    delete host.module.hooks.lockHeld;
    const td = host.module.tdrAt(tdr);
    td.setFatal();
    expect(host.status(INIT, { rcx: tdr, rdx: 1 })).toBe('TDX_TD_FATAL');
    td.set('FATAL', 0);
    td.set('LIFECYCLE_STATE', 0);
    expect(host.status(INIT, { rcx: tdr, rdx: 1 })).toBe('TDX_TD_KEYS_NOT_CONFIGURED');
    td.set('LIFECYCLE_STATE', 1);
    td.set('NUM_TDCX', 5);
    expect(host.status(INIT, { rcx: tdr, rdx: 1 })).toBe('TDX_TDCS_NOT_ALLOCATED');
    td.set('NUM_TDCX', 6);
    for (const rdx of [BUFFER + 512, withKeyId(BUFFER, 40), 1n << 52n, SEAMRR_BASE])
      expect(host.status(INIT, { rcx: tdr, rdx })).toBe('TDX_OPERAND_INVALID 0x2');
    host.tdParams(BUFFER);
    p.msrs.set(0x3b, 1n);
    expect(host.status(INIT, { rcx: tdr, rdx: BUFFER })).toBe('TDX_INCONSISTENT_MSR 0x3b');
    p.msrs.delete(0x3b);
    host.expect(INIT, { rcx: tdr, rdx: BUFFER });
    expect(host.status(INIT, { rcx: tdr, rdx: BUFFER })).toBe('TDX_OP_STATE_INCORRECT');
  });

  test('TD_PARAMS in private memory read as zeros', () => {
    const { host, tdr, tdcs } = allocated();
    expect(host.status(INIT, { rcx: tdr, rdx: tdcs.pages[4]! })).toBe('TDX_OPERAND_INVALID 0x41');
  });
});
