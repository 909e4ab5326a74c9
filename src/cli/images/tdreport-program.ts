/**
 * `tdreport`, a program for the initramfs: reads up to 64 bytes of REPORTDATA from stdin and writes the TDREPORT that the
 * TDX module makes of it to stdout, by the ioctl of the kernel's tdx_guest driver. It exits with the errno of what fails.
 *
 * @see Linux Documentation/virt/coco/tdx-guest.rst TDX_CMD_GET_REPORT0; System V ABI "ELF Header"
 */

import { assemble } from '../../machine/isa/assembler/assemble.ts';

const LOAD_ADDRESS = 0x400000;

const SOURCE = `
READ            equ 0
WRITE           equ 1
OPEN            equ 2
IOCTL           equ 16
EXIT            equ 60
O_RDWR          equ 2
REPORTDATA      equ 64
TDREPORT        equ 1024
GET_REPORT0     equ 0xc4405401      ; _IOWR('T', 1, REPORTDATA + TDREPORT bytes)

; ---- ELF header, and one segment that is the whole file and a buffer behind it
file:
    db 0x7f, "ELF", 2, 1, 1, 0
    dq 0
    dw 2, 62                        ; executable, x86-64
    dd 1
    dq start, program_header - file, 0
    dd 0
    dw 64, 56, 1, 0, 0, 0
program_header:
    dd 1, 7                         ; PT_LOAD, readable, writable, executable
    dq 0, file, file, end - file, end - file + REPORTDATA + TDREPORT, 0x1000

start:
    xor edi, edi
    mov rsi, request
    mov edx, REPORTDATA
    mov eax, READ
    syscall
    test rax, rax
    js failed
    mov rdi, device
    mov esi, O_RDWR
    xor edx, edx
    mov eax, OPEN
    syscall
    test rax, rax
    js failed
    mov edi, eax
    mov esi, GET_REPORT0
    mov rdx, request
    mov eax, IOCTL
    syscall
    test rax, rax
    js failed
    mov edi, 1
    mov rsi, request + REPORTDATA
    mov edx, TDREPORT
    mov eax, WRITE
    syscall
    test rax, rax
    js failed
    xor eax, eax
failed:
    mov edi, eax
    neg edi
    mov eax, EXIT
    syscall

device:
    db "/dev/tdx_guest", 0
    align 16
end:
request:
`;

/** The executable. */
export function tdreportProgram(): Uint8Array {
  return assemble(`org ${LOAD_ADDRESS}\n${SOURCE}`, 64).bytes;
}
