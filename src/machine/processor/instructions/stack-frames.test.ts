import { describe, expect, it } from 'vitest';
import { RBP, RSP } from '../../engine/layout.ts';
import { BR, DONE, FAULT, GP, SS_FAULT, UD } from '../../outcome.ts';
import { HLT } from '../../processor.ts';
import { DATA, Lab, STACK0 } from '../testing/lab.ts';

describe('PUSHA and POPA', () => {
  it('push all registers with the old ESP, and pop all but ESP', () => {
    const lab = new Lab('protected');
    for (let n = 0; n < 8; n++) if (n !== RSP) lab.p.setGpr(n, BigInt(0x100 + n));
    lab.run('60');
    expect(lab.stack(4, 8)).toEqual([0x107n, 0x106n, 0x105n, BigInt(STACK0), 0x103n, 0x102n, 0x101n, 0x100n]);
    for (let n = 0; n < 8; n++) if (n !== RSP) lab.p.setGpr(n, 0n);
    lab.run('61');
    expect(lab.p.gpr(7)).toBe(0x107n);
    expect(lab.p.gpr(RSP)).toBe(BigInt(STACK0));
  });

  it('PUSHA that does not fit → #SS(0), nothing stored', () => {
    const lab = new Lab('protected');
    lab.p.segments[2]!.limit = 0xff;
    lab.p.setGpr(RSP, 0x11cn);
    const before = lab.snapshot();
    expect(lab.run('60')).toEqual({ outcome: FAULT, vector: SS_FAULT, errorCode: 0 });
    expect(lab.snapshot()).toEqual(before);
  });
});

describe('ENTER', () => {
  it('level 0 pushes rBP and makes room', () => {
    const lab = new Lab('long');
    lab.p.setGpr(RBP, 0x1111n);
    expect(lab.run('c8 20 00 00').outcome).toBe(DONE);
    expect(lab.p.gpr(RBP)).toBe(BigInt(STACK0 - 8));
    expect(lab.p.gpr(RSP)).toBe(BigInt(STACK0 - 0x28));
  });

  it('level 3 copies two frame pointers of the enclosing procedures and adds its own', () => {
    const lab = new Lab('protected');
    lab.p.setGpr(RBP, BigInt(DATA + 0x100));
    lab.machine.memory.write32(DATA + 0xfc, 0xaaaa);
    lab.machine.memory.write32(DATA + 0xf8, 0xbbbb);
    lab.run('c8 00 00 03');
    expect(lab.stack(4, 4)).toEqual([BigInt(STACK0 - 4), 0xbbbbn, 0xaaaan, BigInt(DATA + 0x100)]);
    expect(lab.p.gpr(RBP)).toBe(BigInt(STACK0 - 4));
  });

  it('faults if the final stack pointer cannot be written', () => {
    const lab = new Lab('protected');
    lab.p.segments[2]!.attributes = 0xc097;
    lab.p.segments[2]!.limit = 0xefff;
    const before = lab.snapshot();
    expect(lab.run('c8 00 20 00')).toEqual({ outcome: FAULT, vector: SS_FAULT, errorCode: 0 });
    expect(lab.snapshot()).toEqual(before);
  });
});

describe('BOUND', () => {
  it.each([
    [5, DONE],
    [-3, DONE],
    [-4, FAULT],
    [6, FAULT],
  ])('index %i against [-3, 5]', (index, outcome) => {
    const lab = new Lab('protected');
    lab.machine.memory.write32(DATA, -3);
    lab.machine.memory.write32(DATA + 4, 5);
    lab.p.setGpr32(0, index);
    lab.p.setGpr(3, BigInt(DATA));
    const result = lab.run('62 03');
    expect(result.outcome).toBe(outcome);
    if (outcome === FAULT) expect(result.vector).toBe(BR);
  });
});

it('HLT stops the processor at level 0 only', () => {
  const lab = new Lab('long');
  lab.run('f4');
  expect(lab.p.activity).toBe(HLT);
  expect(new Lab('long', 3).run('f4')).toEqual({ outcome: FAULT, vector: GP, errorCode: 0 });
});

it.each(['0f 0b', '0f b9 c0', '0f ff c0', '0f aa'])('%s is #UD', (code) => {
  expect(new Lab('long').run(code).vector).toBe(UD);
});
