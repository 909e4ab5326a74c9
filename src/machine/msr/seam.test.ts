import { describe, expect, test } from 'vitest';
import { cpuid, hasFeature } from '../cpuid/cpuid.ts';
import { Machine } from '../machine.ts';
import type { Processor } from '../processor.ts';
import type { ProfileName } from '../profiles.ts';
import { readMsr, writeMsr } from './msr.ts';

const SEAM_MSRS = [0x87, 0x1f2, 0x1f3, 0x981, 0x982, 0x983, 0x984, 0x1400, 0x1401];
const RAM = 64 << 20;

function processor(profile: ProfileName, privateKeyIds?: number): Processor {
  const tdx = privateKeyIds === undefined ? {} : { tdx: { privateKeyIds } };
  return new Machine({ processors: 4, ramSize: RAM, profile, ...tdx }).processors[0]!;
}
const read = (p: Processor, index: number): bigint => readMsr(p, index)!;

/** Base and size of a range by its base and mask registers, which leave low bits to control. */
function range(base: bigint, mask: bigint, width: bigint): [bigint, bigint] {
  const low = ~0xfffn;
  return [base & low, (1n << width) - (mask & low)];
}

describe('a TDX host', () => {
  const p = processor('tdx-host');

  test('has 31 shared and 32 private KeyIDs in 6 bits, or fewer private ones', () => {
    expect(read(p, 0x87)).toBe(31n | (32n << 32n));
    expect(read(processor('tdx-host', 3), 0x87)).toBe(31n | (3n << 32n));
    expect(read(processor('tdx-host', 0), 0x87)).toBe(31n);
    expect(() => processor('tdx-host', 33)).toThrow(RangeError);
    expect((read(p, 0x981) >> 32n) & 15n).toBe(6n);
  });

  test('has memory encryption enabled and locked', () => {
    expect(read(p, 0x982) & 3n).toBe(3n);
    expect((read(p, 0x982) >> 32n) & 15n).toBe(6n);
    expect([read(p, 0x983), read(p, 0x984)]).toEqual([0n, 0n]);
    expect(hasFeature(p, 'tme')).toBe(true);
    expect((cpuid(p, 7, 0).ecx >>> 13) & 1).toBe(1);
  });

  test('has SEAMRR and SMRR enabled and locked, outside of RAM', () => {
    expect(read(p, 0xfe) & 0xc800n).toBe(0xc800n);
    for (const [base, mask, width] of [
      [0x1400, 0x1401, 52n],
      [0x1f2, 0x1f3, 32n],
    ] as const) {
      const [start, size] = range(read(p, base), read(p, mask), width);
      expect(read(p, mask) & 0xc00n).toBe(0xc00n);
      expect(start % size).toBe(0n);
      expect(start).toBeGreaterThanOrEqual(0xf000_0000n);
    }
    expect(read(p, 0x1400) & 8n).toBe(8n);
  });

  test('has what the module checks beside: x2APIC locked, TSC_ADJUST, no CPUID limit, 52 address bits, topology, self-snoop', () => {
    expect(read(p, 0xbd) & 1n).toBe(1n);
    expect((read(p, 0x10a) >> 21n) & 1n).toBe(1n);
    expect(read(p, 0x3b)).toBe(0n);
    expect((read(p, 0x1a0) >> 22n) & 1n).toBe(0n);
    expect(cpuid(p, 0x8000_0008, 0).eax & 0xff).toBe(52);
    expect([0, 1].map((n) => (cpuid(p, 0x1f, n).ecx >>> 8) & 0xff)).toEqual([1, 2]);
    for (const name of ['ss', 'movdir64b', 'tsc_adjust', 'spec_ctrl', 'arch_capabilities', 'pconfig'])
      expect(hasFeature(p, name)).toBe(true);
    expect(cpuid(p, 0x1b, 0).eax & 0xfff).toBe(1);
  });

  test('lets nobody change any of it', () => {
    for (const index of SEAM_MSRS) {
      expect(writeMsr(p, index, 0n)).toBe(false);
      expect(writeMsr(p, index, read(p, index))).toBe(false);
    }
  });
});

test('a PC has none of it', () => {
  const p = processor('pc');
  for (const index of SEAM_MSRS) expect(readMsr(p, index)).toBeUndefined();
  expect(read(p, 0xfe) & 0xc800n).toBe(0n);
  expect([hasFeature(p, 'tme'), hasFeature(p, 'pconfig')]).toEqual([false, false]);
  expect(cpuid(p, 0x1b, 0).eax).toBe(0);
});
