# Entry of the bench guest: a Multiboot image that switches to 64-bit mode with the first GiB mapped one to one.
# Everything above stays unmapped, for the page-fault bench.

        .set MAGIC, 0x1badb002
        .set HAS_ADDRESSES, 0x10000
        .set PRESENT_WRITABLE_USER, 7
        .set LARGE_PAGE, 0x87
        .set PAGE_FAULT, 14
        .set SOFTWARE, 0x40
        .set KERNEL_CODE, 0x08
        .set USER_BASE, 0x10                    # SYSRET: SS is 8 behind, CS is 16 behind
        .set IA32_STAR, 0xc0000081
        .set IA32_LSTAR, 0xc0000082
        .set IA32_FMASK, 0xc0000084

        .section .start, "ax"
        .code32
header: .long MAGIC, HAS_ADDRESSES, -(MAGIC + HAS_ADDRESSES)
        .long header, load_start, load_end, bss_end, start32

        .globl start32
start32:
        cli
        cld
        # Who loads this may or may not clear .bss.
        mov $bss_start, %edi
        mov $bss_end, %ecx
        sub %edi, %ecx
        xor %eax, %eax
        rep stosb
        movl $(pdpt + PRESENT_WRITABLE_USER), pml4
        movl $(directory + PRESENT_WRITABLE_USER), pdpt
        mov $directory, %edi
        mov $LARGE_PAGE, %eax
        mov $512, %ecx
1:      mov %eax, (%edi)
        add $0x200000, %eax
        add $8, %edi
        loop 1b
        mov $pml4, %eax
        mov %eax, %cr3
        mov %cr4, %eax
        or $0x620, %eax                 # CR4.PAE, OSFXSR, OSXMMEXCPT
        mov %eax, %cr4
        mov $0xc0000080, %ecx           # IA32_EFER
        rdmsr
        or $0x101, %eax                 # LME, SCE
        wrmsr
        mov %cr0, %eax
        and $~4, %eax                   # EM
        or $0x80000003, %eax            # PG, MP, PE
        mov %eax, %cr0
        lgdt gdtr
        ljmp $8, $start64

        .code64
start64:
        mov $16, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        mov $stack_top, %rsp
        lea skip_load(%rip), %rax
        lea idt + PAGE_FAULT * 16(%rip), %rdi
        call set_gate
        lea return_at_once(%rip), %rax
        lea idt + SOFTWARE * 16(%rip), %rdi
        call set_gate
        lidt idtr
        mov $IA32_STAR, %ecx
        xor %eax, %eax
        mov $(USER_BASE << 16 | KERNEL_CODE), %edx
        wrmsr
        mov $IA32_LSTAR, %ecx
        lea serve_call(%rip), %rax
        xor %edx, %edx
        wrmsr
        mov $IA32_FMASK, %ecx
        xor %eax, %eax
        wrmsr
        call run
        # isa-debug-exit; hypervisors without it are ended by whoever reads the last line.
        xor %eax, %eax
        out %al, $0xf4
1:      hlt
        jmp 1b

# Makes an interrupt gate at RDI for the handler at RAX, which lies below 4 GiB.
set_gate:
        mov %ax, (%rdi)
        movw $KERNEL_CODE, 2(%rdi)
        movw $0x8e00, 4(%rdi)
        shr $16, %rax
        mov %ax, 6(%rdi)
        ret

return_at_once:
        iretq

# Makes RDI system calls from level 3. RAX is 0 but in the last one.
        .globl system_calls
system_calls:
        mov %rsp, %rsi
        lea 1f(%rip), %rcx
        mov $2, %r11
        sysretq
1:      xor %eax, %eax
2:      syscall
        dec %rdi
        jnz 2b
        mov $1, %eax
        syscall

serve_call:
        swapgs
        test %eax, %eax
        jnz 1f
        swapgs
        sysretq
1:      swapgs
        mov %rsi, %rsp
        ret

# Adds a constant that the caller has changed.
        .globl changed_code, changed_immediate
        .balign 4096
changed_code:
        mov %edi, %eax
        .byte 0x05                      # add $imm32, %eax
changed_immediate:
        .long 0
        ret
        .balign 4096

# #PF: goes on behind the two-byte load of fault_once.
skip_load:
        addq $2, 8(%rsp)
        add $8, %rsp
        iretq

        .globl fault_once
fault_once:
        movabs $0x100000000, %rdi
        movb (%rdi), %al
        ret

        .section .rodata
        .align 8
gdt:    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cff3000000ffff, 0x00affb000000ffff
gdtr:   .word 39
        .quad gdt
idtr:   .word 128 * 16 - 1
        .quad idt

        .bss
        .align 4096
pml4:   .skip 4096
pdpt:   .skip 4096
directory: .skip 4096
idt:    .skip 128 * 16
        .skip 65536
stack_top:
