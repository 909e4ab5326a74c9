import { describe, expect, test } from 'vitest';
import { Machine } from '../../machine/machine.ts';
import { ATTRIBUTES } from '../objects/tdcs.ts';
import { CPUID_ROWS, cpuidRow, type Registers } from './cpuid-rows.ts';
import { buildCpuid, CPUID_CONFIG_LEAVES, type CpuidParams, cpuidConfigMetadata, nativeCpuid } from './cpuid-table.ts';

const { processors } = new Machine({ processors: 4, ramSize: 1 << 20, profile: 'tdx-host' });
const p = processors[0]!;

/** The host leaves every bit of the processor that it may decide on. */
const fullConfig = (): Registers[] =>
  cpuidConfigMetadata(p).map(({ values: [low, high] }, i) => {
    const { leaf, subleaf } = CPUID_CONFIG_LEAVES[i]!;
    const native = nativeCpuid(p, leaf, subleaf ?? 0);
    const mask = [low & 0xffff_ffffn, low >> 32n, high & 0xffff_ffffn, high >> 32n];
    const of = (r: number): number => Number(BigInt(native[r]!) & mask[r]!);
    return [of(0), of(1), of(2), of(3)];
  });

function withConfig(leaf: number, subleaf: number, registers: Registers): Registers[] {
  const config = fullConfig();
  config[CPUID_CONFIG_LEAVES.indexOf(cpuidRow(leaf, subleaf)!)] = registers;
  return config;
}

const params = (changes: Partial<CpuidParams> = {}): CpuidParams => ({
  attributes: 0n,
  xfam: 3n,
  tscFrequency: 40,
  config: fullConfig(),
  archCapabilities: 0n,
  ...changes,
});

function table(changes: Partial<CpuidParams> = {}): (leaf: number, subleaf?: number) => Registers {
  const built = buildCpuid(p, params(changes));
  if ('error' in built) throw new Error(`${built.error.toString(16)} ${built.details.toString(16)}`);
  return (leaf, subleaf = 0) => built.values[cpuidRow(leaf, subleaf)!.index]!;
}

const wrong = (changes: Partial<CpuidParams>): unknown => buildCpuid(p, params(changes));
/** The row's configuration is refused, and it is named. */
const named = (leaf: number, subleaf: number): unknown => ({
  error: 0xc000_0100_0000_0045n,
  details: (BigInt(subleaf) << 32n) | BigInt(leaf),
});
const text = (...words: number[]): string =>
  words.map((word) => [0, 8, 16, 24].map((shift) => String.fromCharCode((word >>> shift) & 0xff)).join('')).join('');

describe('the table of rows', () => {
  test('has one row for each leaf and subleaf, and fits into TDCS.CPUID_VALUES', () => {
    const keys = CPUID_ROWS.map(({ leaf, subleaf }) => `${leaf}.${subleaf}`);
    expect(new Set(keys).size).toBe(keys.length);
    expect(CPUID_ROWS.length).toBeLessThanOrEqual(80);
    expect(CPUID_ROWS.every(({ index }, i) => index === i)).toBe(true);
  });

  test('finds a row with and without subleaf', () => {
    expect(cpuidRow(1, 77)).toBe(cpuidRow(1, 0));
    expect(cpuidRow(7, 5)).toBeUndefined();
  });

  test('no bit is both the host’s and fixed', () => {
    for (const { one, direct, allow } of CPUID_ROWS) {
      for (let r = 0; r < 4; r++) expect(direct[r]! & (allow[r]! | one[r]!)).toBe(0);
    }
  });
});

describe('configuration', () => {
  test('the configurable bits are named with leaf and subleaf, all ones for none', () => {
    const metadata = cpuidConfigMetadata(p);
    expect(metadata.length).toBeLessThanOrEqual(32);
    expect(metadata[0]!.leaf).toBe(0xffff_ffff_0000_0001n);
    expect(metadata.map(({ leaf }) => leaf)).toContain(0x7n);
  });

  test('a bit of the processor is configurable only where the processor has it', () => {
    const index = CPUID_CONFIG_LEAVES.indexOf(cpuidRow(7, 0)!);
    const ebx = Number(cpuidConfigMetadata(p)[index]!.values[0] >> 32n);
    expect(ebx & ~nativeCpuid(p, 7, 0)[1]).toBe(0);
    expect(ebx & (1 << 3)).not.toBe(0);
  });

  test('a bit outside is an error that names the leaf', () => {
    expect(wrong({ config: withConfig(7, 0, [0, 1 << 2, 0, 0]) })).toEqual(named(7, 0));
    expect(wrong({ config: withConfig(1, 0, [0, 0, 1 << 5, 0]) })).toEqual(named(1, 0xffff_ffff));
  });

  test('one that the processor lacks may be asked for, and stays 0', () => {
    const AVX512F = 1 << 16;
    expect(nativeCpuid(p, 7, 0)[1] & AVX512F).toBe(0);
    expect(table({ config: withConfig(7, 0, [0, AVX512F, 0, 0]) })(7)[1] & AVX512F).toBe(0);
  });

  test('TSX: both bits or none, which they are on a processor without it', () => {
    const [HLE, RTM] = [1 << 4, 1 << 11];
    expect(table({ config: withConfig(7, 0, [0, HLE, 0, 0]) })(7)[1] & (HLE | RTM)).toBe(0);
    const features = cpuidRow(7, 0)!.allow[1];
    expect(features & (HLE | RTM)).toBe(HLE | RTM);
  });

  test('the width of linear addresses is what LA57 says', () => {
    const la57 = table({
      config: withConfig(7, 0, nativeCpuid(p, 7, 0).map((_, i) => (i === 2 ? 1 << 16 : 0)) as unknown as Registers),
    });
    expect((la57(0x8000_0008)[0] >>> 8) & 0xff).toBe(la57(7)[2] & (1 << 16) ? 57 : 48);
  });

  test('family, model and stepping are the processor’s, or 0 for them', () => {
    const native = nativeCpuid(p, 1, 0)[0];
    expect(table({ config: withConfig(1, 0, [0, 0, 0, 0]) })(1)[0]).toBe(native);
    expect(table({ config: withConfig(1, 0, [native, 0, 0, 0]) })(1)[0]).toBe(native);
    expect(wrong({ config: withConfig(1, 0, [native ^ 0x10, 0, 0, 0]) })).toEqual(named(1, 0xffff_ffff));
  });

  test('the host may leave out a feature, and decides about counts', () => {
    const none = table({ config: withConfig(7, 0, [0, 0, 0, 0]) });
    expect(none(7)[1] & (1 << 3)).toBe(0);
    expect(table()(7)[1] & (1 << 3)).not.toBe(0);
    expect(table({ config: withConfig(1, 0, [0, 0x30000, 0, 0]) })(1)[1]).toBe(0x30800);
  });

  test('without any configuration the TD has what cannot be left out', () => {
    const built = table({ config: [] });
    expect(built(1)[2] & (1 << 31)).not.toBe(0);
    expect(built(1)[3] & (1 << 25)).not.toBe(0);
    expect(built(1)[2] & (1 << 24)).toBe(0);
  });
});

