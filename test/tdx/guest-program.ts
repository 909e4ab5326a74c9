/**
 * For tests: a guest in assembly that a TD starts with. Its prelude goes from the reset vector into 64-bit mode; then the
 * test's own code runs in ring 0 on identity-mapped private memory.
 */
import { assemble } from '../../src/machine/isa/assembler/assemble.ts';
import type { Gpa } from '../../src/util/address.ts';
import type { Td } from './td-builder.ts';

/** Page at the top of 4 GiB: code, with the reset vector at its end. */
const CODE: Gpa = 0xffff_f000;
const RESET_VECTOR = 0xff0;
const PML4: Gpa = 0x1000;
const PDPT: Gpa = 0x2000;
/** Interrupt descriptor table, and its handlers after it. */
const IDT: Gpa = 0x3000;
/** Private data for tests, zeros. */
export const DATA: Gpa = 0x4000;
const STACK_TOP = 0x6000;
/** Not there until the host adds it. */
export const LATE_PAGE: Gpa = 0x8000;
/** Bit 47 says shared. */
export const SHARED_BIT = 0x8000_0000_0000n;

const PRELUDE = `
    bits 32
    org 0xfffff000
    start:
        lgdt [gdtr]
        mov eax, ${PML4}
        mov cr3, eax
        mov eax, cr4
        or eax, 0x40620          ; OSXSAVE, OSFXSR, OSXMMEXCPT, PAE
        mov cr4, eax
        mov eax, cr0
        or eax, 0x80000002
        mov cr0, eax
        jmp 8:long
    gdtr: dw 23
        dd gdt
    align 8
    gdt: dq 0, 0x00af9b000000ffff, 0x00cf93000000ffff
    idtr: dw 0xfff
        dq ${IDT}
    bits 64
    long:
        mov ax, 16
        mov ss, ax
        mov esp, ${STACK_TOP}
        lidt [rel idtr]
`;

/** Code that asks the host to end: TDVMCALL with R11 = 0x7777, registers as they are passed. */
export const END = `
        mov r11, 0x7777
        mov r10, 0
        xor eax, eax
        mov ecx, 0xffcc
        tdcall
        jmp $
`;

const GATE_PRESENT = 0x8e00;

function page(bytes: Uint8Array): Uint8Array {
  const whole = new Uint8Array(4096);
  whole.set(bytes);
  return whole;
}

/** An IDT whose gates of some vectors lead to labels of the code. */
function idtPage(gates: ReadonlyMap<number, bigint>): Uint8Array {
  const bytes = new Uint8Array(4096);
  const view = new DataView(bytes.buffer);
  for (const [vector, address] of gates) {
    const offset = Number(address & 0xffff_ffffn);
    view.setUint16(vector * 16, offset & 0xffff, true);
    view.setUint16(vector * 16 + 2, 8, true);
    view.setUint16(vector * 16 + 4, GATE_PRESENT, true);
    view.setUint16(vector * 16 + 6, offset >>> 16, true);
  }
  return bytes;
}

/** Page tables that map the lowest 4 GiB to themselves, and the same again as shared memory from 2^47 on. */
function tables(): { pml4: Uint8Array; pdpt: Uint8Array } {
  const pml4 = new Uint8Array(4096);
  const pdpt = new Uint8Array(4096);
  const top = new DataView(pml4.buffer);
  const middle = new DataView(pdpt.buffer);
  top.setBigUint64(0, BigInt(PDPT) | 3n, true);
  for (let i = 0; i < 4; i++) {
    middle.setBigUint64(i * 8, (BigInt(i) << 30n) | 0x83n, true);
    middle.setBigUint64((i + 4) * 8, SHARED_BIT | (BigInt(i) << 30n) | 0x83n, true);
  }
  return { pml4, pdpt };
}

/** Linear address under which the guest sees shared memory: 4 GiB further. */
export const sharedLinear = (gpa: Gpa): number => 0x1_0000_0000 + gpa;

/**
 * Puts a program into a TD that is being built. `handlers`: labels of the code by vector.
 * @param code 64-bit assembly, after the prelude
 */
export function loadProgram(td: Td, code: string, handlers: Readonly<Record<number, string>> = {}): void {
  const { bytes, labels } = assemble(PRELUDE + code, 32);
  if (bytes.length > RESET_VECTOR) throw new Error('the program is too long');
  const image = page(bytes);
  // jmp start
  image.set([0xe9, ...new Uint8Array(new Int32Array([-(RESET_VECTOR + 5)]).buffer)], RESET_VECTOR);
  const { pml4, pdpt } = tables();
  const gates = new Map(Object.entries(handlers).map(([vector, label]) => [Number(vector), labels.get(label)!]));
  td.addPage(PML4, pml4);
  td.addPage(PDPT, pdpt);
  td.addPage(IDT, idtPage(gates));
  td.addPage(DATA);
  td.addPage(STACK_TOP - 4096);
  td.addPage(CODE, image);
}
