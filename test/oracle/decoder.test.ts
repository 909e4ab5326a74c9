import { describe, expect, test } from 'vitest';
import { Random } from '../../src/util/random.ts';
import { judge, type Verdict } from './iced.ts';

const COUNT = Number(process.env['ORACLE_CASES'] ?? 30_000);
const SEED = Number(process.env['ORACLE_SEED'] ?? 0);

/** The instruction sets that the tables have in full; what iced finds beyond them is not ours yet. */
const OURS = new Set(
  `ADX AES AVX AVX2 BMI1 BMI2 CLFLUSHOPT CLFSH CLWB CMOV CMPXCHG16B CPUID CX8 F16C FMA FPU FPU287 FPU387 FSGSBASE FXSR INTEL186 INTEL286 INTEL386
  INTEL486 INTEL8086 INVPCID LZCNT MMX MONITOR MOVBE MOVDIR64B MOVDIRI MSR MULTIBYTENOP PAUSE PCLMULQDQ POPCNT PREFETCHW RDPID RDPMC
  RDRAND RDSEED RDTSCP SEP SERIALIZE SHA SMAP SMM SSE SSE2 SSE3 SSE4_1 SSE4_2 SSSE3 SYSCALL TSC VMX WBNOINVD X64 XSAVE XSAVEC XSAVEOPT XSAVES`.split(
    /\s+/,
  ),
);
const PREFIXES = [0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x64, 0x65];

function randomBytes(random: Random, mode: number): Uint8Array {
  const bytes: number[] = [];
  for (let n = random.below(4); n > 0; n--) bytes.push(PREFIXES[random.below(PREFIXES.length)]!);
  if (mode === 64 && random.below(3) === 0) bytes.push(0x40 + random.below(16));
  const kind = random.below(7);
  if (kind === 1 || kind === 2) bytes.push(0x0f);
  else if (kind === 3) bytes.push(0x0f, 0x38);
  else if (kind === 4) bytes.push(0x0f, 0x3a);
  else if (kind === 5) bytes.push(0xc4 + random.below(2), random.u32() & 0xe3);
  while (bytes.length < 20) bytes.push(random.u32() & 0xff);
  return Uint8Array.from(bytes);
}

/** Differences that are meant. */
function meant({ ours, theirs, difference, features }: Verdict, mode: number): boolean {
  if (typeof ours === 'string') {
    // Outside 64-bit mode Intel's processors have neither.
    if (mode !== 64 && (theirs === 'Syscall' || theirs === 'Sysret')) return true;
    return !features.every((feature) => OURS.has(feature));
  }
  // Registers that do not exist are found by the handlers, after VM exits that go first.
  return difference === 'not an instruction' && /^MOV_(TO|FROM)_([CD]R|SREG)$/.test(ours.row.operation.mnemonic);
}

describe.each([16, 32, 64] as const)('the decoder and iced-x86 on random bytes', (mode) => {
  test(`${mode}-bit code: the same instructions, lengths and memory operands`, () => {
    const random = new Random(SEED + mode);
    const wrong: string[] = [];
    let valid = 0;
    for (let i = 0; i < COUNT; i++) {
      const bytes = randomBytes(random, mode);
      const verdict = judge(bytes, mode);
      if (typeof verdict.ours !== 'string') valid++;
      if (verdict.difference === '' || meant(verdict, mode)) continue;
      const ours = typeof verdict.ours === 'string' ? '' : verdict.ours.row.operation.mnemonic;
      wrong.push(
        `${Buffer.from(bytes).toString('hex')}: ${verdict.difference} ${ours} ${verdict.theirs} ${verdict.features}`,
      );
    }
    expect(wrong).toEqual([]);
    expect(valid).toBeGreaterThan(COUNT / 4);
  });
});
