# Entry of the bench guest: a Multiboot image that switches to 64-bit mode with the first GiB mapped one to one.
# Everything above stays unmapped, for the page-fault bench.

        .set MAGIC, 0x1badb002
        .set HAS_ADDRESSES, 0x10000
        .set PRESENT_WRITABLE, 3
        .set LARGE_PAGE, 0x83
        .set PAGE_FAULT, 14

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
        movl $(pdpt + PRESENT_WRITABLE), pml4
        movl $(directory + PRESENT_WRITABLE), pdpt
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
        or $0x20, %eax                  # CR4.PAE
        mov %eax, %cr4
        mov $0xc0000080, %ecx           # IA32_EFER
        rdmsr
        or $0x100, %eax                 # LME
        wrmsr
        mov %cr0, %eax
        or $0x80000001, %eax            # PG, PE
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
        # One gate, for #PF.
        lea skip_load(%rip), %rax
        lea idt + PAGE_FAULT * 16(%rip), %rdi
        mov %ax, (%rdi)
        movw $8, 2(%rdi)
        movw $0x8e00, 4(%rdi)
        shr $16, %rax
        mov %ax, 6(%rdi)
        lidt idtr
        call run
        # isa-debug-exit; hypervisors without it are ended by whoever reads the last line.
        xor %eax, %eax
        out %al, $0xf4
1:      hlt
        jmp 1b

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
gdt:    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdtr:   .word 23
        .quad gdt
idtr:   .word 32 * 16 - 1
        .quad idt

        .bss
        .align 4096
pml4:   .skip 4096
pdpt:   .skip 4096
directory: .skip 4096
idt:    .skip 32 * 16
        .skip 65536
stack_top:
