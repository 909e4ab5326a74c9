import { expect, test } from 'vitest';
import { fromLittleEndian, hexOf, littleEndianBytes } from './bytes.ts';

test('a value is cut to its lower bytes, lowest first', () => {
  expect([...littleEndianBytes(0x1_0203_0405n, 4)]).toEqual([5, 4, 3, 2]);
  expect([...littleEndianBytes(1n, 3)]).toEqual([1, 0, 0]);
});

test('reading gives what was written, unsigned', () => {
  expect(fromLittleEndian(littleEndianBytes(0xfedc_ba98_7654_3210n, 8))).toBe(0xfedc_ba98_7654_3210n);
  expect(fromLittleEndian(new Uint8Array(0))).toBe(0n);
});

test('each byte is two digits', () => {
  expect(hexOf(Uint8Array.of(0, 10, 255))).toBe('000aff');
  expect(hexOf(Uint8Array.of(0, 10, 255), ' ')).toBe('00 0a ff');
});
