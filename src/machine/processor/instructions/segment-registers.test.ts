import { describe, expect, it } from 'vitest';
import { DS, ES, FS, GS, RAX, RBX, RSP, SS } from '../../engine/layout.ts';
import { readMsr, writeMsr } from '../../msr/msr.ts';
import { DONE, FAULT, GP, NP, SS_FAULT, UD } from '../../outcome.ts';
import { AR_UNUSABLE, BLOCKED_BY_MOV_SS, CR4_FSGSBASE } from '../../processor.ts';
import { beginStep, endStep } from '../events/step.ts';
import { DATA, GDT, Lab, type LabMode, LDT, SEL, STACK0 } from '../testing/lab.ts';

/** MOV Sreg, AX: ModRM bytes by register. */
const MOV = ['8e c0', '', '8e d0', '8e d8', '8e e0', '8e e8'];

describe('MOV to a segment register', () => {
  const faults: [string, LabMode, 0 | 3, number, number, number, number][] = [
    ['SS null outside 64-bit mode → #GP(0)', 'protected', 0, SS, 0, GP, 0],
    ['SS null at level 3 → #GP(0)', 'long', 3, SS, 3, GP, 0],
    ['SS null with RPL not CPL → #GP(0)', 'long', 0, SS, 1, GP, 0],
    ['SS with RPL not CPL → #GP(selector)', 'long', 0, SS, SEL.data | 1, GP, SEL.data],
    ['SS with DPL not CPL → #GP(selector)', 'long', 0, SS, 0x20, GP, 0x20],
    ['SS is code → #GP(selector)', 'long', 0, SS, SEL.code64, GP, SEL.code64],
    ['SS read-only → #GP(selector)', 'long', 0, SS, 0x80, GP, 0x80],
    ['SS not present → #SS(selector)', 'long', 0, SS, 0x88, SS_FAULT, 0x88],
    ['DS beyond the limit → #GP(selector)', 'long', 0, DS, 0x203, GP, 0x200],
    ['DS is execute-only → #GP(selector)', 'long', 0, DS, 0x90, GP, 0x90],
    ['DS is a system descriptor → #GP(selector)', 'long', 0, DS, SEL.tss, GP, SEL.tss],
    ['DS more privileged than CPL → #GP(selector)', 'long', 3, DS, SEL.data, GP, SEL.data],
    ['DS more privileged than RPL → #GP(selector)', 'long', 0, DS, SEL.data | 3, GP, SEL.data],
    ['DS not present → #NP(selector)', 'long', 0, DS, 0x88, NP, 0x88],
    ['an LDT selector without LDT → #GP(selector)', 'long', 0, DS, 0x0c, GP, 0x0c],
  ];
  it.each(faults)('%s, state unchanged', (_, mode, cpl, n, selector, vector, errorCode) => {
    const lab = new Lab(mode, cpl);
    lab.p.ldtr.attributes = AR_UNUSABLE;
    lab.gdt(0x80, { type: 0x11 });
    lab.gdt(0x88, { type: 0x13, present: false });
    lab.gdt(0x90, { type: 0x19 });
    lab.p.setGpr(RAX, BigInt(selector));
    const before = lab.snapshot();
    expect(lab.run(MOV[n]!)).toEqual({ outcome: FAULT, vector, errorCode });
    expect(lab.snapshot()).toEqual(before);
  });

  it('CS is #UD', () => {
    expect(new Lab('long').run('8e c8').vector).toBe(UD);
  });

  it('loads base, limit and attributes, and sets the accessed bit in memory', () => {
    const lab = new Lab('protected');
    lab.gdt(0x80, { type: 0x12, base: 0x1234_5678, limit: 0x2_0000 });
    lab.p.setGpr(RAX, 0x80n);
    expect(lab.run(MOV[ES]!).outcome).toBe(DONE);
    expect(lab.p.segments[ES]).toEqual({ selector: 0x80, base: 0x1234_5678n, limit: 0x2_0000, attributes: 0x4093 });
    expect(lab.machine.memory.read8(GDT + 0x85) & 1).toBe(1);
  });

  it('expands a limit in pages', () => {
    const lab = new Lab('protected');
    lab.gdt(0x80, { type: 0x13, limit: 0x12_3fff });
    lab.p.setGpr(RAX, 0x80n);
    lab.run(MOV[ES]!);
    expect(lab.p.segments[ES]!.limit).toBe(0x12_3fff);
  });

  it('reads the LDT for selectors with TI', () => {
    const lab = new Lab('protected');
    Object.assign(lab.p.ldtr, { base: BigInt(LDT), limit: 0xf, attributes: 0x82 });
    lab.machine.memory.write64(LDT + 8, lab.machine.memory.read64(GDT + SEL.data));
    lab.p.setGpr(RAX, 0x0cn);
    expect(lab.run(MOV[GS]!).outcome).toBe(DONE);
    lab.p.setGpr(RAX, 0x14n);
    expect(lab.run(MOV[GS]!)).toEqual({ outcome: FAULT, vector: GP, errorCode: 0x14 });
  });

  it('a null selector makes DS unusable, and keeps FS legal to address through its base', () => {
    const lab = new Lab('long');
    lab.p.setGpr(RAX, 2n);
    lab.run(MOV[DS]!);
    expect(lab.p.segments[DS]).toMatchObject({ selector: 2, attributes: AR_UNUSABLE });
  });

  it('conforming readable code may be loaded whatever its DPL', () => {
    const lab = new Lab('long', 3);
    lab.gdt(0x80, { type: 0x1f });
    lab.p.setGpr(RAX, 0x83n);
    expect(lab.run(MOV[DS]!).outcome).toBe(DONE);
  });

  it('SS blocks interrupts until after the next instruction, and a second load in a row does not prolong that', () => {
    const lab = new Lab('long');
    const { p } = lab;
    p.setGpr(RAX, BigInt(SEL.data));
    lab.run(MOV[SS]!);
    expect(p.interruptShadow).toBe(BLOCKED_BY_MOV_SS);
    const token = beginStep(p);
    lab.run(MOV[SS]!);
    endStep(p, token);
    expect(p.interruptShadow).toBe(0);
  });

  it('in real mode moves the base and keeps the limit', () => {
    const lab = new Lab('real');
    lab.p.segments[DS]!.limit = 0xffff_ffff;
    lab.p.setGpr(RAX, 0x1234n);
    lab.run(MOV[DS]!);
    expect(lab.p.segments[DS]).toMatchObject({ selector: 0x1234, base: 0x12340n, limit: 0xffff_ffff });
  });
});

