import { describe, expect, it } from 'vitest';
import { CS, FMASK, LSTAR, RCX, RDX, RSP, SS, STAR } from '../../engine/layout.ts';
import { FAULT, GP, JUMPED, UD } from '../../outcome.ts';
import { FLAG_IF, FLAG_TF } from '../../processor.ts';
import { Lab } from '../testing/lab.ts';

const NON_CANONICAL = 0x0000_8000_0000_0000n;

function withMsrs(lab: Lab): Lab {
  lab.p.write64(STAR, (0x18n << 48n) | (0x28n << 32n));
  lab.p.write64(LSTAR, 0xffff_8000_0000_1000n);
  lab.p.write64(FMASK, BigInt(FLAG_IF | FLAG_TF));
  lab.p.msrs.set(0x174, 0x28n);
  lab.p.msrs.set(0x175, 0xffff_8000_0000_2000n);
  lab.p.msrs.set(0x176, 0xffff_8000_0000_3000n);
  return lab;
}

describe('SYSCALL', () => {
  it('saves RIP and RFLAGS, masks RFLAGS and loads flat segments by STAR', () => {
    const lab = withMsrs(new Lab('long', 3));
    const { p } = lab;
    p.rflags = 0x246;
    expect(lab.run('0f 05').outcome).toBe(JUMPED);
    expect(p.rip).toBe(0xffff_8000_0000_1000n);
    expect(p.gpr(RCX)).toBe(0x8002n);
    expect(p.gpr(11)).toBe(0x246n);
    expect(p.rflags).toBe(0x46);
    expect(p.cpl).toBe(0);
    expect(p.segments[CS]).toEqual({ selector: 0x28, base: 0n, limit: 0xffff_ffff, attributes: 0xa09b });
    expect(p.segments[SS]).toEqual({ selector: 0x30, base: 0n, limit: 0xffff_ffff, attributes: 0xc093 });
  });

  it('is #UD without EFER.SCE and outside 64-bit mode', () => {
    const lab = withMsrs(new Lab('long', 3));
    lab.p.efer &= ~1;
    expect(lab.run('0f 05').vector).toBe(UD);
    expect(() => withMsrs(new Lab('compat', 3)).run('0f 05')).toThrow(/invalid/);
  });
});

describe('SYSRET', () => {
  it('to 64-bit code: RCX, R11, selectors STAR[63:48] + 16 and + 8 with RPL 3', () => {
    const lab = withMsrs(new Lab('long'));
    const { p } = lab;
    p.setGpr(RCX, 0x7000n);
    p.setGpr(11, 0x1_0246n);
    expect(lab.run('48 0f 07').outcome).toBe(JUMPED);
    expect(p.rip).toBe(0x7000n);
    expect(p.rflags).toBe(0x246);
    expect(p.cpl).toBe(3);
    expect(p.segments[CS]).toEqual({ selector: 0x2b, base: 0n, limit: 0xffff_ffff, attributes: 0xa0fb });
    expect(p.segments[SS]).toEqual({ selector: 0x23, base: 0n, limit: 0xffff_ffff, attributes: 0xc0f3 });
  });

  it('to compatibility mode: ECX, selector STAR[63:48]', () => {
    const lab = withMsrs(new Lab('long'));
    lab.p.setGpr(RCX, 0xffff_ffff_0000_7000n);
    lab.run('0f 07');
    expect(lab.p.rip).toBe(0x7000n);
    expect(lab.p.segments[CS]).toMatchObject({ selector: 0x1b, attributes: 0xc0fb });
    expect(lab.p.codeSize).toBe(32);
  });

  it('a non-canonical RCX is #GP(0) at level 0, before anything changes', () => {
    const lab = withMsrs(new Lab('long'));
    lab.p.setGpr(RCX, NON_CANONICAL);
    const before = lab.snapshot();
    expect(lab.run('48 0f 07')).toEqual({ outcome: FAULT, vector: GP, errorCode: 0 });
    expect(lab.snapshot()).toEqual(before);
  });

  it('is #GP(0) at level 3', () => {
    expect(withMsrs(new Lab('long', 3)).run('48 0f 07')).toEqual({ outcome: FAULT, vector: GP, errorCode: 0 });
  });

  it('loading TF traps at once', () => {
    const lab = withMsrs(new Lab('long'));
    lab.p.setGpr(11, 0x302n);
    lab.run('48 0f 07');
    expect(lab.p.pendingDebug).toBe(0x4000);
  });
});

describe('SYSENTER and SYSEXIT', () => {
  it('SYSENTER loads RSP and RIP from MSRs and clears IF', () => {
    const lab = withMsrs(new Lab('compat', 3));
    lab.p.rflags = 0x202;
    expect(lab.run('0f 34').outcome).toBe(JUMPED);
    const { p } = lab;
    expect([p.rip, p.gpr(RSP), p.rflags, p.cpl]).toEqual([0xffff_8000_0000_3000n, 0xffff_8000_0000_2000n, 2, 0]);
    expect(p.segments.map((s) => s.selector).slice(1, 3)).toEqual([0x28, 0x30]);
    expect(p.mode64).toBe(true);
  });

  it('outside IA-32e mode it loads 32 bits and 32-bit code', () => {
    const lab = withMsrs(new Lab('protected', 3));
    lab.run('0f 34');
    expect([lab.p.rip, lab.p.gpr(RSP), lab.p.codeSize]).toEqual([0x3000n, 0x2000n, 32]);
  });

  it.each([
    ['SYSENTER with a null selector', 'long', 3, '0f 34', 0n],
    ['SYSEXIT with a null selector', 'long', 0, '48 0f 35', 3n],
    ['SYSEXIT at level 3', 'long', 3, '48 0f 35', 0x28n],
    ['SYSENTER in real mode', 'real', 0, '0f 34', 0x28n],
  ] as const)('%s → #GP(0)', (_, mode, cpl, code, selector) => {
    const lab = withMsrs(new Lab(mode, cpl));
    lab.p.msrs.set(0x174, selector);
    expect(lab.run(code)).toEqual({ outcome: FAULT, vector: GP, errorCode: 0 });
  });

  it.each([
    [RCX, 'stack'],
    [RDX, 'instruction'],
  ])('SYSEXIT with a non-canonical %i (%s pointer) → #GP(0)', (register) => {
    const lab = withMsrs(new Lab('long'));
    lab.p.setGpr(register, NON_CANONICAL);
    expect(lab.run('48 0f 35').vector).toBe(GP);
  });

  it('SYSEXIT returns to 64-bit code at + 32 or 32-bit code at + 16', () => {
    const lab = withMsrs(new Lab('long'));
    lab.p.setGpr(RCX, 0x7000n);
    lab.p.setGpr(RDX, 0x6000n);
    lab.run('48 0f 35');
    expect([lab.p.rip, lab.p.gpr(RSP), lab.p.cpl]).toEqual([0x6000n, 0x7000n, 3]);
    expect(lab.p.segments.map((s) => s.selector).slice(1, 3)).toEqual([0x4b, 0x53]);
    const narrow = withMsrs(new Lab('protected'));
    narrow.run('0f 35');
    expect(narrow.p.segments.map((s) => s.selector).slice(1, 3)).toEqual([0x3b, 0x43]);
  });
});
