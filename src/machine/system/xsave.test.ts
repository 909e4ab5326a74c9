import { describe, expect, test } from 'vitest';
import { FIP, MXCSR } from '../engine/layout.ts';
import { CR0_EM, CR0_TS, CR4_OSXSAVE } from '../processor.ts';
import { TestProcessor } from './test-processor.ts';

const AREA = 0x5000;
const COMPACTED = 1n << 63n;
const [XSAVE, XSAVEOPT, XSAVEC, XSAVES] = ['0f ae 21', '0f ae 31', '0f c7 21', '0f c7 29'] as const;
const [XRSTOR, XRSTORS, FXSAVE, FXRSTOR] = ['0f ae 29', '0f c7 19', '0f ae 01', '0f ae 09'] as const;
const WIDE = '48 ';

/** 64-bit mode, both components enabled, RCX at the area, EDX:EAX asking for `asked`, the area full of A5 with a zero header. */
function prepared(asked = 3n): TestProcessor {
  const t = new TestProcessor().longMode();
  t.p.xcr0 = 3n;
  t.p.setGpr(1, BigInt(AREA));
  t.p.setGpr(0, asked);
  t.p.setGpr(2, 0n);
  // As FNINIT and a processor's reset leave them.
  t.machine.memory.fill(0x6000, 1024);
  t.p.setGpr(3, 0x6000n);
  t.p.setGpr(0, 3n);
  expect(t.outcome('0f ae 2b')).toBe('done');
  t.p.setGpr(0, asked);
  t.p.write32(MXCSR, 0x1f80);
  t.machine.memory.fill(AREA, 1024, 0xa5);
  t.machine.memory.fill(AREA + 512, 64);
  return t;
}
const header = (t: TestProcessor): [bigint, bigint] => [
  t.machine.memory.read64(AREA + 512),
  t.machine.memory.read64(AREA + 520),
];
const untouched = (t: TestProcessor, from: number, to: number): boolean =>
  t.machine.memory.readBytes(AREA + from, to - from).every((byte) => byte === 0xa5);

describe('FXSAVE and FXRSTOR', () => {
  test('round trip of registers, pointers and MXCSR', () => {
    const t = prepared();
    t.p.xmm(15).fill(0x5a);
    t.p.write32(MXCSR, 0x1fbf);
    t.p.write64(FIP, 0x7fff_1234_5678n);
    expect(t.outcome(WIDE + FXSAVE)).toBe('done');
    expect(untouched(t, 416, 512)).toBe(true);
    t.p.xmm(15).fill(0);
    t.p.write32(MXCSR, 0);
    t.p.write64(FIP, 0n);
    expect(t.outcome(WIDE + FXRSTOR)).toBe('done');
    expect([...t.p.xmm(15)]).toEqual(Array(16).fill(0x5a));
    expect(t.p.read32(MXCSR)).toBe(0x1fbf);
    expect(t.p.read64(FIP)).toBe(0x7fff_1234_5678n);
  });
  test('outside 64-bit mode XMM8 to XMM15 are neither saved nor loaded', () => {
    const t = new TestProcessor().protectedMode();
    t.machine.memory.fill(AREA, 512, 0xa5);
    t.machine.memory.write32(AREA + 24, 0x1f80);
    t.p.setGpr(1, BigInt(AREA));
    t.p.xmm(8).fill(1);
    expect(t.outcome(FXRSTOR)).toBe('done');
    expect(t.p.xmm(8)[0]).toBe(1);
    expect(t.p.xmm(7)[0]).toBe(0xa5);
    expect(t.outcome(FXSAVE)).toBe('done');
    expect(untouched(t, 288, 512)).toBe(true);
  });
  test.each<[string, (t: TestProcessor) => void, string]>([
    ['CR0.TS', (t) => (t.p.cr0 |= CR0_TS), '#7'],
    ['CR0.EM', (t) => (t.p.cr0 |= CR0_EM), '#7'],
    ['an address that is not a multiple of 16', (t) => t.p.setGpr(1, BigInt(AREA + 8)), '#13(0)'],
    ['a page that is not there', (t) => t.p.setGpr(1, 0x4000_0000n), '#14(0)'],
    ['reserved bits of MXCSR', (t) => t.machine.memory.write32(AREA + 24, 0x10000), '#13(0)'],
  ])('FXRSTOR faults for %s', (_name, spoil, outcome) => {
    const t = prepared();
    t.machine.memory.write32(AREA + 24, 0x1f80);
    spoil(t);
    expect(t.outcome(FXRSTOR)).toBe(outcome);
  });
  test('ES and B follow from unmasked exceptions', () => {
    const t = prepared();
    t.machine.memory.fill(AREA, 512);
    t.machine.memory.write16(AREA, 0x37e);
    t.machine.memory.write16(AREA + 2, 1);
    expect(t.outcome(FXRSTOR)).toBe('done');
    expect(t.outcome(FXSAVE)).toBe('done');
    expect(t.machine.memory.read16(AREA + 2)).toBe(0x8081);
  });
});

