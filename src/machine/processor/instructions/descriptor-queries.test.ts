import { describe, expect, it } from 'vitest';
import { RAX, RBX } from '../../engine/layout.ts';
import { UD } from '../../outcome.ts';
import { FLAG_ZF } from '../../processor.ts';
import { Lab, type LabMode, SEL, TSS } from '../testing/lab.ts';

const LAR = '0f 02 c3';
const LSL = '0f 03 c3';
const VERR = '0f 00 e3';
const VERW = '0f 00 eb';

/** Runs a query of the selector in BX. */
function ask(mode: LabMode, cpl: 0 | 3, code: string, selector: number): { zf: boolean; rax: bigint } {
  const lab = new Lab(mode, cpl);
  lab.gdt(0x80, { type: 0x19, dpl: 3 });
  lab.gdt(0x88, { type: 0x1f });
  lab.gdt(0x90, { type: 0x09, base: TSS, limit: 0x67, dpl: 3, big: false });
  lab.gdt(0x98, 0n);
  lab.gdt(0xa0, { type: 0x0e, dpl: 3, big: false });
  lab.gdt(0xa8, { type: 0x11, dpl: 3, limit: 0x1_0fff });
  lab.gdt(0xb0, { type: 0x05, dpl: 3, big: false });
  lab.p.setGpr(RAX, 0x5555n);
  lab.p.setGpr(RBX, BigInt(selector));
  lab.run(code);
  return { zf: (lab.p.rflags & FLAG_ZF) !== 0, rax: lab.p.gpr(RAX) };
}

describe.each([
  ['LAR', LAR, SEL.dataUser, 'long', 3, 0xcf_f300n],
  ['LAR of a TSS', LAR, 0x93, 'long', 3, 0xe900n],
  ['LAR of a more privileged segment', LAR, SEL.data, 'long', 3, null],
  ['LAR with a weak RPL', LAR, SEL.data | 3, 'long', 0, null],
  ['LAR of conforming code of level 0', LAR, 0x8b, 'long', 3, 0xcf_9f00n],
  ['LAR of an interrupt gate', LAR, 0xa3, 'long', 3, null],
  ['LAR of a task gate in legacy mode', LAR, 0xb3, 'protected', 3, 0x8f_e500n],
  ['LAR of a task gate in IA-32e mode', LAR, 0xb3, 'long', 3, null],
  ['LAR of null', LAR, 3, 'long', 3, null],
  ['LAR beyond the limit', LAR, 0x203, 'long', 3, null],
  ['LSL in bytes', LSL, 0xab, 'long', 3, 0x1_0fffn],
  ['LSL in pages', LSL, SEL.dataUser, 'long', 3, 0xffff_ffffn],
  ['LSL of a TSS', LSL, 0x93, 'long', 3, 0x67n],
  ['LSL of a task gate', LSL, 0xb3, 'protected', 3, null],
  ['VERR of execute-only code', VERR, 0x83, 'long', 3, null],
  ['VERR of read-only data', VERR, 0xab, 'long', 3, 0x5555n],
  ['VERW of read-only data', VERW, 0xab, 'long', 3, null],
  ['VERW of writable data', VERW, SEL.dataUser, 'long', 3, 0x5555n],
  ['VERR of level-0 data at level 3', VERR, SEL.data, 'long', 3, null],
] as const)('%s', (_, code, selector, mode, cpl, expected) => {
  it(expected === null ? 'clears ZF and writes nothing' : 'sets ZF and gives the answer', () => {
    expect(ask(mode, cpl, code, selector)).toEqual({ zf: expected !== null, rax: expected ?? 0x5555n });
  });
});

it('none of them is recognised in real mode', () => {
  for (const code of [LAR, LSL, VERR, VERW]) expect(new Lab('real').run(code).vector).toBe(UD);
});

it('ARPL raises the RPL of the destination and says so in ZF', () => {
  const lab = new Lab('protected');
  lab.p.setGpr(RAX, 0x10n);
  lab.p.setGpr(RBX, 0x23n);
  lab.run('63 d8');
  expect(lab.p.gpr(RAX)).toBe(0x13n);
  expect(lab.p.rflags & FLAG_ZF).toBe(FLAG_ZF);
  lab.run('63 d8');
  expect(lab.p.rflags & FLAG_ZF).toBe(0);
});
