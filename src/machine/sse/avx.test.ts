import { beforeEach, describe, expect, test } from 'vitest';
import '../handlers.ts';
import { EXIT } from '../engine/layout.ts';
import { handleMiss } from '../mmu/miss.ts';
import { DONE, GP, JUMPED, type Outcome } from '../outcome.ts';
import { updateSlowFlags } from '../processor/slow-flags.ts';
import { CR0_TS, CR4_OSXSAVE } from '../processor.ts';
import { fpuAvailable } from '../system/fpu-access.ts';
import { TestProcessor } from '../system/test-processor.ts';

const DATA = 0x8000n;
const RDI = 7;
/** VPADDD xmm0, xmm1, xmm2 and with YMM registers; VADDPS ymm0, ymm1, [rdi]. */
const [PADD128, PADD256, ADD256] = ['c5 f1 fe c2', 'c5 f5 fe c2', 'c5 f4 58 07'] as const;
let t: TestProcessor;

/** Executes an instruction: by generated code, or its handler if that leaves it to TypeScript. */
function run(code: string): Outcome {
  const insn = t.decode(code);
  const { p, machine } = t;
  machine.engine.setCurrentInsn(insn);
  for (;;) {
    const reason = machine.engine.step(p, insn);
    if (reason === EXIT.stop) return DONE;
    if (reason === EXIT.alignment) return p.raise(GP, 0);
    if (reason === EXIT.miss) {
      const outcome = handleMiss(p);
      if (outcome === JUMPED) return DONE;
      if (outcome !== DONE) return outcome;
      continue;
    }
    expect(reason).toBe(EXIT.assist);
    return fpuAvailable(p, 'avx') === DONE ? t.run(code) : p.outcome;
  }
}
const outcome = (code: string): string => t.describe(run(code));

beforeEach(() => {
  t = new TestProcessor().longMode();
  t.p.cr4 |= CR4_OSXSAVE;
  t.p.xcr0 = 7n;
  updateSlowFlags(t.p);
  t.p.setGpr(RDI, DATA);
  for (let n = 0; n < 16; n++) {
    t.p.xmm(n).fill(n + 1);
    t.p.ymmHigh(n).fill(n + 0x21);
  }
});

describe('AVX instructions exist', () => {
  test.each<[string, () => void, string]>([
    ['with XCR0 and CR4.OSXSAVE', () => {}, 'done'],
    ['not without CR4.OSXSAVE', () => void (t.p.cr4 &= ~CR4_OSXSAVE), '#6'],
    ['not with SSE but no AVX in XCR0', () => void (t.p.xcr0 = 3n), '#6'],
    ['and are #NM with CR0.TS', () => void (t.p.cr0 |= CR0_TS), '#7'],
    [
      'where #UD goes before #NM',
      () => {
        t.p.cr0 |= CR0_TS;
        t.p.xcr0 = 3n;
      },
      '#6',
    ],
  ])('%s', (_, change, expected) => {
    change();
    updateSlowFlags(t.p);
    for (const code of [PADD128, PADD256, ADD256]) expect(outcome(code)).toBe(expected);
  });
});

describe('upper halves', () => {
  test('are written by 256-bit instructions, cleared by 128-bit ones, kept by SSE', () => {
    run(PADD256);
    expect([t.p.xmm(0)[0], t.p.ymmHigh(0)[0]]).toEqual([5, 0x45]);
    run('66 0f fe c2'); // PADDD xmm0, xmm2
    expect([t.p.xmm(0)[0], t.p.ymmHigh(0)[0]]).toEqual([8, 0x45]);
    run(PADD128);
    expect([t.p.xmm(0)[0], t.p.ymmHigh(0)[0]]).toEqual([5, 0]);
  });
  test('VZEROUPPER clears all of them, VZEROALL the lower ones, too', () => {
    run('c5 f8 77');
    for (let n = 0; n < 16; n++) expect([t.p.xmm(n)[0], t.p.ymmHigh(n)[15]]).toEqual([n + 1, 0]);
    run('c5 fc 77');
    for (let n = 0; n < 16; n++) expect(t.p.xmm(n)[15]).toBe(0);
  });
});

describe('memory operands', () => {
  test('need alignment only where the instruction says so', () => {
    t.p.setGpr(RDI, DATA + 16n);
    expect(outcome('c5 f5 fe 07')).toBe('done');
    expect(outcome('c5 fe 6f 07')).toBe('done'); // VMOVDQU
    expect(outcome('c5 fd 6f 07')).toBe('#13(0)'); // VMOVDQA
    expect(outcome('c5 fd e7 07')).toBe('#13(0)'); // VMOVNTDQ
    expect(outcome('c5 f9 6f 07')).toBe('done'); // VMOVDQA of 16 bytes
  });
  test('of 32 bytes may cross pages', () => {
    t.p.setGpr(RDI, 0x8ff0n);
    run('c5 fe 7f 0f'); // VMOVDQU [rdi], ymm1
    expect(t.machine.memory.read8(0x8fff)).toBe(2);
    expect(t.machine.memory.read8(0x9000)).toBe(0x22);
    run('c5 fe 6f 1f');
    expect([t.p.xmm(3)[0], t.p.ymmHigh(3)[15]]).toEqual([2, 0x22]);
  });
  test('lanes that a mask leaves out cannot fault', () => {
    t.p.setGpr(RDI, 0x4000_0000n);
    t.p.xmm(1).fill(0);
    expect(outcome('c4 e2 71 2c 07')).toBe('done'); // VMASKMOVPS xmm0, xmm1, [rdi]
    expect(outcome('c4 e2 71 2e 07')).toBe('done');
    t.p.xmm(1)[15] = 0x80;
    expect(outcome('c4 e2 71 2c 07')).toMatch(/^#14/);
  });
  test('a gather that faults keeps what it has, and its mask says what is left', () => {
    t.p.xmm(1).fill(0xff); // mask
    t.p.xmm(2).fill(0);
    t.p.xmm(2).set([0, 0, 0, 0x40], 4); // second index
    expect(outcome('c4 e2 71 90 04 17')).toMatch(/^#14/); // VPGATHERDD xmm0, [rdi + xmm2], xmm1
    expect([...t.p.xmm(1)].map((b) => b & 1)).toEqual([0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
    expect(t.p.xmm(0)[0]).toBe(t.machine.memory.read8(Number(DATA)));
    expect(t.p.xmm(0)[4]).toBe(1);
  });
});
