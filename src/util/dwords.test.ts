import { expect, test } from 'vitest';
import { fromDwords, high32, low32 } from './dwords.ts';

test('halves are unsigned', () => {
  expect(low32(0xffff_ffff_8000_0001n)).toBe(0x8000_0001);
  expect(high32(0xffff_ffff_8000_0001n)).toBe(0xffff_ffff);
});

test('two halves make the value, also where bitwise operators made them negative', () => {
  expect(fromDwords(1, 2)).toBe(0x2_0000_0001n);
  expect(fromDwords(-1, -2)).toBe(0xffff_fffe_ffff_ffffn);
});
