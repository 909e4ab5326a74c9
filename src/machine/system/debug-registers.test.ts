import { describe, expect, test } from 'vitest';
import { DR6_BD } from '../processor/events/debug.ts';
import { CR4_DE } from '../processor.ts';
import { TestProcessor } from './test-processor.ts';

/** mov drN, rax and mov rcx, drN. */
const toDr = (n: number): string => `0f 23 ${(0xc0 | (n << 3)).toString(16)}`;
const fromDr = (n: number): string => `0f 21 ${(0xc1 | (n << 3)).toString(16)}`;

function roundTrip(n: number, value: bigint): { outcome: string; value: bigint } {
  const t = new TestProcessor().longMode();
  t.p.setGpr(0, value);
  const outcome = t.outcome(toDr(n));
  t.run(fromDr(n));
  return { outcome, value: t.p.gpr(1) };
}

describe('MOV DR', () => {
  test('DR0 to DR3 hold 64 bits', () => {
    for (const n of [0, 1, 2, 3]) {
      expect(roundTrip(n, 0x1234_5678_9abc_def0n)).toEqual({ outcome: 'done', value: 0x1234_5678_9abc_def0n });
    }
  });

  test('DR6 and DR7 have fixed bits', () => {
    expect(roundTrip(6, 0n)).toEqual({ outcome: 'done', value: 0xffff0ff0n });
    expect(roundTrip(6, 0xffff_ffffn)).toEqual({ outcome: 'done', value: 0xffffefffn });
    expect(roundTrip(7, 0n)).toEqual({ outcome: 'done', value: 0x400n });
    // GD would make the reading fault.
    expect(roundTrip(7, 0xffff_dfffn)).toEqual({ outcome: 'done', value: 0xffff07ffn });
  });

  test.each([6, 7])('the upper half of DR%i cannot be set', (n) => {
    expect(roundTrip(n, 1n << 32n).outcome).toBe('#13(0)');
  });

  test('DR4 and DR5 are DR6 and DR7, unless CR4.DE makes them undefined', () => {
    const t = new TestProcessor().longMode();
    t.p.setGpr(0, 0x4f0n);
    expect(t.outcome(toDr(5))).toBe('done');
    expect(t.p.dr7).toBe(0x4f0);
    t.p.cr4 |= CR4_DE;
    expect(t.outcome(toDr(5))).toBe('#6');
    expect(t.outcome(fromDr(4))).toBe('#6');
  });

  test('DR8 and above are undefined, whoever asks', () => {
    const t = new TestProcessor().longMode().cpl(3);
    expect(t.outcome('44 0f 21 c0')).toBe('#6');
  });

  test('CPL 3 is #GP(0)', () => {
    const t = new TestProcessor().longMode().cpl(3);
    expect(t.outcome(fromDr(0))).toBe('#13(0)');
  });

  test('general detect is #DB with BD, and nothing is written', () => {
    const t = new TestProcessor().longMode();
    t.p.dr7 |= 0x2000;
    t.p.setGpr(0, 5n);
    expect(t.outcome(toDr(0))).toBe('#1');
    expect(t.p.fault.debug).toBe(DR6_BD);
    expect(t.p.dr[0]).toBe(0n);
  });
});