describe('saving', () => {
  test('XSAVE writes all that is asked for and marks what is in use; the rest of XSTATE_BV stays', () => {
    const t = prepared(2n);
    t.machine.memory.write64(AREA + 512, 0x5n);
    t.p.xmm(0)[0] = 1;
    expect(t.outcome(XSAVE)).toBe('done');
    expect(header(t)).toEqual([0x7n, 0n]);
    expect(untouched(t, 0, 24)).toBe(true);
    expect(t.machine.memory.read32(AREA + 24)).toBe(0x1f80);
    expect(t.machine.memory.read32(AREA + 28)).toBe(0xffff);
    expect(untouched(t, 32, 160)).toBe(true);
    expect(t.machine.memory.read8(AREA + 160)).toBe(1);
  });
  test('XSAVEOPT skips what is initial, but MXCSR is always there', () => {
    const t = prepared();
    expect(t.outcome(XSAVEOPT)).toBe('done');
    expect(header(t)).toEqual([0n, 0n]);
    expect(untouched(t, 0, 24)).toBe(true);
    expect(t.machine.memory.read32(AREA + 24)).toBe(0x1f80);
    expect(untouched(t, 160, 416)).toBe(true);
  });
  test.each([XSAVEC, XSAVES])('%s writes the compacted format with what is in use only', (code) => {
    const t = prepared(0xffn);
    t.machine.memory.write64(AREA + 512, 0xffn);
    expect(t.outcome(code)).toBe('done');
    expect(header(t)).toEqual([0n, COMPACTED | 3n]);
    expect(untouched(t, 0, 512)).toBe(true);
    t.p.write32(MXCSR, 0x1f81);
    expect(t.outcome(code)).toBe('done');
    expect(header(t)).toEqual([2n, COMPACTED | 3n]);
    expect(t.machine.memory.read32(AREA + 24)).toBe(0x1f81);
  });
  test('components that XCR0 disables are not saved', () => {
    const t = prepared();
    t.p.xcr0 = 1n;
    expect(t.outcome(XSAVEC)).toBe('done');
    expect(header(t)[1]).toBe(COMPACTED | 1n);
  });
  test('a page that cannot be written faults before anything is', () => {
    const t = prepared();
    // The header lies beyond the mapped 4 MiB.
    t.p.setGpr(1, 0x40_0000n - 512n);
    expect(t.outcome(XSAVE)).toBe('#14(0)');
    expect(t.outcome(XSAVEC)).toBe('#14(2)');
    expect(t.machine.memory.read32(0x40_0000 - 512 + 24)).toBe(0);
  });
});

