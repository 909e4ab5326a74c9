import { describe, expect, test } from 'vitest';
import '../isa/index.ts';
import { rows } from '../isa/row.ts';
import { CR4_OSXSAVE } from '../processor.ts';
import { PROFILES, signatureOf } from '../profiles.ts';
import { TestProcessor } from '../system/test-processor.ts';
import { cpuid, hasFeature } from './cpuid.ts';
import { featureBit, featureNames } from './features.ts';

const ascii = (...words: number[]): string =>
  words.map((word) => [0, 8, 16, 24].map((shift) => String.fromCharCode((word >>> shift) & 0xff)).join('')).join('');

describe('CPUID', () => {
  const { p } = new TestProcessor('pc', 3);

  test('the vendor is in EBX, EDX, ECX', () => {
    const { ebx, ecx, edx } = cpuid(p, 0, 0);
    expect(ascii(ebx, edx, ecx)).toBe('GenuineIntel');
  });

  test('the signature holds family, model and stepping with their extensions', () => {
    expect(cpuid(p, 1, 0).eax).toBe(0xa06f3);
    expect(signatureOf({ ...PROFILES.pc, family: 0x1a, model: 0x25, stepping: 3 })).toBe(0x00b20f53);
  });

  test('every offered feature is one bit at its place, and nothing else is set', () => {
    for (const name of featureNames()) {
      if (name === 'osxsave') continue;
      const { leaf, subleaf, register, bit } = featureBit(name);
      expect((cpuid(p, leaf, subleaf)[register] >>> bit) & 1, name).toBe(hasFeature(p, name) ? 1 : 0);
    }
  });

  test('the features that bring instructions are offered', () => {
    const host = new TestProcessor('tdx-host').p;
    for (const { operation } of rows) {
      if (operation.feature !== '') expect(hasFeature(host, operation.feature), operation.mnemonic).toBe(true);
    }
  });

  test('OSXSAVE follows CR4', () => {
    p.cr4 &= ~CR4_OSXSAVE;
    expect((cpuid(p, 1, 0).ecx >>> 27) & 1).toBe(0);
    p.cr4 |= CR4_OSXSAVE;
    expect((cpuid(p, 1, 0).ecx >>> 27) & 1).toBe(1);
  });

  test('the APIC bit goes away with IA32_APIC_BASE.EN, the MONITOR bit with IA32_MISC_ENABLE[18]', () => {
    const t = new TestProcessor();
    t.p.msrs.set(0x1a0, 1n);
    expect(t.p.apic.writeApicBase(0xfee00100n)).toBe(true);
    const { ecx, edx } = cpuid(t.p, 1, 0);
    expect((edx >>> 9) & 1).toBe(0);
    expect((ecx >>> 3) & 1).toBe(0);
  });

  test('the topology leaves count three processors in a package with two id bits', () => {
    const third = new TestProcessor('pc', 3).machine.processors[2]!;
    for (const leaf of [0xb, 0x1f]) {
      expect(cpuid(third, leaf, 0)).toEqual({ eax: 0, ebx: 1, ecx: 0x100, edx: 2 });
      expect(cpuid(third, leaf, 1)).toEqual({ eax: 2, ebx: 3, ecx: 0x201, edx: 2 });
      expect(cpuid(third, leaf, 2)).toEqual({ eax: 0, ebx: 0, ecx: 2, edx: 2 });
    }
    expect(cpuid(third, 1, 0).ebx >>> 16).toBe(0x0204);
  });

  test('crystal clock times ratio is the TSC frequency', () => {
    const { eax, ebx, ecx } = cpuid(p, 0x15, 0);
    expect((ecx * ebx) / eax).toBe(1_000_000_000);
    expect(cpuid(p, 0x16, 0).eax).toBe(1000);
  });

  test('XSAVE sizes: legacy region and header, AVX and PKRU where XCR0 has them', () => {
    p.xcr0 = 3n;
    expect(cpuid(p, 0xd, 0)).toEqual({ eax: 0x207, ebx: 576, ecx: 2696, edx: 0 });
    expect(cpuid(p, 0xd, 1)).toEqual({ eax: 0xf, ebx: 576, ecx: 0, edx: 0 });
    p.xcr0 = 7n;
    expect(cpuid(p, 0xd, 0)).toEqual({ eax: 0x207, ebx: 832, ecx: 2696, edx: 0 });
    expect(cpuid(p, 0xd, 1)).toEqual({ eax: 0xf, ebx: 832, ecx: 0, edx: 0 });
    p.xcr0 = 0x203n;
    expect(cpuid(p, 0xd, 0).ebx).toBe(2696);
    expect(cpuid(p, 0xd, 1).ebx).toBe(584);
    p.xcr0 = 0x207n;
    expect(cpuid(p, 0xd, 1).ebx).toBe(840);
    expect(cpuid(p, 0xd, 9)).toEqual({ eax: 8, ebx: 2688, ecx: 0, edx: 0 });
    expect(cpuid(p, 0xd, 2)).toEqual({ eax: 256, ebx: 576, ecx: 0, edx: 0 });
    expect(cpuid(p, 0xd, 3)).toEqual({ eax: 0, ebx: 0, ecx: 0, edx: 0 });
  });

  test('address widths are 52 and 57 bits', () => {
    expect(cpuid(p, 0x80000008, 0).eax).toBe(0x3934);
  });

  test('the brand string is in three leaves', () => {
    const words = [2, 3, 4].flatMap((n) => {
      const { eax, ebx, ecx, edx } = cpuid(p, 0x80000000 + n, 0);
      return [eax, ebx, ecx, edx];
    });
    expect(ascii(...words).replaceAll('\0', '')).toMatch(/^softvt /);
  });

  test.each([0x20, 0x40000000, 0x7fffffff, 0x80000009, 0xffffffff])(
    'leaf %i is out of range and answers as the largest basic leaf',
    (leaf) => expect(cpuid(p, leaf, 1)).toEqual(cpuid(p, 0x1f, 1)),
  );

  test('a reserved leaf in range is zero', () => {
    expect(cpuid(p, 8, 0)).toEqual({ eax: 0, ebx: 0, ecx: 0, edx: 0 });
  });
});

describe('the instruction', () => {
  test('writes the low halves and clears the upper ones', () => {
    const t = new TestProcessor().longMode();
    for (const n of [0, 1, 2, 3]) t.p.setGpr(n, 0xffff_ffff_0000_0000n);
    expect(t.outcome('0f a2')).toBe('done');
    expect([0, 3, 1, 2].map((n) => t.p.gpr(n))).toEqual([0x1fn, 0x756e6547n, 0x6c65746en, 0x49656e69n]);
  });

  test('CPUID faulting makes it privileged', () => {
    const t = new TestProcessor().longMode();
    t.p.msrs.set(0x140, 1n);
    expect(t.outcome('0f a2')).toBe('done');
    expect(t.cpl(3).outcome('0f a2')).toBe('#13(0)');
  });
});
