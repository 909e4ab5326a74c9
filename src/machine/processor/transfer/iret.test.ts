import { describe, expect, it } from 'vitest';
import { CS, DS, RSP, SS } from '../../engine/layout.ts';
import { FAULT, GP, JUMPED, NP, SS_FAULT } from '../../outcome.ts';
import { AR_UNUSABLE, FLAG_IF, FLAG_IOPL, FLAG_NT, FLAG_RF, FLAG_TF } from '../../processor.ts';
import { CODE, Lab, SEL, STACK3 } from '../testing/lab.ts';

const IRETQ = '48 cf';
const IRET = 'cf';
const TARGET = 0x8100n;
const NON_CANONICAL = 0x0000_8000_0000_0000n;

/** A frame of IRETQ, first pushed first. */
interface Frame {
  ss?: number;
  rsp?: bigint;
  flags?: number;
  cs?: number;
  rip?: bigint;
}

function longFrame(lab: Lab, frame: Frame): void {
  const { ss = SEL.dataUser, rsp = BigInt(STACK3), flags = 0x202, cs = SEL.code64User, rip = TARGET } = frame;
  lab.push(8, ss, rsp, flags, cs, rip);
}

describe('IRETQ in 64-bit mode', () => {
  it('returns to level 3: CS, RIP, RFLAGS, SS and RSP come from the stack, data segments of level 0 become null', () => {
    const lab = new Lab('long');
    longFrame(lab, { flags: 0x202 | FLAG_RF });
    expect(lab.run(IRETQ).outcome).toBe(JUMPED);
    const { p } = lab;
    expect(p.rip).toBe(TARGET);
    expect(p.gpr(RSP)).toBe(BigInt(STACK3));
    expect(p.cpl).toBe(3);
    expect(p.rflags).toBe(0x202 | FLAG_RF);
    expect(p.segments[CS]!.selector).toBe(SEL.code64User);
    expect(p.segments[SS]!.selector).toBe(SEL.dataUser);
    expect(p.segments[DS]!.selector).toBe(0);
    expect(p.segments[DS]!.attributes & AR_UNUSABLE).toBe(AR_UNUSABLE);
  });

  it('pops SS and RSP even without a change of level, and a null SS is legal at level 0', () => {
    const lab = new Lab('long');
    longFrame(lab, { ss: 0, rsp: 0x7000n, cs: SEL.code64, flags: 2 });
    expect(lab.run(IRETQ).outcome).toBe(JUMPED);
    expect(lab.p.gpr(RSP)).toBe(0x7000n);
    expect(lab.p.segments[SS]!.selector).toBe(0);
    expect(lab.p.cpl).toBe(0);
  });

  it('returns to compatibility mode with a 32-bit stack pointer', () => {
    const lab = new Lab('long');
    longFrame(lab, { cs: SEL.code32User, rsp: 0x1234n });
    expect(lab.run(IRETQ).outcome).toBe(JUMPED);
    expect(lab.p.codeSize).toBe(32);
    expect(lab.p.gpr(RSP)).toBe(0x1234n);
  });

  const faults: [string, Frame, number, number][] = [
    ['a non-canonical RIP → #GP(0)', { rip: NON_CANONICAL }, GP, 0],
    ['a null CS → #GP(0)', { cs: 3 }, GP, 0],
    ['CS beyond the GDT limit → #GP(selector)', { cs: 0x203 }, GP, 0x200],
    ['CS names data → #GP(selector)', { cs: SEL.dataUser }, GP, 0x20],
    ['CS.RPL differs from a non-conforming DPL → #GP(selector)', { cs: 0x2b }, GP, 0x28],
    ['a null SS for level 3 → #GP(0)', { ss: 3 }, GP, 0],
    ['SS.RPL differs from CS.RPL → #GP(selector)', { ss: 0x20 }, GP, 0x20],
    ['SS.DPL differs from CS.RPL → #GP(selector)', { ss: SEL.data | 3 }, GP, 0x10],
    ['SS is not writable data → #GP(selector)', { ss: SEL.code32User }, GP, 0x18],
    ['CS not present → #NP(selector)', { cs: SEL.free | 3 }, NP, SEL.free],
    ['SS not present → #SS(selector)', { ss: (SEL.free + 8) | 3 }, SS_FAULT, SEL.free + 8],
    ['code with L and D → #GP(selector)', { cs: (SEL.free + 16) | 3 }, GP, SEL.free + 16],
    ['32-bit code and RIP beyond its limit → #GP(0)', { cs: SEL.code32User, rip: 0x1_0000_0000n }, GP, 0],
  ];
  it.each(faults)('%s, state unchanged', (_, frame, vector, errorCode) => {
    const lab = new Lab('long');
    lab.gdt(SEL.free, { type: 0x1b, dpl: 3, long: true, present: false });
    lab.gdt(SEL.free + 8, { type: 0x13, dpl: 3, present: false });
    lab.gdt(SEL.free + 16, { type: 0x1b, dpl: 3, long: true, big: true });
    longFrame(lab, frame);
    const before = lab.snapshot();
    expect(lab.run(IRETQ)).toEqual({ outcome: FAULT, vector, errorCode });
    expect(lab.snapshot()).toEqual(before);
  });

  it('NT set → #GP(0)', () => {
    const lab = new Lab('long');
    longFrame(lab, {});
    lab.p.rflags |= FLAG_NT;
    expect(lab.run(IRETQ)).toEqual({ outcome: FAULT, vector: GP, errorCode: 0 });
  });

  it('a non-canonical RSP → #SS(0)', () => {
    const lab = new Lab('long');
    lab.p.setGpr(RSP, NON_CANONICAL);
    expect(lab.run(IRETQ)).toEqual({ outcome: FAULT, vector: SS_FAULT, errorCode: 0 });
  });

  it('at level 3 with IOPL 0 leaves IF and IOPL alone', () => {
    const lab = new Lab('long', 3);
    lab.p.rflags = 2 | FLAG_IF;
    longFrame(lab, { flags: 2 | FLAG_IOPL | 0x40 });
    expect(lab.run(IRETQ).outcome).toBe(JUMPED);
    expect(lab.p.rflags).toBe(2 | FLAG_IF | 0x40);
  });

  it('to a lower level number → #GP(selector)', () => {
    const lab = new Lab('long', 3);
    longFrame(lab, { cs: SEL.code64 });
    expect(lab.run(IRETQ)).toEqual({ outcome: FAULT, vector: GP, errorCode: SEL.code64 });
  });

  it('unblocks NMIs even if it faults', () => {
    const lab = new Lab('long');
    lab.p.nmiBlocked = true;
    longFrame(lab, { cs: 0 });
    expect(lab.run(IRETQ).outcome).toBe(FAULT);
    expect(lab.p.nmiBlocked).toBe(false);
  });

  it('traced with TF it traps although the new flags have TF clear', () => {
    const lab = new Lab('long');
    longFrame(lab, {});
    lab.p.rflags |= FLAG_TF;
    lab.run(IRETQ);
    expect(lab.p.pendingDebug).toBe(0x4000);
  });
});

