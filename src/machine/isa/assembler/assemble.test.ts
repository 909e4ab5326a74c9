import { describe, expect, test } from 'vitest';
import { Machine } from '../../machine.ts';
import { reset } from '../../processor/reset.ts';
import { HLT } from '../../processor.ts';
import { runProcessor } from '../../run.ts';
import { assemble } from './assemble.ts';

const hex = (text: string, bits: 16 | 32 | 64 = 64): string => Buffer.from(assemble(text, bits).bytes).toString('hex');

describe('one line of assembly', () => {
  test.each([
    ['mov rax, 0x1122334455667788', '48b88877665544332211'],
    ['mov rax, -1', '48c7c0ffffffff'],
    ['mov eax, 5', 'b805000000'],
    ['mov [rsp], r15', '4c893c24'],
    ['mov qword [rbx+r9*8-16], -1', '4ac744cbf0ffffffff'],
    ['mov fs:[0x28], rax', '644889042528000000'],
    ['mov al, [0x123456789abc]', 'a0bc9a785634120000'],
    ['mov cr3, rax', '0f22d8'],
    ['mov rax, cr0', '0f20c0'],
    ['mov ds, ax', '8ed8'],
    ['movzx eax, byte [rdi]', '0fb607'],
    ['movzx eax, word [rdi]', '0fb707'],
    ['cmovnz rax, [rbx]', '480f4503'],
    ['sete al', '0f94c0'],
    ['lock cmpxchg [rbx], rcx', 'f0480fb10b'],
    ['shl eax, cl', 'd3e0'],
    ['imul rax, rbx, 7', '486bc307'],
    ['mul qword [rax]', '48f720'],
    ['push r12', '4154'],
    ['push qword [rax]', 'ff30'],
    ['pop gs', '0fa9'],
    ['rep movsq', 'f348a5'],
    ['movsd xmm1, xmm2', 'f20f10ca'],
    ['vpaddd ymm1, ymm2, [rax]', 'c5edfe08'],
    ['vpaddd xmm1, xmm2, xmm3', 'c5e9fecb'],
    ['vblendvps ymm1, ymm2, ymm3, ymm12', 'c4e36d4acbc0'],
    ['movdqa xmm1, [rax]', '660f6f08'],
    ['call qword [rax+8]', 'ff5008'],
    ['jmp far dword [rax]', 'ff28'],
    ['iretq', '48cf'],
    ['sysretq', '480f07'],
    ['xchg ah, bl', '86dc'],
    ['jmp $', 'ebfe'],
    ['jmp near $', 'e9fbffffff'],
    ['lea rsi, [rel $+7]', '488d3500000000'],
  ])('%s is %s in 64-bit code', (text, bytes) => {
    expect(hex(text)).toBe(bytes);
  });

  test.each([
    ['jmp dword 8:0x10000', '66ea000001000800'],
    ['lgdt [0x7d20]', '0f0116207d'],
    ['or eax, 1', '6683c801'],
    ['mov ax, [bx+si+4]', '8b4004'],
    ['mov ax, es:[bp]', '268b4600'],
    ['retf', 'cb'],
  ])('%s is %s in 16-bit code', (text, bytes) => {
    expect(hex(text, 16)).toBe(bytes);
  });

  test.each(['mov [rax], 5', 'mov eax, rbx', 'inc [rax]', 'frobnicate eax', 'mov eax, nowhere', 'pusha', 'jmp 1:2'])(
    '%s is none',
    (text) => {
      expect(() => assemble(`${text}\nnop`, 64)).toThrow(/^line 1: /);
    },
  );
});

test('labels, alignment, repetition, strings and expressions', () => {
  const { bytes, labels, origin } = assemble(
    `
    SIZE equ 3 * (2 + 2)
    org 0x1000
    start: db "ab", 'c', SIZE | 0x80
    align 8
    table: dq start, table - start   ; addresses and distances
    times 2 dw 0x1234`,
  );
  expect(origin).toBe(0x1000n);
  expect(labels.get('table')).toBe(0x1008n);
  expect(Buffer.from(bytes).toString('hex')).toBe('6162638c000000000010000000000000080000000000000034123412');
});

test('a branch over too much becomes a long one', () => {
  expect(hex('jz there\n times 200 nop\n there: nop').slice(0, 12)).toBe('0f84c8000000');
  expect(hex('jz there\n times 100 nop\n there: nop').slice(0, 4)).toBe('7464');
});

test('a guest in assembly goes from real mode through protected mode to 64-bit mode', () => {
  const program = assemble(
    `
    bits 16
    org 0x7c00
        cli
        xor ax, ax
        mov ds, ax
        lgdt [gdtr]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        jmp 8:protected
    bits 32
    protected:
        mov ax, 16
        mov ds, ax
        mov ss, ax
        mov esp, 0x7000
        mov eax, cr4
        or eax, 0x20           ; PAE
        mov cr4, eax
        mov eax, pml4
        mov cr3, eax
        mov ecx, 0xc0000080    ; EFER
        rdmsr
        or eax, 0x100          ; LME
        wrmsr
        mov eax, cr0
        or eax, 0x80000000
        mov cr0, eax
        jmp 24:long
    bits 64
    long:
        mov rbx, 0x123456789abcdef0
        push rbx
        pop qword [rel result]
        mov rax, [rel result]
        bswap rax
        hlt
    align 8
    result: dq 0
    gdt: dq 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff
    gdtr: dw $ - gdt - 1
        dd gdt
    align 4096
    pml4: dq pdpt + 3
        times 511 dq 0
    pdpt: dq 0x83              ; 1 GiB, one to one
        times 511 dq 0`,
    16,
  );
  const machine = new Machine({ processors: 1, ramSize: 1 << 20, profile: 'pc' });
  const p = machine.processors[0]!;
  machine.activate(p);
  reset(p);
  machine.memory.writeBytes(Number(program.origin), program.bytes);
  Object.assign(p.segments[1]!, { selector: 0, base: 0n });
  p.syncSegments();
  p.rip = 0x7c00n;
  runProcessor(p, 10_000);
  expect(p.activity).toBe(HLT);
  expect(p.mode64).toBe(true);
  expect(p.gpr(0)).toBe(0xf0debc9a78563412n);
});
