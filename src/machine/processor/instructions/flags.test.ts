import { describe, expect, it } from 'vitest';
import { RSP } from '../../engine/layout.ts';
import { DONE, FAULT, GP, UD } from '../../outcome.ts';
import {
  BLOCKED_BY_STI,
  CR4_PVI,
  CR4_VME,
  FLAG_AC,
  FLAG_ID,
  FLAG_IF,
  FLAG_IOPL,
  FLAG_NT,
  FLAG_RF,
  FLAG_TF,
  FLAG_VIF,
  FLAG_VIP,
  FLAG_VM,
} from '../../processor.ts';
import { Lab, STACK0 } from '../testing/lab.ts';

const GP0 = { outcome: FAULT, vector: GP, errorCode: 0 };

/** A lab in virtual-8086 mode. */
function v86(iopl: number): Lab {
  const lab = new Lab('protected');
  lab.push(4, 0, 0, 0, 0, 0, 0x7000, FLAG_VM | (iopl << 12) | 0x202, 0x800, 0);
  lab.run('cf');
  return lab;
}

describe('CLI and STI', () => {
  it('need IOPL ≥ CPL', () => {
    const lab = new Lab('long', 3);
    expect(lab.run('fa')).toEqual(GP0);
    expect(lab.run('fb')).toEqual(GP0);
    lab.p.rflags = 2 | FLAG_IOPL;
    lab.run('fb');
    expect(lab.p.rflags & FLAG_IF).toBe(FLAG_IF);
    lab.run('fa');
    expect(lab.p.rflags & FLAG_IF).toBe(0);
  });

  it('STI blocks interrupts for one instruction only if IF was clear', () => {
    const lab = new Lab('long');
    lab.run('fb');
    expect(lab.p.interruptShadow).toBe(BLOCKED_BY_STI);
    expect(lab.p.eventsPending).toBe(true);
    const other = new Lab('long');
    other.p.rflags = 2 | FLAG_IF;
    other.run('fb');
    expect(other.p.interruptShadow).toBe(0);
  });

  it('with CR4.PVI at level 3 work on VIF, and STI with VIP set is #GP(0)', () => {
    const lab = new Lab('long', 3);
    lab.p.cr4 |= CR4_PVI;
    lab.run('fb');
    expect(lab.p.rflags).toBe(2 | FLAG_VIF);
    lab.run('fa');
    expect(lab.p.rflags).toBe(2);
    lab.p.rflags |= FLAG_VIP;
    expect(lab.run('fb')).toEqual(GP0);
  });
});

describe('PUSHF', () => {
  it('pushes RF and VM clear, as wide as the operand', () => {
    const lab = new Lab('long');
    lab.p.rflags = 0x246 | FLAG_RF | FLAG_AC;
    lab.run('9c');
    expect(lab.stack(8, 1)).toEqual([BigInt(0x246 | FLAG_AC)]);
    lab.run('66 9c');
    expect(lab.p.gpr(RSP)).toBe(BigInt(STACK0 - 10));
    expect(lab.stack(2, 1)).toEqual([0x246n]);
  });

  it('in virtual-8086 mode needs IOPL 3, or VME and words: then IOPL reads 3 and IF is VIF', () => {
    const lab = v86(0);
    expect(lab.run('9c')).toEqual(GP0);
    lab.p.cr4 |= CR4_VME;
    expect(lab.run('66 9c')).toEqual(GP0);
    lab.p.rflags |= FLAG_VIF;
    expect(lab.run('9c').outcome).toBe(DONE);
    expect(lab.stack(2, 1)).toEqual([BigInt(0x3202)]);
    expect(v86(3).run('9c').outcome).toBe(DONE);
  });
});

describe('POPF', () => {
  const ALL = 0x3f_ffff;
  it.each([
    ['level 0 changes IF and IOPL, not VM, VIF, VIP, RF', 'long', 0, 2, '9d', 0x24_7fd7],
    ['level 3 with IOPL 0 changes neither IF nor IOPL', 'long', 3, 2, '9d', 0x24_4dd7],
    ['level 3 with IOPL 3 changes IF, not IOPL', 'long', 3, 2 | FLAG_IOPL, '9d', 0x24_7fd7],
    ['the 16-bit form leaves AC and ID', 'long', 0, 2, '66 9d', 0x7fd7],
    ['real mode changes IF and IOPL', 'real', 0, 2, '9d', 0x7fd7],
  ] as const)('%s', (_, mode, cpl, before, code, after) => {
    const lab = new Lab(mode, cpl);
    lab.p.rflags = before;
    lab.push(8, ALL);
    expect(lab.run(code).outcome).toBe(DONE);
    expect(lab.p.rflags.toString(16)).toBe(after.toString(16));
  });

  it('clearing TF while traced still traps', () => {
    const lab = new Lab('long');
    lab.p.rflags |= FLAG_TF;
    lab.push(8, 2);
    lab.run('9d');
    expect(lab.p.pendingDebug).toBe(0x4000);
  });

  it('with VME in virtual-8086 mode moves IF to VIF; TF, or IF with VIP, is #GP(0)', () => {
    const lab = v86(0);
    lab.p.cr4 |= CR4_VME;
    lab.push(2, FLAG_IF | FLAG_NT);
    expect(lab.run('9d').outcome).toBe(DONE);
    expect(lab.p.rflags & (FLAG_VIF | FLAG_NT)).toBe(FLAG_VIF | FLAG_NT);
    lab.push(2, FLAG_TF);
    expect(lab.run('9d')).toEqual(GP0);
    lab.p.rflags |= FLAG_VIP;
    lab.push(2, FLAG_IF);
    expect(lab.run('9d')).toEqual(GP0);
  });

  it('keeps ID when it faults', () => {
    const lab = new Lab('long');
    lab.p.setGpr(RSP, 0x0000_8000_0000_0000n);
    lab.p.rflags |= FLAG_ID;
    const before = lab.snapshot();
    expect(lab.run('9d').outcome).toBe(FAULT);
    expect(lab.snapshot()).toEqual(before);
  });
});

it('STAC and CLAC change AC at level 0 and are #UD elsewhere', () => {
  const lab = new Lab('long');
  lab.run('0f 01 cb');
  expect(lab.p.rflags & FLAG_AC).toBe(FLAG_AC);
  lab.run('0f 01 ca');
  expect(lab.p.rflags & FLAG_AC).toBe(0);
  expect(new Lab('long', 3).run('0f 01 cb').vector).toBe(UD);
});
