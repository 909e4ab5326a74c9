/**
 * The td-shim's source: the code at a TD's reset vector, which accepts the TD's memory and enters the kernel.
 *
 * Every vCPU starts here in 32-bit protected mode without paging, with RSI = vCPU index and RCX = address of the HOB
 * list. The first one accepts all memory that the HOBs call unaccepted and jumps to the payload; the others wait for the
 * operating system in 64-bit mode, interrupts off, at the ACPI multiprocessor wake-up mailbox. A processor that it has no
 * use for comes back to the mailbox by the wake-up structure's reset vector.
 *
 * What must not happen before there is a #VE handler: CR4.MCE or CR0.NE cleared, EFER written, HLT, CPUID, IN or OUT.
 *
 * @tdx "TD VCPU Initial State", "TDG.MEM.PAGE.ACCEPT"
 * @ghci TDG.VP.VMCALL<ReportFatalError>
 * @see ACPI "Multiprocessor Wakeup Structure"; UEFI Platform Initialization "HOB List"
 */

/** The text, for the project's assembler. CODE, MAILBOX, TABLES, TABLES_5_LEVEL (their addresses) and the numbers of the HOBs are defined before it. */
export const SHIM_SOURCE: string = `
ACCEPT          equ 6
VMCALL          equ 0
VP_INFO         equ 1
CR4_LA57        equ 0x1000
WAKE_UP         equ 1               ; commands of the mailbox
TEST_OFFLINE    equ 2
LEVEL_2M        equ 1
SIZE_2M         equ 0x200000
SIZE_4K         equ 0x1000
REPORT_FATAL    equ 0x10003
MESSAGE_MASK    equ 0xffcc          ; RDX RBX RSI RDI R8 to R15
; TDX statuses, bits 63:32
ALREADY_ACCEPTED equ 0x00000b0a
OPERAND_BUSY    equ 0x80000200
BUSY_HOST       equ 0x80000204

    bits 32
    org CODE

start:
    lgdt [gdtr]
    mov eax, cr4
    or eax, 0x20                    ; PAE
    mov cr4, eax
    mov eax, TABLES
    mov cr3, eax
    mov eax, cr0
    or eax, 0x80000000              ; PG; EFER.LME is set already
    mov cr0, eax
    jmp 0x10:long

    bits 64
long:
    mov eax, 0x18
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov fs, ax
    mov gs, ax
    mov esi, esi
    test esi, esi
    jnz wait_for_wakeup

; ---- the first vCPU walks the HOB list
    mov rbp, rcx
    xor edi, edi                    ; the payload's entry, when its HOB was met
next_hob:
    movzx eax, word [rbp]
    movzx ecx, word [rbp+2]
    lea r12, [rbp+rcx]              ; the HOB behind this one
    cmp eax, HOB_END
    je end_of_list
    cmp eax, HOB_RESOURCE
    je resource
    cmp eax, HOB_GUID
    je guid
skip:
    mov rbp, r12
    jmp next_hob

guid:
    mov rax, PAYLOAD_GUID_LOW
    cmp [rbp+8], rax
    jne skip
    mov rax, PAYLOAD_GUID_HIGH
    cmp [rbp+16], rax
    jne skip
    mov rdi, [rbp+24]               ; entry
    mov rsi, [rbp+32]               ; boot_params
    jmp skip

resource:
    cmp dword [rbp+24], MEMORY_UNACCEPTED
    jne skip
    mov r13, [rbp+32]               ; start
    mov r14, [rbp+40]               ; length
    add r14, r13                    ; end
accept_next:
    cmp r13, r14
    jae skip
    lea r15, [r13+SIZE_2M]
    and r15, -SIZE_2M               ; the next boundary of 2 MiB
    test r13, SIZE_2M-1
    jnz to_boundary
    cmp r15, r14
    ja to_boundary
    lea rcx, [r13+LEVEL_2M]
    mov eax, ACCEPT
    tdcall
    test rax, rax
    jnz piece                       ; not mapped as one page
    mov r13, r15
    jmp accept_next
to_boundary:
    cmp r15, r14
    cmova r15, r14
piece:
    mov rcx, r13
    mov eax, ACCEPT
    tdcall
    test rax, rax
    jz accepted
    shr rax, 32
    cmp eax, ALREADY_ACCEPTED
    je accepted
    cmp eax, OPERAND_BUSY
    je piece
    cmp eax, BUSY_HOST
    jne not_accepted
    jmp piece
accepted:
    add r13, SIZE_4K
    cmp r13, r15
    jb piece
    jmp accept_next

end_of_list:
    test rdi, rdi
    jz no_payload
    xor eax, eax
    xor ebx, ebx
    xor ecx, ecx
    xor edx, edx
    xor ebp, ebp
    jmp rdi

; ---- the others
wait_for_wakeup:
    mov rdi, MAILBOX
asleep:
    pause
    cmp word [rdi], 0
    je asleep
    cmp [rdi+4], esi                ; the APIC id is the vCPU's index
    jne asleep
    cmp word [rdi], TEST_OFFLINE
    je taken
    cmp word [rdi], WAKE_UP
    jne asleep
    mov rax, [rdi+8]
    mov word [rdi], 0
    jmp rax
taken:
    mov word [rdi], 0               ; this processor is here
    jmp asleep

; ---- the reset vector: 64-bit mode, interrupts off, on the operating system's tables, which map this page to itself
back_offline:
    mov eax, TABLES
    mov rcx, cr4
    test ecx, CR4_LA57
    jz own_tables
    mov eax, TABLES_5_LEVEL
own_tables:
    mov cr3, rax
    lgdt [rel gdtr]
    jmp far dword [rel offline_entry]
offline:
    mov eax, 0x18
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov fs, ax
    mov gs, ax
    mov eax, VP_INFO
    tdcall
    mov esi, r9d
    jmp wait_for_wakeup

; ---- nothing can be printed: the host is told, in 64 characters
not_accepted:
    mov rbp, text_not_accepted
    jmp fatal
no_payload:
    mov rbp, text_no_payload
fatal:
    mov r14, [rbp]
    mov r15, [rbp+8]
    mov rbx, [rbp+16]
    mov rdi, [rbp+24]
    mov rsi, [rbp+32]
    mov r8, [rbp+40]
    mov r9, [rbp+48]
    mov rdx, [rbp+56]
    mov eax, VMCALL
    mov ecx, MESSAGE_MASK
    xor r10d, r10d
    mov r11d, REPORT_FATAL
    xor r12d, r12d
    xor r13d, r13d
    tdcall
    jmp fatal                       ; the host should not have come back

    align 8
text_not_accepted:
    db "td-shim: memory could not be accepted"
    times text_not_accepted+64-$ db 0
text_no_payload:
    db "td-shim: the HOB list names no payload"
    times text_no_payload+64-$ db 0

; ---- null, null, flat 64-bit code at 10h, flat data at 18h: what the Linux boot protocol asks for
    align 8
gdt:
    dq 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdtr:
    dw gdtr - gdt - 1
    dq gdt
offline_entry:
    dd offline
    dw 0x10

    times CODE+0x1000-32-$ db 0
    jmp near back_offline           ; where a processor is given back
    times CODE+0x1000-16-$ db 0
reset_vector:
    bits 32
    jmp near start
    times CODE+0x1000-$ db 0
`;
