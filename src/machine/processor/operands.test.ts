import { describe, expect, it } from 'vitest';
import { DS, FS, RAX, RBX, RSI, RSP, SS } from '../engine/layout.ts';
import { DONE, GP, SS_FAULT } from '../outcome.ts';
import { AR_UNUSABLE } from '../processor.ts';
import { effectiveAddress, linearOf, readOperand, writeOperand } from './operands.ts';
import { DATA, Lab } from './testing/lab.ts';

describe('effectiveAddress', () => {
  it.each([
    ['long', '48 8b 44 b3 f0', 0x1000n + 0x40n - 0x10n, 'base + index * 4 + disp8'],
    ['long', '48 8b 05 00 01 00 00', 0x8107n, 'RIP-relative counts from the next instruction'],
    ['long', '67 8b 43 ff', 0xfffn, 'the 67 prefix cuts to 32 bits'],
    ['protected', '8b 05 00 90 00 00', 0x9000n, 'absolute'],
    ['real', '8b 40 ff', 0x100fn, 'BX + SI + disp8'],
  ] as const)('%s %s', (mode, code, expected, _rule) => {
    const lab = new Lab(mode);
    lab.p.setGpr(RBX, 0x1000n);
    lab.p.setGpr(RSI, 0x10n);
    expect(effectiveAddress(lab.p, lab.decode(code))).toBe(expected);
  });

  it('wraps at the address size', () => {
    const lab = new Lab('real');
    lab.p.setGpr(RBX, 0xffffn);
    lab.p.setGpr(RSI, 0n);
    expect(effectiveAddress(lab.p, lab.decode('8b 40 02'))).toBe(1n);
  });
});

describe('linearOf', () => {
  it('in 64-bit mode only FS and GS have a base, and the sum must be canonical', () => {
    const { p } = new Lab('long');
    p.segments[DS]!.base = 0x1000n;
    p.segments[FS]!.base = 0xffff_8000_0000_0000n;
    expect(linearOf(p, DS, 0x10n, 8, false)).toBe(0x10n);
    expect(linearOf(p, FS, 0x10n, 8, false)).toBe(0xffff_8000_0000_0010n);
    expect(linearOf(p, DS, 0x0000_7fff_ffff_fffcn, 8, false)).toBeUndefined();
    expect(p.fault).toMatchObject({ vector: GP, errorCode: 0 });
    expect(linearOf(p, SS, 0x0000_8000_0000_0000n, 8, false)).toBeUndefined();
    expect(p.fault).toMatchObject({ vector: SS_FAULT, errorCode: 0 });
  });

  const cases: [string, number, number, bigint, number, boolean, boolean][] = [
    ['last byte at the limit', 0x4093, 0xfff, 0xffcn, 4, false, true],
    ['last byte above the limit', 0x4093, 0xfff, 0xffdn, 4, false, false],
    ['write to read-only data', 0x4091, 0xffff, 0n, 4, true, false],
    ['read of read-only data', 0x4091, 0xffff, 0n, 4, false, true],
    ['write to code', 0x409b, 0xffff, 0n, 4, true, false],
    ['read of readable code', 0x409b, 0xffff, 0n, 4, false, true],
    ['read of execute-only code', 0x4099, 0xffff, 0n, 4, false, false],
    ['expand-down: at the limit', 0x4097, 0xfff, 0xfffn, 1, true, false],
    ['expand-down: above the limit', 0x4097, 0xfff, 0x1000n, 4, true, true],
    ['expand-down 16 bits: beyond 64 KiB', 0x97, 0xfff, 0xfffdn, 4, true, false],
    ['unusable', AR_UNUSABLE, 0xffff_ffff, 0n, 1, false, false],
    ['not present', 0x4013, 0xffff, 0n, 1, false, false],
  ];
  it.each(cases)('in protected mode: %s', (_, attributes, limit, offset, size, write, legal) => {
    const { p } = new Lab('protected');
    Object.assign(p.segments[DS]!, { base: 0x1000n, limit, attributes });
    expect(linearOf(p, DS, offset, size, write)).toBe(legal ? 0x1000n + offset : undefined);
  });

  it('in real mode only the limit counts', () => {
    const { p } = new Lab('real');
    p.segments[DS]!.attributes = 0x99;
    expect(linearOf(p, DS, 0xfffcn, 4, true)).toBe(0xfffcn);
    expect(linearOf(p, DS, 0xfffdn, 4, true)).toBeUndefined();
  });

  it('wraps at 4 GiB outside 64-bit mode', () => {
    const { p } = new Lab('protected');
    p.segments[DS]!.base = 0xffff_f000n;
    expect(linearOf(p, DS, 0x2000n, 1, false)).toBe(0x1000n);
  });
});

describe('operands', () => {
  it('registers: high bytes, words that keep the rest, doublewords that clear it', () => {
    const lab = new Lab('long');
    lab.p.setGpr(RAX, 0x1122_3344_5566_7788n);
    expect(readOperand(lab.p, lab.decode('00 e0'), 1)).toBe(0x77n);
    writeOperand(lab.p, lab.decode('00 c4'), 0, 0xaan);
    expect(lab.p.gpr(RAX)).toBe(0x1122_3344_5566_aa88n);
    writeOperand(lab.p, lab.decode('66 01 d8'), 0, 0x1_bbbbn);
    expect(lab.p.gpr(RAX)).toBe(0x1122_3344_5566_bbbbn);
    writeOperand(lab.p, lab.decode('01 d8'), 0, 0x1_cccc_ccccn);
    expect(lab.p.gpr(RAX)).toBe(0xcccc_ccccn);
  });

  it('memory and immediates', () => {
    const lab = new Lab('long');
    lab.p.setGpr(RBX, BigInt(DATA));
    expect(writeOperand(lab.p, lab.decode('48 01 03'), 0, 0x0102_0304_0506_0708n)).toBe(DONE);
    expect(readOperand(lab.p, lab.decode('66 01 03'), 0)).toBe(0x0708n);
    expect(readOperand(lab.p, lab.decode('83 03 ff'), 1)).toBe(0xffff_ffffn);
  });

  it('a stack access beyond the limit is #SS(0)', () => {
    const lab = new Lab('protected');
    lab.p.segments[SS]!.limit = 0xfff;
    lab.p.setGpr(RSP, 0x1000n);
    expect(readOperand(lab.p, lab.decode('8b 04 24'), 1)).toBeUndefined();
    expect(lab.p.fault.vector).toBe(SS_FAULT);
  });
});
