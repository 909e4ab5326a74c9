import { describe, expect, it } from 'vitest';
import {
  decodeGpaMapping,
  entryIndex,
  isPrivateGpa,
  isPrivateGpaOperand,
  isSharedGpa,
  levelPages,
} from './sept-gpa.ts';

describe('GPA mapping operand', () => {
  it('page number and level', () => {
    expect(decodeGpaMapping(0x1234_5000n, 0, 4)).toEqual({ gpa: 0x1234_5000, level: 0 });
    expect(decodeGpaMapping(0x40_0001n, 0, 4)).toEqual({ gpa: 0x40_0000, level: 1 });
    expect(decodeGpaMapping(0xf_ffff_ffff_f000n, 0, 0)).toEqual({ gpa: 0xf_ffff_ffff_f000, level: 0 });
  });

  it('reserved bits, a level out of range and misalignment are invalid', () => {
    expect(decodeGpaMapping(0x1000n | 8n, 0, 4)).toBeNull();
    expect(decodeGpaMapping(0x1000n | 0x800n, 0, 4)).toBeNull();
    expect(decodeGpaMapping(0x1000n | (1n << 52n), 0, 4)).toBeNull();
    expect(decodeGpaMapping(0x1000n | (1n << 63n), 0, 4)).toBeNull();
    expect(decodeGpaMapping(0n, 1, 3)).toBeNull();
    expect(decodeGpaMapping(4n, 1, 3)).toBeNull();
    expect(decodeGpaMapping(7n, 0, 4)).toBeNull();
    expect(decodeGpaMapping(0x1001n, 0, 4)).toBeNull();
    expect(decodeGpaMapping(0x20_0002n, 0, 4)).toBeNull();
  });

  it('index of the entry in each table', () => {
    const gpa = 3 * 2 ** 39 + 5 * 2 ** 30 + 7 * 2 ** 21 + 11 * 2 ** 12;
    expect([0, 1, 2, 3].map((level) => entryIndex(gpa, level))).toEqual([11, 7, 5, 3]);
    expect([0, 1, 2].map(levelPages)).toEqual([1, 512, 512 * 512]);
  });

  it('the shared bit is 47 or 51, and above it nothing is private', () => {
    expect(isPrivateGpa(2 ** 47 - 4096, false)).toBe(true);
    expect(isPrivateGpa(2 ** 47, false)).toBe(false);
    expect(isPrivateGpa(2 ** 48, false)).toBe(false);
    expect(isPrivateGpa(2 ** 48, true)).toBe(true);
    expect(isPrivateGpa(2 ** 51, true)).toBe(false);
    expect(isSharedGpa(2 ** 47 + 4096, false)).toBe(true);
    expect(isSharedGpa(2 ** 47 + 4096, true)).toBe(false);
    expect(isPrivateGpaOperand(1n << 63n, true)).toBe(false);
    expect(isPrivateGpaOperand(0x1000n, true)).toBe(true);
  });
});
