import { describe, expect, test } from 'vitest';
import { ACTIVE, CR4_PCIDE, CR4_TSD, FLAG_IF, MWAITING } from '../processor.ts';
import { mwaitEnds } from './monitor.ts';
import { TestProcessor } from './test-processor.ts';

describe('time', () => {
  test('RDTSC gives the TSC in EDX:EAX, RDTSCP also TSC_AUX, RDPID only that', () => {
    const t = new TestProcessor().longMode();
    t.machine.clock.retire(0x1_2345_6789);
    t.p.tscAux = 7;
    expect(t.outcome('0f 31')).toBe('done');
    expect([t.p.gpr(0), t.p.gpr(2)]).toEqual([0x2345_6789n, 1n]);
    expect(t.outcome('0f 01 f9')).toBe('done');
    expect(t.p.gpr(1)).toBe(7n);
    expect(t.outcome('f3 0f c7 fb')).toBe('done');
    expect(t.p.gpr(3)).toBe(7n);
  });
  test('CR4.TSD forbids them to users', () => {
    const t = new TestProcessor().longMode();
    t.p.cr4 |= CR4_TSD;
    expect(t.outcome('0f 31')).toBe('done');
    t.cpl(3);
    expect(t.outcome('0f 31')).toBe('#13(0)');
    expect(t.outcome('0f 01 f9')).toBe('#13(0)');
    expect(t.outcome('f3 0f c7 fb')).toBe('done');
  });
  test('RDPMC has no counter', () => {
    expect(new TestProcessor().longMode().outcome('0f 33')).toBe('#13(0)');
  });
});

describe('TLB and cache instructions', () => {
  test.each(['0f 08', '0f 09', 'f3 0f 09', '0f 01 38', '66 0f 38 82 01'])('%s is #GP(0) at CPL 3', (code) => {
    expect(new TestProcessor().longMode().cpl(3).outcome(code)).toBe('#13(0)');
  });
  test('INVLPG of an address that is not canonical does nothing', () => {
    const t = new TestProcessor().longMode();
    t.p.setGpr(0, 0x8000_0000_0000n);
    expect(t.outcome('0f 01 38')).toBe('done');
  });
  test.each<[string, bigint, bigint, bigint, string]>([
    ['type 4', 4n, 0n, 0n, '#13(0)'],
    ['reserved bits of the descriptor', 1n, 1n << 12n, 0n, '#13(0)'],
    ['reserved bits do not matter to type 2', 2n, 1n << 12n, 0n, 'done'],
    ['a PCID without CR4.PCIDE', 1n, 5n, 0n, '#13(0)'],
    ['an address that is not canonical', 0n, 0n, 1n << 56n, '#13(0)'],
    ['an address', 0n, 0n, 0x1000n, 'done'],
  ])('INVPCID: %s', (_name, type, low, high, outcome) => {
    const t = new TestProcessor().longMode();
    t.p.cr4 &= ~CR4_PCIDE;
    t.machine.memory.write64(0x3000, low);
    t.machine.memory.write64(0x3008, high);
    t.p.setGpr(0, type);
    t.p.setGpr(1, 0x3000n);
    expect(t.outcome('66 0f 38 82 01')).toBe(outcome);
  });
});

describe('RDRAND and RDSEED', () => {
  test('set CF, clear the other flags, and differ by seed only', () => {
    const numbers = [1, 2].map(() => {
      const t = new TestProcessor().longMode();
      t.p.rflags = 0x8d7;
      expect(t.outcome('48 0f c7 f0')).toBe('done');
      expect(t.p.rflags & 0x8d5).toBe(1);
      return t.p.gpr(0);
    });
    expect(numbers[0]).toBe(numbers[1]);
    expect(numbers[0]).not.toBe(0n);
  });
  test('16 bits leave the rest of the register', () => {
    const t = new TestProcessor().longMode();
    t.p.setGpr(3, 0x1111_1111_1111_1111n);
    expect(t.outcome('66 0f c7 fb')).toBe('done');
    expect(t.p.gpr(3) >> 16n).toBe(0x1111_1111_1111n);
  });
});

describe('MONITOR and MWAIT', () => {
  const armed = (): TestProcessor => {
    const t = new TestProcessor().longMode();
    t.p.setGpr(0, 0x3010n);
    expect(t.outcome('0f 01 c8')).toBe('done');
    return t;
  };
  test('are undefined to users; reserved bits of ECX fault', () => {
    const t = new TestProcessor().longMode().cpl(3);
    expect(t.outcome('0f 01 c8')).toBe('#6');
    expect(t.outcome('0f 01 c9')).toBe('#6');
    t.cpl(0).p.setGpr(1, 2n);
    expect(t.outcome('0f 01 c8')).toBe('#13(0)');
    expect(t.outcome('0f 01 c9')).toBe('#13(0)');
  });
  test('MWAIT without an armed monitor does not wait', () => {
    const t = new TestProcessor().longMode();
    expect(t.outcome('0f 01 c9')).toBe('done');
    expect(t.p.activity).toBe(ACTIVE);
  });
  test('a store to the line ends the wait', () => {
    const t = armed();
    expect(t.outcome('0f 01 c9')).toBe('done');
    expect(t.p.activity).toBe(MWAITING);
    t.machine.memory.write8(0x3040, 1);
    expect(mwaitEnds(t.p)).toBe(false);
    t.machine.memory.write8(0x303f, 1);
    expect(mwaitEnds(t.p)).toBe(true);
    expect(t.p.activity).toBe(ACTIVE);
  });
  test('a store between MONITOR and MWAIT does so too', () => {
    const t = armed();
    t.machine.memory.write8(0x3000, 1);
    expect(t.outcome('0f 01 c9')).toBe('done');
    expect(t.p.activity).toBe(ACTIVE);
  });
  test('a masked interrupt ends it only if ECX bit 0 says so', () => {
    for (const [ecx, flags, ends] of [
      [0n, 0, false],
      [1n, 0, true],
      [0n, FLAG_IF, true],
    ] as const) {
      const t = armed();
      t.p.flagsRest = flags;
      t.p.setGpr(1, ecx);
      t.run('0f 01 c9');
      t.p.apic.mmioWrite(0xf0, 4, 0x1ff);
      t.p.apic.accept(0, 0x40, false);
      expect(mwaitEnds(t.p)).toBe(ends);
    }
  });
});

describe('MOVDIR64B', () => {
  test('copies 64 bytes to ES:register', () => {
    const t = new TestProcessor().longMode();
    t.p.setGpr(0, 0x4000n);
    t.p.setGpr(1, 0x3001n);
    for (let i = 0; i < 64; i++) t.machine.memory.write8(0x3001 + i, i + 1);
    expect(t.outcome('66 0f 38 f8 01')).toBe('done');
    expect([...t.machine.memory.readBytes(0x4000, 64)]).toEqual(Array.from({ length: 64 }, (_, i) => i + 1));
  });
  test('the destination must be aligned', () => {
    const t = new TestProcessor().longMode();
    t.p.setGpr(0, 0x4020n);
    t.p.setGpr(1, 0x3000n);
    expect(t.outcome('66 0f 38 f8 01')).toBe('#13(0)');
  });
});
