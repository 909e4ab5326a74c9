import { describe, expect, it } from 'vitest';
import { RAX, RBX } from '../../engine/layout.ts';
import { DONE, FAULT, GP, NP, UD } from '../../outcome.ts';
import { AR_UNUSABLE, CR4_UMIP, plainSegment } from '../../processor.ts';
import { DATA, GDT, Lab, SEL, TSS } from '../testing/lab.ts';

const GP0 = { outcome: FAULT, vector: GP, errorCode: 0 };

describe('LGDT, LIDT, SGDT, SIDT', () => {
  it('move ten bytes in 64-bit mode', () => {
    const lab = new Lab('long');
    lab.p.setGpr(RBX, BigInt(DATA));
    lab.machine.memory.write16(DATA, 0x7f);
    lab.machine.memory.write64(DATA + 2, 0xffff_8000_0000_1234n);
    expect(lab.run('0f 01 13').outcome).toBe(DONE);
    expect([lab.p.gdtr.base, lab.p.gdtr.limit]).toEqual([0xffff_8000_0000_1234n, 0x7f]);
    lab.machine.memory.fill(DATA, 16);
    lab.run('0f 01 03');
    expect(lab.machine.memory.read16(DATA)).toBe(0x7f);
    expect(lab.machine.memory.read64(DATA + 2)).toBe(0xffff_8000_0000_1234n);
  });

  it('a 16-bit load uses 24 bits of the base, a store writes all 32', () => {
    const lab = new Lab('protected');
    lab.p.setGpr(RBX, BigInt(DATA));
    lab.machine.memory.write32(DATA + 2, 0x1234_5678);
    lab.run('66 0f 01 1b');
    expect(lab.p.idtr.base).toBe(0x34_5678n);
    lab.p.idtr.base = 0x8765_4321n;
    lab.run('66 0f 01 0b');
    expect(lab.machine.memory.read32(DATA + 2)).toBe(0x8765_4321);
  });

  it('a non-canonical base → #GP(0); loads at level 3 → #GP(0)', () => {
    const lab = new Lab('long');
    lab.p.setGpr(RBX, BigInt(DATA));
    lab.machine.memory.write64(DATA + 2, 0x0100_0000_0000_0000n);
    const before = lab.snapshot();
    expect(lab.run('0f 01 13')).toEqual(GP0);
    expect(lab.snapshot()).toEqual(before);
    expect(new Lab('long', 3).run('0f 01 13')).toEqual(GP0);
  });

  it.each(['0f 01 03', '0f 01 0b', '0f 00 c0', '0f 00 c8'])('%s at level 3 is #GP(0) with CR4.UMIP only', (code) => {
    const lab = new Lab('long', 3);
    lab.p.setGpr(RBX, BigInt(DATA));
    expect(lab.run(code).outcome).toBe(DONE);
    lab.p.cr4 |= CR4_UMIP;
    expect(lab.run(code)).toEqual(GP0);
  });
});

describe('LTR', () => {
  it('loads 16 bytes and makes the TSS busy, in memory too', () => {
    const lab = new Lab('long');
    lab.gdt(0x80, { type: 0x09, base: TSS, limit: 0x67, big: false });
    lab.gdt(0x88, 0xffff_8000n);
    lab.p.setGpr(RAX, 0x80n);
    expect(lab.run('0f 00 d8').outcome).toBe(DONE);
    expect(plainSegment(lab.p.tr)).toEqual({
      selector: 0x80,
      base: 0xffff_8000_0000_0000n | BigInt(TSS),
      limit: 0x67,
      attributes: 0x8b,
    });
    expect(lab.machine.memory.read8(GDT + 0x85)).toBe(0x8b);
  });

  it.each([
    ['null', 0, { ...GP0 }],
    ['in the LDT', 0x84, { ...GP0, errorCode: 0x84 }],
    ['busy', SEL.tss, { ...GP0, errorCode: SEL.tss }],
    ['not a TSS', SEL.data, { ...GP0, errorCode: SEL.data }],
    ['a 16-bit TSS in IA-32e mode', 0x90, { ...GP0, errorCode: 0x90 }],
    ['not present', 0x98, { outcome: FAULT, vector: NP, errorCode: 0x98 }],
    ['half outside the GDT', 0xf8, { ...GP0, errorCode: 0xf8 }],
    ['with a type in its upper half', 0xa8, { ...GP0, errorCode: 0xa8 }],
  ])('a selector that is %s faults', (_, selector, result) => {
    const lab = new Lab('long');
    lab.gdt(0x90, { type: 0x01, base: TSS, limit: 0x67, big: false });
    lab.gdt(0x98, { type: 0x09, base: TSS, limit: 0x67, big: false, present: false });
    lab.gdt(0xa0, 0n);
    lab.gdt(0xa8, { type: 0x09, base: TSS, limit: 0x67, big: false });
    lab.gdt(0xb0, 0x900n << 32n);
    lab.gdt(0xf8, { type: 0x09, base: TSS, limit: 0x67, big: false });
    lab.p.setGpr(RAX, BigInt(selector));
    const before = lab.snapshot();
    expect(lab.run('0f 00 d8')).toEqual(result);
    expect(lab.snapshot()).toEqual(before);
  });
});

describe('LLDT', () => {
  it('loads a descriptor; a null selector makes LDTR unusable', () => {
    const lab = new Lab('protected');
    lab.gdt(0x80, { type: 0x02, base: 0x4000, limit: 0xff, big: false });
    lab.p.setGpr(RAX, 0x80n);
    expect(lab.run('0f 00 d0').outcome).toBe(DONE);
    expect(lab.p.ldtr).toEqual({ selector: 0x80, base: 0x4000n, limit: 0xff, attributes: 0x82 });
    lab.p.setGpr(RAX, 0n);
    lab.run('0f 00 d0');
    expect(lab.p.ldtr.attributes).toBe(AR_UNUSABLE);
  });

  it('a wrong type → #GP(selector); real mode → #UD; level 3 → #GP(0)', () => {
    const lab = new Lab('protected');
    lab.p.setGpr(RAX, BigInt(SEL.data));
    expect(lab.run('0f 00 d0')).toEqual({ ...GP0, errorCode: SEL.data });
    expect(new Lab('real').run('0f 00 d0').vector).toBe(UD);
    expect(new Lab('protected', 3).run('0f 00 d0')).toEqual(GP0);
  });
});

it('STR and SLDT store selectors, zero-extended into registers', () => {
  const lab = new Lab('long');
  lab.p.setGpr(RAX, -1n & 0xffff_ffff_ffff_ffffn);
  lab.run('48 0f 00 c8');
  expect(lab.p.gpr(RAX)).toBe(BigInt(SEL.tss));
});