describe('IRET in protected mode', () => {
  it('same level pops three doublewords and leaves SS alone', () => {
    const lab = new Lab('protected');
    lab.push(4, 0x46, SEL.code32, Number(TARGET));
    expect(lab.run(IRET).outcome).toBe(JUMPED);
    expect(lab.p.gpr(RSP)).toBe(0x10000n);
    expect(lab.p.rip).toBe(TARGET);
    expect(lab.p.rflags).toBe(0x46);
  });

  it('outer level pops five', () => {
    const lab = new Lab('protected');
    lab.push(4, SEL.dataUser, STACK3, 0x3202, SEL.code32User, Number(TARGET));
    expect(lab.run(IRET).outcome).toBe(JUMPED);
    expect(lab.p.cpl).toBe(3);
    expect(lab.p.gpr(RSP)).toBe(BigInt(STACK3));
    expect(lab.p.rflags).toBe(0x3202);
  });

  it('a 16-bit outer stack loads only SP', () => {
    const lab = new Lab('protected');
    lab.gdt(SEL.free, { type: 0x13, dpl: 3, big: false, limit: 0xffff });
    lab.push(4, SEL.free | 3, 0x12345678, 2, SEL.code32User, Number(TARGET));
    lab.run(IRET);
    expect(lab.p.gpr(RSP)).toBe(0x5678n);
  });

  it('a null SS → #GP(0) even for level 0', () => {
    const lab = new Lab('compat');
    lab.push(4, 0, 0x7000, 2, SEL.code32User, Number(TARGET));
    expect(lab.run(IRET)).toEqual({ outcome: FAULT, vector: GP, errorCode: 0 });
  });

  it('a frame beyond the stack limit → #SS(0)', () => {
    const lab = new Lab('protected');
    lab.p.segments[SS]!.limit = 0xffff;
    lab.push(4, 0);
    expect(lab.run(IRET)).toEqual({ outcome: FAULT, vector: SS_FAULT, errorCode: 0 });
  });

  it('with the 16-bit operand size pops words and keeps RF, AC and ID', () => {
    const lab = new Lab('protected');
    lab.p.rflags = 0x20_0002;
    lab.push(2, 0x46, SEL.code32, 0x8100);
    expect(lab.run('66 cf').outcome).toBe(JUMPED);
    expect(lab.p.rflags).toBe(0x20_0046);
  });

  it('VM in the image at level 0 enters virtual-8086 mode', () => {
    const lab = new Lab('protected');
    lab.push(4, 0x500, 0x400, 0x300, 0x200, 0x100, 0xff0, 0x2_3202, 0x800, 0x10);
    expect(lab.run(IRET).outcome).toBe(JUMPED);
    const { p } = lab;
    expect(p.v86).toBe(true);
    expect(p.cpl).toBe(3);
    expect(p.segments.map((s) => s.selector)).toEqual([0x200, 0x800, 0x100, 0x300, 0x400, 0x500]);
    expect(p.segments[CS]!.base).toBe(0x8000n);
    expect(p.gpr(RSP)).toBe(0xff0n);
  });
});

describe('IRET in real mode', () => {
  it('pops three words and may change IF and IOPL', () => {
    const lab = new Lab('real');
    lab.push(2, 0x3202, 0x800, 0x20);
    expect(lab.run(IRET).outcome).toBe(JUMPED);
    expect(lab.p.rip).toBe(0x20n);
    expect(lab.p.segments[CS]!.base).toBe(0x8000n);
    expect(lab.p.rflags).toBe(0x3202);
  });

  it('an offset beyond the limit → #GP', () => {
    const lab = new Lab('real');
    lab.push(4, 2, 0x800, 0x10000);
    expect(lab.run('66 cf')).toEqual({ outcome: FAULT, vector: GP, errorCode: 0 });
    expect(lab.p.rip).toBe(BigInt(CODE));
  });
});
