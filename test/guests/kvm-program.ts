/**
 * `hello-kvm`, a program for the initramfs: makes a VM through /dev/kvm whose 16-bit guest adds two numbers and writes the sum
 * to a port, and prints what the guest writes. It exits with the errno of what fails.
 *
 * @see Linux Documentation/virt/kvm/api.rst KVM_CREATE_VM, KVM_SET_USER_MEMORY_REGION, KVM_CREATE_VCPU, KVM_RUN
 */

import { assemble } from '../../src/machine/isa/assembler/assemble.ts';

const LOAD_ADDRESS = 0x400000;

const SOURCE = `
WRITE           equ 1
OPEN            equ 2
MMAP            equ 9
IOCTL           equ 16
EXIT            equ 60
O_RDWR          equ 2
CREATE_VM       equ 0xae01
VCPU_MMAP_SIZE  equ 0xae04
CREATE_VCPU     equ 0xae41
SET_MEMORY      equ 0x4020ae46
RUN             equ 0xae80
SET_REGS        equ 0x4090ae82
GET_SREGS       equ 0x8138ae83
SET_SREGS       equ 0x4138ae84
EXIT_REASON     equ 8
DATA_OFFSET     equ 40
EXIT_IO         equ 2
EXIT_HLT        equ 5

; ---- ELF header, and one segment that is the whole file and the buffers behind it
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
    dq 0, file, file, end - file, end - file + 0x2000, 0x1000

start:
    mov rdi, device
    mov esi, O_RDWR
    xor edx, edx
    mov eax, OPEN
    syscall
    test rax, rax
    js failed
    mov r12, rax                    ; /dev/kvm
    mov rdi, r12
    mov esi, CREATE_VM
    xor edx, edx
    call ioctl
    mov r13, rax                    ; the VM
    mov rsi, guest
    mov rdi, page
    mov ecx, guest_end - guest
    rep movsb
    mov rdi, r13
    mov esi, SET_MEMORY
    mov rdx, region
    call ioctl
    mov rdi, r13
    mov esi, CREATE_VCPU
    xor edx, edx
    call ioctl
    mov r14, rax                    ; the vCPU
    mov rdi, r12
    mov esi, VCPU_MMAP_SIZE
    xor edx, edx
    call ioctl
    mov rsi, rax
    xor edi, edi
    mov edx, 3                      ; PROT_READ, PROT_WRITE
    mov r10, 1                      ; MAP_SHARED
    mov r8, r14
    xor r9, r9
    mov eax, MMAP
    syscall
    test rax, rax
    js failed
    mov r15, rax                    ; struct kvm_run
    mov rdi, r14
    mov esi, GET_SREGS
    mov rdx, sregs
    call ioctl
    mov rdx, sregs
    mov qword [rdx], 0              ; CS: base and selector
    mov word [rdx + 12], 0
    mov rdi, r14
    mov esi, SET_SREGS
    call ioctl
    mov rdi, r14
    mov esi, SET_REGS
    mov rdx, regs
    call ioctl
again:
    mov rdi, r14
    mov esi, RUN
    xor edx, edx
    call ioctl
    mov eax, [r15 + EXIT_REASON]
    cmp eax, EXIT_HLT
    jz halted
    cmp eax, EXIT_IO
    jnz failed
    mov rsi, [r15 + DATA_OFFSET]
    add rsi, r15
    mov edx, 1
    mov edi, 1
    mov eax, WRITE
    syscall
    jmp again
halted:
    xor edi, edi
    mov eax, EXIT
    syscall

ioctl:
    mov eax, IOCTL
    syscall
    test rax, rax
    js failed
    ret
failed:
    mov edi, eax
    neg edi
    mov eax, EXIT
    syscall

device:
    db "/dev/kvm", 0
    align 8
region:
    dd 0, 0
    dq 0x1000, 0x1000, page
regs:                               ; RAX and RBX are 2, RIP is 1000h
    dq 2, 2
    times 14 dq 0
    dq 0x1000, 2
guest:
    bits 16
    mov dx, 0x3f8
    add al, bl
    add al, 0x30
    out dx, al
    mov al, 10
    out dx, al
    hlt
    bits 64
guest_end:
    align 4096
end:
page equ end
sregs equ end + 0x1000
`;

/** The executable. */
export function kvmProgram(): Uint8Array {
  return assemble(`org ${LOAD_ADDRESS}\n${SOURCE}`, 64).bytes;
}