describe('a TD’s CPUID', () => {
  const cpuid = table();

  test('leaf 21 says IntelTDX', () => {
    const [eax, ebx, ecx, edx] = cpuid(0x21);
    expect([eax, text(ebx, edx, ecx)]).toEqual([0, 'IntelTDX    ']);
  });

  test('largest leaves are 23 and 80000008, and the vendor is the processor’s', () => {
    const [eax, ebx, ecx, edx] = cpuid(0);
    expect([eax, text(ebx, edx, ecx)]).toEqual([0x23, 'GenuineIntel']);
    expect(cpuid(0x8000_0000)[0]).toBe(0x8000_0008);
  });

  test('there is a hypervisor, an APIC, no VMX; OSXSAVE and the APIC id are filled in later', () => {
    const [, ebx, ecx, edx] = cpuid(1);
    expect(ecx & ((1 << 31) | (1 << 5) | (1 << 27))).toBe(1 << 31);
    expect(edx & (1 << 9)).not.toBe(0);
    expect(ebx >>> 24).toBe(0);
  });

  test('what the host does not decide is the processor’s', () => {
    const native = nativeCpuid(p, 1, 0);
    for (const bit of [0, 13, 19, 20, 23, 25, 26, 30]) expect((cpuid(1)[2] >>> bit) & 1).toBe((native[2] >>> bit) & 1);
    expect(cpuid(0x8000_0008)[0]).toBe(0x3934);
    expect(cpuid(0x8000_0007)[3]).toBe(0x100);
  });

  test('linear addresses have 48 bits where the host takes LA57 away', () => {
    const without = table({ config: withConfig(7, 0, [0, 0, 0, 0]) });
    expect(without(7)[2] & (1 << 16)).toBe(0);
    expect(without(0x8000_0008)[0]).toBe(0x3034);
  });

  test('the TSC counts as configured, on a crystal of 25 MHz', () => {
    expect(cpuid(0x15)).toEqual([1, 40, 25_000_000, 0]);
    expect(table({ tscFrequency: 100 })(0x15)[1]).toBe(100);
  });

  test('extended state follows XFAM', () => {
    expect(cpuid(0xd, 0)).toEqual([3, 0, 576, 0]);
    expect(cpuid(0xd, 1)).toEqual([0xf, 0, 0, 0]);
    for (let n = 2; n <= 18; n++) expect(cpuid(0xd, n)).toEqual([0, 0, 0, 0]);
  });

  test('without performance monitoring, key locker, trace, AMX and LBR their leaves are zeros', () => {
    for (const [leaf, subleaf] of [
      [0xa, 0],
      [0x14, 0],
      [0x14, 1],
      [0x19, 0],
      [0x1c, 0],
      [0x1d, 0],
      [0x1e, 0],
      [0x23, 0],
      [0x23, 1],
    ] as const) {
      expect(cpuid(leaf, subleaf)).toEqual([0, 0, 0, 0]);
    }
  });

  test('leaf 5 goes with MONITOR', () => {
    expect(cpuid(5)[0]).toBe(64);
    expect(table({ config: withConfig(1, 0, [0, 0, 0, 0]) })(5)).toEqual([0, 0, 0, 0]);
  });

  test('protection keys for supervisor pages need their attribute', () => {
    expect(table({ attributes: ATTRIBUTES.PKS })(7)[2] & (1 << 31)).toBe(0);
  });

  test('leaves that always fault are invalid, the others valid', () => {
    const built = buildCpuid(p, params());
    if ('error' in built) throw new Error('wrong');
    expect(built.valid[cpuidRow(6, 0)!.index]).toBe(false);
    expect(built.valid[cpuidRow(0x8000_0006, 0)!.index]).toBe(false);
    expect(built.valid[cpuidRow(1, 0)!.index]).toBe(true);
    expect(built.valid[cpuidRow(0x1f, 0)!.index]).toBe(true);
  });
});

describe('topology', () => {
  const levels = (...registers: Registers[]): Registers[] => {
    const config = fullConfig();
    for (let i = 0; i < 6; i++) config[CPUID_CONFIG_LEAVES.indexOf(cpuidRow(0x1f, i)!)] = registers[i] ?? [0, 0, 0, 0];
    return config;
  };

  test('left out, it is the processor’s', () => {
    const cpuid = table({ config: levels() });
    expect(cpuid(0x1f, 0)).toEqual([0, 1, 0x100, 0]);
    expect(cpuid(0x1f, 1)).toEqual([2, 4, 0x201, 0]);
    expect(cpuid(0x1f, 2)).toEqual([0, 0, 2, 0]);
  });

  test('as configured, with subleaf numbers; leaf B ends at the package', () => {
    const cpuid = table({ config: levels([1, 2, 0x100, 0], [3, 8, 0x200, 0], [5, 32, 0x500, 0]) });
    expect(cpuid(0x1f, 1)).toEqual([3, 8, 0x201, 0]);
    expect(cpuid(0x1f, 2)).toEqual([5, 32, 0x502, 0]);
    expect(cpuid(0x1f, 3)).toEqual([0, 0, 3, 0]);
    expect(cpuid(0xb, 0)).toEqual([1, 2, 0x100, 0]);
    expect(cpuid(0xb, 1)).toEqual([5, 32, 0x201, 0]);
  });

  test('levels must ascend, without a gap, and one is of cores', () => {
    const refused = { error: 0xc000_0904_0000_0000n, details: 0n };
    expect(wrong({ config: levels([3, 8, 0x200, 0], [1, 2, 0x100, 0]) })).toEqual(refused);
    expect(wrong({ config: levels([1, 2, 0x100, 0], [0, 0, 0, 0], [3, 8, 0x200, 0]) })).toEqual(refused);
    expect(wrong({ config: levels([1, 2, 0x100, 0], [3, 8, 0x300, 0]) })).toEqual(refused);
    expect(wrong({ config: levels([0, 0, 0, 0], [3, 8, 0x200, 0]) })).toEqual(refused);
    expect(wrong({ config: levels([3, 8, 0x200, 0], [5, 32, 0x600, 0]) })).toEqual(refused);
  });

  test('without a level of threads leaf B begins with the cores', () => {
    const cpuid = table({ config: levels([3, 8, 0x200, 0], [5, 32, 0x500, 0]) });
    expect([cpuid(0xb, 0), cpuid(0xb, 1)]).toEqual([
      [5, 32, 0x200, 0],
      [0, 0, 1, 0],
    ]);
  });
});
