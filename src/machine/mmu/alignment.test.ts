/** Alignment checks. What each instruction asks for is what a processor did (Linux, CR0.AM set, RFLAGS.AC set by POPF). */
import { describe, expect, it, test } from 'vitest';
import { RAX, RBX, RCX, RSP } from '../engine/layout.ts';
import { assemble } from '../isa/assembler/assemble.ts';
import { AC, GP, PF, UD } from '../outcome.ts';
import { privilegeChanged } from '../processor/rip.ts';
import { CODE, DATA, Lab, SEL } from '../processor/testing/lab.ts';
import { CR0_AM, CR0_MP, CR4_OSFXSR, CR4_OSXMMEXCPT, CR4_OSXSAVE, FLAG_AC } from '../processor.ts';
import { runProcessor, STOP } from '../run.ts';

const HANDLER = 0xa000;
/** In a page of 2 MiB of which nothing is mapped. */
const UNMAPPED = 0x4000_0000n;
const NOT_CANONICAL = 0x8000_0000_0000_0000n;

interface Outcome {
  /** 0: the instruction completed. */
  readonly vector: number;
  readonly errorCode: bigint;
  readonly rip: bigint;
}

/** Runs an instruction at level 3 whose memory operand is at RDI; RSI points to other memory. */
function run(code: string, at: bigint, prepare: (l: Lab) => void = () => {}): Outcome {
  const l = new Lab('long', 3);
  const { p, machine } = l;
  p.cr0 |= CR0_AM | CR0_MP;
  p.cr4 |= CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
  p.xcr0 = 7n;
  p.rflags = 2 | FLAG_AC;
  for (const vector of [UD, GP, PF, AC]) {
    // mov bl, vector; pop rax, rcx; hlt. #UD has no error code: it ends the test's code.
    const pops = vector === UD ? '90 90' : '58 59';
    l.idt(vector, { selector: SEL.code64, offset: BigInt(HANDLER + vector * 16), type: 14 });
    const bl = (vector === UD ? 0 : vector).toString(16).padStart(2, '0');
    machine.memory.writeBytes(HANDLER + vector * 16, hex(`b3 ${bl} ${pops} f4`));
  }
  machine.memory.writeBytes(CODE, assemble(`bits 64\norg ${CODE}\n${code}\nud2`).bytes);
  p.setGpr(7, at);
  p.setGpr(6, BigInt(DATA + 0x2000));
  p.setGpr(RBX, 0n);
  prepare(l);
  privilegeChanged(p);
  expect(runProcessor(p, machine.clock.now() + 10_000)).toBe(STOP.idle);
  return { vector: p.gpr32(RBX), errorCode: p.gpr(RAX), rip: p.gpr(RCX) };
}

const hex = (text: string): Uint8Array => Uint8Array.from(text.split(' '), (byte) => Number.parseInt(byte, 16));

/** What an instruction comes to 1, 2, 4 and 8 bytes from a multiple of 64: `A` #AC, `G` #GP, `.` it completes. */
const outcomes = (code: string): string =>
  [1, 2, 4, 8]
    .map((offset) => {
      const { vector, errorCode, rip } = run(code, BigInt(DATA + offset));
      if (vector === 0) return '.';
      expect([errorCode, rip], `${code} +${offset}`).toEqual([0n, BigInt(CODE)]);
      return vector === AC ? 'A' : vector === GP ? 'G' : `${vector}`;
    })
    .join('');

