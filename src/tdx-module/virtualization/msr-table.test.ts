import { describe, expect, test } from 'vitest';
import { ATTRIBUTES } from '../objects/tdcs.ts';
import { buildMsrBitmap } from './msr-bitmap.ts';
import { MSR_RULES, msrAction } from './msr-table.ts';
import type { TdView } from './td-view.ts';

const NOTHING = [0, 0, 0, 0] as const;
const td = (changes: Partial<TdView> = {}): TdView => ({
  attributes: 0n,
  xfam: 3n,
  tdCtls: 0n,
  cpuidValues: () => NOTHING,
  ...changes,
});
const plain = td();
const read = (index: number, view = plain): string => msrAction(view, index, false);
const write = (index: number, view = plain): string => msrAction(view, index, true);

describe('actions', () => {
  test('the table ascends and its ranges do not overlap', () => {
    for (let i = 1; i < MSR_RULES.length; i++) expect(MSR_RULES[i]!.first).toBeGreaterThan(MSR_RULES[i - 1]!.last);
  });

  test.each([
    [0xc000_0082, 'native', 'native'],
    [0x10, 'native', 've'],
    [0x48, 'native', 'native'],
    [0x9a, 'gp', 'gp'],
    [0xc000_0080, 'native', 'special'],
    [0xda0, 'native', 'special'],
    [0x1d9, 'special', 'special'],
    [0x10a, 'special', 'native'],
    [0x6e0, 'gp-or-ve', 'gp-or-ve'],
    [0x808, 'native', 'native'],
    [0x830, 've', 've'],
    [0x831, 'gp', 'gp'],
    [0x802, 've', 've'],
    [0x80d, 've', 've'],
    [0x832, 've', 've'],
    [0x83f, 'native', 'native'],
    [0x481, 've', 'gp'],
    [0x1b, 've', 've'],
    [0x1234_5678, 've', 've'],
    [0xc000_0083, 've', 've'],
  ])('%i is %s for reads, %s for writes', (index, reading, writing) => {
    expect([read(index), write(index)]).toEqual([reading, writing]);
  });

  test('features that the TD lacks are #GP, or emulated', () => {
    expect([read(0xc1), write(0x38f), read(0x570), read(0x6a0), write(0x6e1), read(0xe1)]).toEqual(Array(6).fill('gp'));
    expect(read(0x1a0)).toBe('special');
  });

  test('features that the TD has are native', () => {
    const perfmon = td({ attributes: ATTRIBUTES.PERFMON });
    expect([read(0xc1, perfmon), write(0x38f, perfmon), read(0x1a0, perfmon)]).toEqual(['native', 'native', 'native']);
    expect(read(0x6a0, td({ xfam: 0x1803n }))).toBe('native');
    expect(read(0x6a0, td({ xfam: 0x803n }))).toBe('gp');
    expect(write(0x6e1, td({ attributes: ATTRIBUTES.PKS }))).toBe('native');
    expect(read(0xe1, td({ cpuidValues: ({ leaf }) => (leaf === 7 ? [0, 0, 1 << 5, 0] : NOTHING) }))).toBe('native');
  });
});

describe('the bitmap', () => {
  const bitOf = (page: Uint8Array, index: number, isWrite: boolean): number => {
    const high = index >= 0xc000_0000;
    const bit = high ? index - 0xc000_0000 : index;
    return (page[(isWrite ? 0x800 : 0) + (high ? 0x400 : 0) + (bit >>> 3)]! >> (bit & 7)) & 1;
  };

  test('lets exactly the native accesses through', () => {
    for (const view of [plain, td({ attributes: ATTRIBUTES.PERFMON, xfam: 0x1903n })]) {
      const page = buildMsrBitmap(view);
      expect(page.length).toBe(4096);
      for (const first of [0, 0xc000_0000]) {
        for (let index = first; index < first + 0x2000; index++) {
          const expected = [read(index, view), write(index, view)].map((action) => (action === 'native' ? 0 : 1));
          const actual = [bitOf(page, index, false), bitOf(page, index, true)];
          if (actual[0] !== expected[0] || actual[1] !== expected[1])
            expect([index, actual]).toEqual([index, expected]);
        }
      }
    }
  });
});
