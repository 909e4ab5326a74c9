import { beforeEach, describe, expect, test } from 'vitest';
import '../handlers.ts';
import { FSW, MXCSR, XMM } from '../engine/layout.ts';
import { CR4_OSXMMEXCPT } from '../processor.ts';
import { TestProcessor } from '../system/test-processor.ts';
import { reciprocal, reciprocalRoot } from './approximations.ts';

const DATA = 0x8000n;
const RDI = 7;
let t: TestProcessor;

beforeEach(() => {
  t = new TestProcessor().longMode();
  t.p.setGpr(RDI, DATA);
  t.p.write32(MXCSR, 0x1f80);
});

describe('unmasked exceptions', () => {
  const ADDSS = 'f3 0f 58 c1';
  beforeEach(() => {
    t.p.write32(MXCSR, 0x1f00); // invalid operation unmasked
    t.p.write32(XMM, 0x7f80_0001);
    t.p.write32(XMM + 16, 0x3f80_0000);
  });

  test('are #XM where the system supports it, else #UD', () => {
    t.p.cr4 |= CR4_OSXMMEXCPT;
    expect(t.outcome(ADDSS)).toBe('#19');
    t.p.cr4 &= ~CR4_OSXMMEXCPT;
    expect(t.outcome(ADDSS)).toBe('#6');
  });

  test('leave the destination, and set their flag', () => {
    t.run(ADDSS);
    expect(t.p.read32(XMM)).toBe(0x7f80_0001);
    expect(t.p.read32(MXCSR)).toBe(0x1f01);
  });

  test('masked ones give the quieted NaN', () => {
    t.p.write32(MXCSR, 0x1f80);
    expect(t.outcome(ADDSS)).toBe('done');
    expect(t.p.read32(XMM)).toBe(0x7fc0_0001);
  });
});

describe('memory operands', () => {
  test('whole vectors must be aligned, scalars and string operands need not', () => {
    t.p.setGpr(RDI, DATA + 4n);
    expect(t.outcome('0f 58 07')).toBe('#13(0)');
    expect(t.outcome('f3 0f 58 07')).toBe('done');
    expect(t.outcome('66 0f 3a 63 07 00')).toBe('done');
  });

  test('that cannot be read fault before any flag is set', () => {
    t.p.setGpr(RDI, 0x4000_0000n);
    expect(t.outcome('f3 0f 5e 07')).toMatch(/^#14/);
    expect(t.p.read32(MXCSR)).toBe(0x1f80);
  });
});

test('a pending x87 exception comes before a conversion with an MMX register', () => {
  t.p.write16(FSW, 0x8081);
  expect(t.outcome('0f 2a c1')).toBe('#16');
  expect(t.outcome('f3 0f 58 c1')).toBe('done');
});

describe('approximations', () => {
  const toFloat = (bits: number): number => new Float32Array(Uint32Array.of(bits).buffer)[0]!;
  const toBits = (x: number): number => new Uint32Array(Float32Array.of(x).buffer)[0]!;

  test('stay within 1.5 × 2^-12 of the truth', () => {
    for (let i = 0; i < 4000; i++) {
      const x = Math.fround(2 ** ((i % 200) - 100) * (1 + i / 4000));
      expect(Math.abs(toFloat(reciprocal(toBits(x))) * x - 1)).toBeLessThanOrEqual(1.5 * 2 ** -12);
      expect(Math.abs(toFloat(reciprocalRoot(toBits(x))) * Math.sqrt(x) - 1)).toBeLessThanOrEqual(1.5 * 2 ** -12);
    }
  });

  test('take denormals for zeros', () => {
    expect(reciprocal(0x8000_0001)).toBe(0xff80_0000);
    expect(reciprocal(0x7f00_0000)).toBe(0);
    expect(reciprocalRoot(1)).toBe(0x7f80_0000);
    expect(reciprocalRoot(0xbf80_0000)).toBe(0xffc0_0000);
  });
});
