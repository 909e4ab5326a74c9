import { expect, test } from 'vitest';
import type { Case } from './case.ts';
import { CODE, DATA } from './case.ts';
import { Emulated } from './emulated.ts';

const caseOf = (code: number[]): Case => ({
  gpr: Array.from({ length: 16 }, (_, n) => BigInt(n === 4 ? DATA + 0x800 : DATA)),
  flags: 0x202,
  rip: CODE,
  mode: 64,
  seed: 1,
  mxcsr: 0x1f80,
  top: 0,
  memoryAt: DATA + 0x800,
  memory: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0),
  code: Uint8Array.from(code),
  xmm: new Uint8Array(256),
  fpr: new Uint8Array(128),
});

// Instructions of one shape share generated code: whether the base is RSP is part of POP's.
test('POP [rsp+16] and POP [rax+16] do not share code', () => {
  const emulated = new Emulated();
  const stored = (code: number[], at: number): string => {
    emulated.run(caseOf(code));
    return Buffer.from(emulated.data.subarray(at, at + 8)).toString('hex');
  };
  expect(stored([0x8f, 0x44, 0x24, 0x10], 0x818)).toBe('0102030405060708');
  expect(stored([0x8f, 0x40, 0x10], 0x10)).toBe('0102030405060708');
  expect(stored([0x8f, 0x44, 0x24, 0x10], 0x818)).toBe('0102030405060708');
});