describe('restoring', () => {
  test('components that are not present become initial', () => {
    const t = prepared();
    t.p.xmm(3).fill(7);
    t.machine.memory.write32(AREA + 24, 0x1fff);
    expect(t.outcome(XRSTOR)).toBe('done');
    expect(t.p.xmm(3)[0]).toBe(0);
    // The standard format loads MXCSR all the same; the compacted one makes it initial.
    expect(t.p.read32(MXCSR)).toBe(0x1fff);
    t.machine.memory.write64(AREA + 520, COMPACTED | 2n);
    expect(t.outcome(XRSTORS)).toBe('done');
    expect(t.p.read32(MXCSR)).toBe(0x1f80);
  });
  test.each<[string, string, bigint, bigint, bigint, string]>([
    ['a component that XCR0 disables', XRSTOR, 4n, 0n, 0n, '#13(0)'],
    ['XCOMP_BV without its bit 63', XRSTOR, 0n, 1n, 0n, '#13(0)'],
    ['bytes 23:16 not zero', XRSTOR, 0n, 0n, 1n, '#13(0)'],
    ['a compacted component that XCR0 disables', XRSTOR, 0n, COMPACTED | 4n, 0n, '#13(0)'],
    ['a compacted component that the layout lacks', XRSTOR, 2n, COMPACTED | 1n, 0n, '#13(0)'],
    ['the compacted format', XRSTOR, 1n, COMPACTED | 3n, 0n, '#13(0)'],
    ['XRSTORS of the standard format', XRSTORS, 0n, 0n, 0n, '#13(0)'],
  ])('the header check fails for %s', (_name, code, present, layout, reserved, outcome) => {
    const t = prepared();
    t.machine.memory.write32(AREA + 24, 0x1f80);
    t.machine.memory.write64(AREA + 512, present);
    t.machine.memory.write64(AREA + 520, layout);
    t.machine.memory.write64(AREA + 528, reserved);
    if (_name === 'the compacted format') t.machine.memory.write64(AREA + 568, 1n);
    expect(t.outcome(code)).toBe(outcome);
  });
  test('reserved bits of MXCSR fault only if it is loaded', () => {
    const t = prepared(1n);
    t.machine.memory.write32(AREA + 24, 0x10000);
    expect(t.outcome(XRSTOR)).toBe('done');
    t.p.setGpr(0, 2n);
    expect(t.outcome(XRSTOR)).toBe('#13(0)');
  });
});

describe('availability', () => {
  test.each([XSAVE, XSAVEOPT, XSAVEC, XSAVES, XRSTOR, XRSTORS])('%s: #UD, #NM, alignment', (code) => {
    const t = prepared();
    t.p.setGpr(1, BigInt(AREA + 16));
    expect(t.outcome(code)).toBe('#13(0)');
    t.p.cr0 |= CR0_TS;
    expect(t.outcome(code)).toBe('#7');
    t.p.cr4 &= ~CR4_OSXSAVE;
    expect(t.outcome(code)).toBe('#6');
  });
  test('XSAVES and XRSTORS are for CPL 0', () => {
    const t = prepared().cpl(3);
    expect(t.outcome(XSAVES)).toBe('#13(0)');
    expect(t.outcome(XRSTORS)).toBe('#13(0)');
    expect(t.outcome(XSAVEC)).toBe('done');
  });
});