describe('at level 3 with CR0.AM and RFLAGS.AC', () => {
  test.each([
    ['mov al, [rdi]', '....'],
    ['mov ax, [rdi]', 'A...'],
    ['mov eax, [rdi]', 'AA..'],
    ['mov rax, [rdi]', 'AAA.'],
    ['mov [rdi], eax', 'AA..'],
    ['xchg [rdi], rax', 'AAA.'],
    ['lock xadd [rdi], eax', 'AA..'],
    ['cmpxchg8b [rdi]', 'AAA.'],
    ['cmpxchg16b [rdi]', 'GGGG'],
    ['movbe eax, [rdi]', 'AA..'],
    ['popcnt rax, [rdi]', 'AAA.'],
    ['bt word [rdi], ax', 'A...'],
    ['bt dword [rdi], 3', 'AA..'],
    ['bt qword [rdi], rax', 'AAA.'],
    ['mov [rdi], ds', 'A...'],
    ['lar eax, [rdi]', 'A...'],
    ['verr word [rdi]', 'A...'],
    ['fld dword [rdi]', 'AA..'],
    ['fld qword [rdi]', 'AAA.'],
    ['fld tword [rdi]', 'AAA.'],
    ['fild word [rdi]', 'A...'],
    ['fstp tword [rdi]', 'AAA.'],
    ['fbld tword [rdi]', 'AAA.'],
    ['fbstp tword [rdi]', 'AAA.'],
    ['fnstcw [rdi]', 'A...'],
    ['fnstenv [rdi]', 'AA..'],
    ['fldenv [rdi]', 'AA..'],
    ['fnsave [rdi]', 'AA..'],
    ['frstor [rdi]', 'AA..'],
    ['fxsave [rdi]', 'AAGG'],
    ['fxrstor [rdi]', 'AAGG'],
    ['xsave [rdi]', 'AAGG'],
    ['xrstor [rdi]', 'AAGG'],
    ['stmxcsr [rdi]', 'AA..'],
    ['movd xmm0, [rdi]', 'AA..'],
    ['movq xmm0, [rdi]', 'AAA.'],
    ['movq mm0, [rdi]', 'AAA.'],
    ['movss xmm0, [rdi]', 'AA..'],
    ['cvtss2sd xmm0, [rdi]', 'AA..'],
    ['addsd xmm0, [rdi]', 'AAA.'],
    ['movhps xmm0, [rdi]', 'AAA.'],
    ['pmovzxbw xmm0, [rdi]', 'AAA.'],
    ['pinsrw xmm0, [rdi], 0', 'A...'],
    ['movdqu xmm0, [rdi]', '....'],
    ['movups [rdi], xmm0', '....'],
    ['movdqa xmm0, [rdi]', 'GGGG'],
    ['paddd xmm0, [rdi]', 'GGGG'],
    ['aesenc xmm0, [rdi]', 'GGGG'],
    ['pcmpistri xmm0, [rdi], 0', '....'],
    ['vpaddd xmm0, xmm0, [rdi]', '....'],
    ['vmovdqu ymm0, [rdi]', '....'],
    ['movsw', 'A...'],
    ['movsq', 'AAA.'],
    ['stosd', 'AA..'],
    ['cmpsd', 'AA..'],
    ['jmp [rdi]', 'AAA'],
    ['push qword [rdi]', 'AAA.'],
  ])('%s: %s', (code, expected) => {
    // What a jump reads is nowhere that code is.
    const seen = outcomes(code);
    expect(expected.length === 3 ? seen.slice(0, 3) : seen).toBe(expected);
  });

  it('string instructions repeat as without the checks, and stop at the first element if it is misaligned', () => {
    const count = (l: Lab): void => l.p.setGpr(RCX, 40n);
    expect(run('rep movsq', BigInt(DATA), count).vector).toBe(0);
    expect(run('rep stosd', BigInt(DATA + 2), count)).toMatchObject({ vector: AC, rip: BigInt(CODE) });
    expect(run('rep stosb', BigInt(DATA + 3), count).vector).toBe(0);
  });

  test.each([
    ['push rax', 0],
    ['call next\nnext:', 0],
    ['enter 16, 0', 0],
    ['pushfq', 0],
    ['ret', 0],
    ['iretq', 0],
  ])('the stack, too: %s', (code) => {
    const at = (offset: number) => (l: Lab) => l.p.setGpr(RSP, BigInt(DATA + 0x3000 + offset));
    expect(run(code, 0n, at(4))).toMatchObject({ vector: AC, rip: BigInt(CODE) });
  });

  it('the check comes before the page tables, and after the canonical form', () => {
    expect(run('mov eax, [rdi]', UNMAPPED + 1n).vector).toBe(AC);
    expect(run('mov eax, [rdi]', UNMAPPED).vector).toBe(PF);
    expect(run('fnstsw [rdi]', UNMAPPED + 1n).vector).toBe(AC);
    expect(run('mov eax, [rdi]', NOT_CANONICAL + 1n).vector).toBe(GP);
    // The lab's pages of 2 MiB are supervisor pages above: a kernel address is as any other.
    expect(run('mov eax, [rdi]', 0xffff_8000_0000_0001n).vector).toBe(AC);
  });

  it('an access that crosses into another page is checked once', () => {
    expect(run('mov eax, [rdi]', 0x1f_fffen).vector).toBe(AC);
    expect(run('movdqu xmm0, [rdi]', 0x1f_fff8n).vector).toBe(0);
  });

  it('code that is modified is seen: stores without an entry reach decoded pages', () => {
    // The byte at the label becomes INC EAX’s; without the store it is UD2.
    const program = `
        lea rax, [rel patched]
        mov word [rax], 0xc0ff
        jmp patched
        align 8
    patched:
        ud2
        ud2`;
    expect(run(program, 0n).vector).toBe(0);
  });
});

describe('nothing is checked', () => {
  const misaligned = (change: (l: Lab) => void): number => run('mov eax, [rdi]', BigInt(DATA + 1), change).vector;
  test('without RFLAGS.AC', () => {
    expect(misaligned((l) => (l.p.rflags = 2))).toBe(0);
  });
  test('without CR0.AM', () => {
    expect(misaligned((l) => (l.p.cr0 &= ~CR0_AM))).toBe(0);
  });
  test('at level 0', () => {
    const l = new Lab('long', 0);
    l.p.cr0 |= CR0_AM;
    l.p.rflags = 2 | FLAG_AC;
    privilegeChanged(l.p);
    l.machine.memory.writeBytes(CODE, assemble(`bits 64\norg ${CODE}\nmov eax, [${DATA + 1}]\nhlt`).bytes);
    expect(runProcessor(l.p, l.machine.clock.now() + 100)).toBe(STOP.idle);
  });
});

it('POPF turns the checks on and off between two instructions', () => {
  const toggle = 'pushfq\nxor dword [rsp], 0x40000\npopfq';
  expect(run(`${toggle}\nmov eax, [rdi]`, BigInt(DATA + 1)).vector).toBe(0);
  const { vector, rip } = run(`${toggle}\nmov eax, [rdi]\n${toggle}\nmov eax, [rdi]`, BigInt(DATA + 1));
  expect(vector).toBe(AC);
  expect(rip).toBeGreaterThan(BigInt(CODE + 10));
});
