/** A small guest of softvt's own, for when no distribution kernel can be had: a Multiboot image assembled here. */

import { SLEEP_TYPE_S5 } from '../vmm/acpi/dsdt.ts';
import { ByteWriter } from '../vmm/byte-writer.ts';
import { COM1_PORT, PM_CONTROL_PORT } from '../vmm/layout.ts';

const LOAD_ADDRESS = 0x100000;
const HEADER_SIZE = 48;
const SLP_EN = 1 << 13;
/** Rounds of the loop that gives the processor something to do. */
const ROUNDS = 20_000_000;

/** What the guest prints. */
export const BUILTIN_MESSAGE = 'softvt: the built-in guest runs as a VM under KVM on the emulated machine\r\n';

/** The image: prints {@link BUILTIN_MESSAGE} on COM1, counts for a while, and powers off by ACPI. */
export function builtinGuest(): Uint8Array {
  const entry = LOAD_ADDRESS + HEADER_SIZE;
  const assemble = (message: number): ByteWriter => {
    const code = new ByteWriter();
    code.u8(0x66, 0xba).u16(COM1_PORT + 3); // mov dx, line control
    code.u8(0xb0, 3, 0xee); //                mov al, 8 bits; out dx, al
    code.u8(0xbe).u32(message); //            mov esi, message
    code.u8(0x66, 0xba).u16(COM1_PORT); //    mov dx, COM1
    const next = code.length;
    code.u8(0xac, 0x84, 0xc0); //             next: lodsb; test al, al
    code.u8(0x74, 0x03); //                   jz done
    code.u8(0xee); //                         out dx, al
    code.u8(0xeb, next - (code.length + 2)); // jmp next
    code.u8(0xb9).u32(ROUNDS); //             done: mov ecx, ROUNDS
    code.u8(0x01, 0xc8, 0x31, 0xc3); //       round: add eax, ecx; xor ebx, eax
    code.u8(0x49, 0x75, 0xf9); //             dec ecx; jnz round
    code.u8(0x66, 0xba).u16(PM_CONTROL_PORT); // mov dx, PM1a_CNT
    code.u8(0x66, 0xb8).u16((SLEEP_TYPE_S5 << 10) | SLP_EN); // mov ax, S5 and SLP_EN
    code.u8(0x66, 0xef, 0xf4); //             out dx, ax; hlt
    return code;
  };
  // The first pass finds the length, behind which the message lies.
  const code = assemble(entry + assemble(0).length);
  const flags = 0x10000;
  return new ByteWriter()
    .u32(0x1badb002, flags, -(0x1badb002 + flags) >>> 0)
    .u32(LOAD_ADDRESS, LOAD_ADDRESS, 0, 0, entry)
    .zeros(16)
    .bytes(code.finish())
    .text(BUILTIN_MESSAGE, BUILTIN_MESSAGE.length + 1)
    .finish();
}
