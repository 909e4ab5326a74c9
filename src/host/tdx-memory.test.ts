import { expect, test } from 'vitest';
import { fillOutTdmrs, pamtSizes, populateReservedAreas, setUpPamts, type Tdmr } from './tdx-memory.ts';

const MIB = 0x10_0000;
const GIB = 0x4000_0000;
const ENTRY = { pamt4kEntrySize: 16, pamt2mEntrySize: 16, pamt1gEntrySize: 16 };
const tdmrsOf = (ranges: [number, number][], max = 64): Tdmr[] =>
  fillOutTdmrs(
    ranges.map(([start, end]) => ({ start, end })),
    max,
  ) as Tdmr[];

test('a TDMR per range, aligned to 1 GiB; what is covered already makes none', () => {
  const spans = tdmrsOf([
    [MIB, 512 * MIB],
    [600 * MIB, 900 * MIB],
    [GIB - MIB, 2 * GIB + MIB],
    [5 * GIB, 6 * GIB],
  ]).map(({ base, size }) => [base / GIB, size / GIB]);
  expect(spans).toEqual([
    [0, 1],
    [1, 2],
    [5, 1],
  ]);
});

test('more TDMRs than the module knows: −ENOSPC', () => {
  expect(
    fillOutTdmrs(
      [
        { start: 0, end: GIB },
        { start: 2 * GIB, end: 3 * GIB },
      ],
      1,
    ),
  ).toBe(-28);
});

test('the PAMT has an entry per page of each size, in whole pages', () => {
  expect(pamtSizes(GIB, ENTRY)).toEqual({ k4: 4 * MIB, m2: 8192, g1: 4096, total: 4 * MIB + 12288 });
});

test('reserved areas: holes before, between and behind memory, and every PAMT that lies in the region', () => {
  const memory = [
    { start: MIB, end: 100 * MIB },
    { start: 200 * MIB, end: 300 * MIB },
    { start: GIB, end: GIB + 100 * MIB },
  ];
  const tdmrs = tdmrsOf(memory.map(({ start, end }) => [start, end]));
  let next = 210 * MIB;
  const allocated: number[] = [];
  setUpPamts(tdmrs, ENTRY, (bytes) => {
    allocated.push(next);
    next += bytes;
    return next - bytes;
  });
  expect(populateReservedAreas(tdmrs, memory, 16)).toBe(0);
  const pamt = 4 * MIB + 12288;
  expect(tdmrs[0]!.reserved).toEqual([
    { offset: 0, size: MIB },
    { offset: 100 * MIB, size: 100 * MIB },
    { offset: allocated[0], size: pamt },
    { offset: allocated[1], size: pamt },
    { offset: 300 * MIB, size: GIB - 300 * MIB },
  ]);
  expect(tdmrs[1]!.reserved).toEqual([{ offset: 100 * MIB, size: GIB - 100 * MIB }]);
  expect(populateReservedAreas(tdmrs, memory, 4)).toBe(-28);
});
