import { expect, test } from 'vitest';
import { virtualArchCapabilities } from './arch-capabilities.ts';

const bits = (...numbers: number[]): bigint => numbers.reduce((mask, bit) => mask | (1n << BigInt(bit)), 0n);
const ALL = 0xffff_ffff_ffff_ffffn;

test('a TD sees what is known of the processor, without the controls that are the host’s', () => {
  expect(virtualArchCapabilities(ALL, 0n, false)).toBe(bits(0, 1, 2, 3, 5, 6, 8, 12, 13, 14, 15, 21));
  expect(virtualArchCapabilities(0n, 0n, false)).toBe(bits(21));
});

test('bits that the host lets through are the processor’s; one is the host’s own', () => {
  const config = bits(4, 19, 20, 24);
  expect(virtualArchCapabilities(bits(4, 24), config, false)).toBe(bits(4, 19, 21, 24));
});

test('TSX_CTRL comes with TSX', () => {
  expect(virtualArchCapabilities(bits(7), 0n, true)).toBe(bits(7, 21));
  expect(virtualArchCapabilities(0n, 0n, true)).toBe(bits(21));
});
