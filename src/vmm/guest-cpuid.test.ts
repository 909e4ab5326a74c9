import { describe, expect, test } from 'vitest';
import { guestCpuid } from './guest-cpuid.ts';
import type { CpuidEntry } from './kvm-api.ts';

const leaf = (fn: number, index: number, registers: Partial<CpuidEntry> = {}): CpuidEntry => ({
  function: fn,
  index,
  flags: index > 0 || fn === 4 ? 1 : 0,
  eax: 0,
  ebx: 0,
  ecx: 0,
  edx: 0,
  ...registers,
});
const shape = (entries: CpuidEntry[], apicId: number, cpus: number, tscDeadline = true) =>
  guestCpuid(entries, { apicId, cpus, tscDeadline });

describe('guest CPUID', () => {
  test('leaf 1 shows the APIC id, a hypervisor, and the deadline timer if KVM has it', () => {
    const [one] = shape([leaf(1, 0, { ebx: 0x0800 })], 3, 4);
    expect(one!.ebx).toBe(0x03040800);
    expect(one!.ecx).toBe(((1 << 31) | (1 << 24)) >>> 0);
    expect(one!.edx).toBe(1 << 28);
    const [alone] = shape([leaf(1, 0, { edx: 1 << 28 })], 0, 1, false);
    expect(alone!.ecx).toBe((1 << 31) >>> 0);
    expect(alone!.edx).toBe(0);
  });

  test.each([
    [1, 0],
    [2, 1],
    [3, 2],
    [4, 2],
    [5, 3],
    [64, 6],
  ])('%i vCPUs are cores of one package whose ids take %i bits', (cpus, bits) => {
    const entries = shape([leaf(0xb, 0), leaf(0x1f, 0), leaf(0x1f, 1)], cpus - 1, cpus);
    for (const fn of [0xb, 0x1f]) {
      const levels = entries.filter((entry) => entry.function === fn);
      expect(levels.map(({ eax, ebx, ecx }) => [eax, ebx, ecx])).toEqual([
        [0, 1, 0x100],
        [bits, cpus, 0x201],
        [0, 0, 2],
      ]);
      expect(levels.every(({ edx, flags }) => edx === cpus - 1 && flags === 1)).toBe(true);
    }
  });

  test('only the third-level cache is shared', () => {
    const caches = shape([leaf(4, 0, { eax: 0x21 }), leaf(4, 3, { eax: 0x63 }), leaf(4, 4)], 0, 4);
    expect(caches.map(({ eax }) => [(eax >>> 14) & 0xfff, eax >>> 26])).toEqual([
      [0, 3],
      [3, 3],
      [0, 0],
    ]);
  });

  test('everything else is as KVM offers it', () => {
    const entry = leaf(0x40000000, 0, { eax: 0x40000001, ebx: 0x4b4d564b });
    expect(shape([entry], 0, 1)).toEqual([entry]);
  });
});
