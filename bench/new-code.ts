/**
 * A guest that never stops making new code: what the engine keeps of code must have bounds, and making room must not slow it down.
 *
 * Each function is written, called until it is hot, and later written over with another one. More functions live at a time than
 * the translator keeps.
 */

import { assemble } from '../src/machine/isa/assembler/assemble.ts';
import { SOFTVT } from './emulators.ts';
import { figure, printTable } from './table.ts';

const MEMORY = 256 * 2 ** 20;
const TIMEOUT = 900;
/** Functions of 256 bytes in 8 MiB. */
const FUNCTIONS = 32_768;
const REPORT_EVERY = 4096;
const PASSES = 2;
const LOAD = 0x100000;

const SOURCE = `
    bits 32
    dd 0x1badb002, 0x10000, -(0x1badb002 + 0x10000), ${LOAD}, ${LOAD}, 0, 0, start
start:
    mov esp, 0x90000
    mov dx, 0x3fb                   ; line control: 8 bits
    mov al, 3
    out dx, al
again:
    mov edi, 0x800000               ; where the code is made
    mov ebp, ${FUNCTIONS}
next:
    mov esi, template
    mov ecx, template_end - template
    mov ebx, edi
    rep movsb
    mov eax, [made]
    mov [ebx + add_it - template + 1], eax      ; the immediate: each function is a new one
    call ebx
    inc dword [made]
    lea edi, [ebx + 256]
    test dword [made], ${REPORT_EVERY - 1}
    jnz no_line
    mov al, 0x2e
    call put
    mov al, 10
    call put
no_line:
    dec ebp
    jnz next
    cmp dword [made], ${FUNCTIONS * PASSES}
    jb again
    mov al, 0x21
    call put
    mov al, 10
    call put
    hlt
put:
    mov dx, 0x3f8
    out dx, al
    ret
template:
    mov ecx, 1100
round:
add_it:
    mov eax, 0x12345678
    xor edx, eax
    dec ecx
    jnz round
    ret
template_end:
made:
    dd 0
`;

/** What was seen each time that so many functions had been made. */
export interface NewCodeResult {
  readonly functionsPerStep: number;
  /** CPU microseconds per function. */
  readonly microseconds: readonly number[];
  /** Resident bytes. */
  readonly memory: readonly number[];
}

export async function runNewCode(): Promise<NewCodeResult | undefined> {
  const kernel = assemble(SOURCE, 32, BigInt(LOAD)).bytes;
  const { lines, complete } = await SOFTVT.run({ kernel, commandLine: '', memorySize: MEMORY }, '!', TIMEOUT);
  const steps = lines.filter(({ text }) => text === '.');
  if (!complete || steps.length < 2) {
    console.log('the guest that makes new code did not finish');
    return undefined;
  }
  const microseconds = steps.slice(1).map(({ cpu }, n) => ((cpu - steps[n]!.cpu) / REPORT_EVERY) * 1e6);
  return { functionsPerStep: REPORT_EVERY, microseconds, memory: steps.slice(1).map(({ memory }) => memory) };
}

/** Prints the course of time and memory. */
export function printNewCode({ functionsPerStep, microseconds, memory }: NewCodeResult): void {
  printTable(
    `code that is new all the time: ${FUNCTIONS} functions at a time, each written over with another one`,
    ['functions made', 'CPU µs per function', 'resident MiB'],
    microseconds.map((time, n) => [
      String((n + 2) * functionsPerStep),
      figure(time),
      figure((memory[n] ?? Number.NaN) / 2 ** 20),
    ]),
  );
}