describe('the AVX component', () => {
  /** With upper halves of YMM1 and YMM15 that are not zero. */
  function withAvx(asked = 7n): TestProcessor {
    const t = prepared(asked);
    t.p.xcr0 = 7n;
    t.p.ymmHigh(1).fill(0x11);
    t.p.ymmHigh(15).fill(0xff);
    return t;
  }
  const YMM = 576;
  test.each([XSAVE, XSAVEOPT, XSAVEC, XSAVES])('is stored behind the header, and comes back: %s', (save) => {
    const t = withAvx();
    expect(t.outcome(save)).toBe('done');
    expect(header(t)[0] & 4n).toBe(4n);
    expect(t.machine.memory.read8(AREA + YMM + 16)).toBe(0x11);
    expect(t.machine.memory.read8(AREA + YMM + 255)).toBe(0xff);
    t.p.ymmHigh(1).fill(0);
    t.p.ymmHigh(2).fill(3);
    expect(t.outcome(XRSTOR)).toBe('done');
    expect([t.p.ymmHigh(1)[0], t.p.ymmHigh(2)[0], t.p.ymmHigh(15)[15]]).toEqual([0x11, 0, 0xff]);
  });
  test('in its initial configuration only XSAVE stores it; it is initial after XRSTOR where it is not present', () => {
    for (const save of [XSAVE, XSAVEOPT, XSAVEC]) {
      const t = withAvx();
      t.p.ymmHigh(1).fill(0);
      t.p.ymmHigh(15).fill(0);
      expect(t.outcome(save)).toBe('done');
      expect(header(t)[0] & 4n).toBe(0n);
      expect(untouched(t, YMM, YMM + 256)).toBe(save !== XSAVE);
      t.p.ymmHigh(7).fill(1);
      expect(t.outcome(XRSTOR)).toBe('done');
      expect(t.p.ymmHigh(7)[0]).toBe(0);
    }
  });
  test('XCR0 without it: neither stored nor loaded nor initialized', () => {
    const t = withAvx();
    t.p.xcr0 = 3n;
    expect(t.outcome(XSAVEC)).toBe('done');
    expect(header(t)).toEqual([0n, COMPACTED | 3n]);
    expect(t.outcome(XRSTOR)).toBe('done');
    expect(t.p.ymmHigh(1)[0]).toBe(0x11);
  });
  test('the standard format needs MXCSR to be right for AVX alone, too', () => {
    const t = withAvx(4n);
    t.machine.memory.write32(AREA + 24, 0x10000);
    expect(t.outcome(XRSTOR)).toBe('#13(0)');
    t.machine.memory.write32(AREA + 24, 0x1fbf);
    expect(t.outcome(XRSTOR)).toBe('done');
    expect(t.p.read32(MXCSR)).toBe(0x1fbf);
  });
});

describe('XGETBV and XSETBV', () => {
  test.each<[string, bigint, bigint, string]>([
    ['x87 alone', 0n, 1n, 'done'],
    ['x87 and SSE', 0n, 3n, 'done'],
    ['without x87', 0n, 2n, '#13(0)'],
    ['AVX with SSE', 0n, 7n, 'done'],
    ['AVX without SSE', 0n, 5n, '#13(0)'],
    ['AVX-512, which is not offered', 0n, 0xe7n, '#13(0)'],
    ['XCR1', 1n, 1n, '#13(0)'],
  ])('XSETBV: %s', (_name, index, value, outcome) => {
    const t = prepared(value);
    t.p.setGpr(1, index);
    expect(t.outcome('0f 01 d1')).toBe(outcome);
    expect(t.p.xcr0).toBe(outcome === 'done' ? value : 3n);
  });
  test('XGETBV 0 is XCR0, 1 the components in use', () => {
    const t = prepared();
    t.p.setGpr(1, 0n);
    expect(t.outcome('0f 01 d0')).toBe('done');
    expect(t.p.gpr(0)).toBe(3n);
    t.p.xmm(9)[3] = 1;
    t.p.setGpr(1, 1n);
    expect(t.outcome('0f 01 d0')).toBe('done');
    expect(t.p.gpr(0)).toBe(2n);
    t.p.setGpr(1, 2n);
    expect(t.outcome('0f 01 d0')).toBe('#13(0)');
  });
  test('XSETBV is privileged, XGETBV is not', () => {
    const t = prepared().cpl(3);
    t.p.setGpr(1, 0n);
    expect(t.outcome('0f 01 d1')).toBe('#13(0)');
    expect(t.outcome('0f 01 d0')).toBe('done');
  });
});