describe('other moves of segment registers', () => {
  it('MOV r, Sreg zero-extends to the operand size; memory gets 16 bits', () => {
    const lab = new Lab('long');
    lab.p.setGpr(RAX, -1n & 0xffff_ffff_ffff_ffffn);
    lab.run('66 8c d0');
    expect(lab.p.gpr(RAX)).toBe(0xffff_ffff_ffff_0010n);
    lab.run('8c d0');
    expect(lab.p.gpr(RAX)).toBe(0x10n);
    lab.machine.memory.write64(DATA, -1n);
    lab.p.setGpr(RBX, BigInt(DATA));
    lab.run('48 8c 13');
    expect(lab.machine.memory.read64(DATA)).toBe(0xffff_ffff_ffff_0010n);
  });

  it('PUSH FS and POP GS move eight bytes in 64-bit mode', () => {
    const lab = new Lab('long');
    lab.run('0f a0');
    expect(lab.p.gpr(RSP)).toBe(BigInt(STACK0 - 8));
    expect(lab.stack(8, 1)).toEqual([BigInt(SEL.data)]);
    expect(lab.run('0f a9').outcome).toBe(DONE);
    expect(lab.p.segments[GS]!.selector).toBe(SEL.data);
    expect(lab.p.gpr(RSP)).toBe(BigInt(STACK0));
  });

  it('POP SS that faults leaves the stack pointer', () => {
    const lab = new Lab('protected');
    lab.push(4, SEL.dataUser);
    const before = lab.snapshot();
    expect(lab.run('17').vector).toBe(GP);
    expect(lab.snapshot()).toEqual(before);
  });

  it('LSS loads both and blocks nothing', () => {
    const lab = new Lab('protected');
    lab.machine.memory.write32(DATA, 0x7000);
    lab.machine.memory.write16(DATA + 4, SEL.data);
    lab.p.setGpr(RBX, BigInt(DATA));
    expect(lab.run('0f b2 23').outcome).toBe(DONE);
    expect(lab.p.gpr(RSP)).toBe(0x7000n);
    expect(lab.p.interruptShadow).toBe(0);
  });

  it('LFS with a bad selector leaves the register', () => {
    const lab = new Lab('long');
    lab.machine.memory.write64(DATA, 0x7000n);
    lab.machine.memory.write16(DATA + 8, 0x200);
    lab.p.setGpr(RBX, BigInt(DATA));
    const before = lab.snapshot();
    expect(lab.run('48 0f b4 03')).toEqual({ outcome: FAULT, vector: GP, errorCode: 0x200 });
    expect(lab.snapshot()).toEqual(before);
  });
});

describe('SWAPGS and the base instructions', () => {
  it('SWAPGS exchanges GS.base and IA32_KERNEL_GS_BASE at level 0 only', () => {
    const lab = new Lab('long');
    lab.p.segments[GS]!.base = 0x1111n;
    writeMsr(lab.p, 0xc000_0102, 0xffff_8000_0000_0000n);
    lab.run('0f 01 f8');
    expect(lab.p.segments[GS]!.base).toBe(0xffff_8000_0000_0000n);
    expect(readMsr(lab.p, 0xc000_0102)).toBe(0x1111n);
    expect(new Lab('long', 3).run('0f 01 f8')).toEqual({ outcome: FAULT, vector: GP, errorCode: 0 });
  });

  it('need CR4.FSGSBASE; writes need a canonical address; 32-bit forms zero-extend', () => {
    const lab = new Lab('long', 3);
    expect(lab.run('f3 48 0f ae c0').vector).toBe(UD);
    lab.p.cr4 |= CR4_FSGSBASE;
    lab.p.setGpr(RAX, 0x0100_0000_0000_0000n);
    expect(lab.run('f3 48 0f ae d0')).toEqual({ outcome: FAULT, vector: GP, errorCode: 0 });
    lab.p.setGpr(RAX, 0x1_2345_6789n);
    expect(lab.run('f3 48 0f ae d0').outcome).toBe(DONE);
    expect(lab.p.segments[FS]!.base).toBe(0x1_2345_6789n);
    lab.run('f3 0f ae c3');
    expect(lab.p.gpr(RBX)).toBe(0x2345_6789n);
    lab.run('f3 0f ae d8');
    expect(lab.p.segments[GS]!.base).toBe(0x2345_6789n);
  });
});
