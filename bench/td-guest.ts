/** The bench's own TD: says a letter, makes one kind of call many times, says the next letter. */

import { assemble } from '../src/machine/isa/assembler/assemble.ts';
import { makeBzImage } from '../src/vmm/loaders/testing.ts';

/** What is measured between two letters, and how often it is done. */
export const TD_CALLS: readonly { readonly name: string; readonly count: number }[] = [
  { name: 'TDCALL answered by the module (TDG.VP.INFO)', count: 200_000 },
  { name: 'TDVMCALL answered by KVM (CPUID)', count: 50_000 },
  { name: 'TDVMCALL to user space and back (OUT)', count: 50_000 },
];

/**
 * Exits to user space up to the last stage: the line control register, then a letter and a new line before each stage, and
 * one letter behind it.
 */
export const STAGE_EXITS = 7;

const SETUP_SIZE = 0x400;
const ENTRY_64 = 0x200;
const LOAD_ADDRESS = 0x100000;
/** Where the debug-exit port ends the run. */
const EXIT_PORT = 0xf4;

const SOURCE = `
    org ${LOAD_ADDRESS + ENTRY_64}
    mov rsp, 0x80000
    mov r14d, 0x3fb                 ; 8 bits per character
    mov r15d, 3
    call out
    mov ebx, 'a'
    call say
    mov ebp, ${TD_CALLS[0]!.count}
info:
    mov eax, 1
    tdcall
    dec ebp
    jnz info
    call say
    mov ebp, ${TD_CALLS[1]!.count}
cpuid_of_host:
    xor eax, eax
    mov ecx, 0xfc00                 ; R10 to R15
    xor r10d, r10d
    mov r11d, 10
    mov r12d, 0x40000000
    xor r13d, r13d
    tdcall
    dec ebp
    jnz cpuid_of_host
    call say
    mov ebp, ${TD_CALLS[2]!.count}
port:
    mov r14d, 0x80
    call out
    dec ebp
    jnz port
    call say
    mov r14d, ${EXIT_PORT}
    call out
say:                                ; the letter in EBX and a new line; the next letter
    mov r14d, 0x3f8
    mov r15d, ebx
    call out
    mov r14d, 0x3f8
    mov r15d, 10
    call out
    inc ebx
    ret
out:                                ; one byte in R15 to the port in R14
    xor eax, eax
    mov ecx, 0xfc00
    xor r10d, r10d
    mov r11d, 30
    mov r12d, 1
    mov r13d, 1
    tdcall
    ret
`;

/** A bzImage of it. */
export function tdBenchKernel(): Uint8Array {
  const { bytes } = assemble(SOURCE, 64);
  return makeBzImage((_, file) => file.set(bytes, SETUP_SIZE + ENTRY_64), 0x1000);
}
