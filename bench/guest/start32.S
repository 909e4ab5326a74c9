# Entry of the 32-bit bench guest: a Multiboot image that maps everything one to one with pages of 4 MiB.

        .set MAGIC, 0x1badb002
        .set HAS_ADDRESSES, 0x10000
        .set PRESENT_WRITABLE_LARGE, 0x83

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
        mov $directory, %edi
        mov $PRESENT_WRITABLE_LARGE, %eax
        mov $1024, %ecx
1:      mov %eax, (%edi)
        add $0x400000, %eax
        add $4, %edi
        loop 1b
        mov $directory, %eax
        mov %eax, %cr3
        mov %cr4, %eax
        or $0x10, %eax                  # CR4.PSE
        mov %eax, %cr4
        mov %cr0, %eax
        or $0x80000001, %eax            # PG, PE
        mov %eax, %cr0
        lgdt gdtr
        ljmp $8, $1f
1:      mov $16, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        mov $stack_top, %esp
        call run
        # isa-debug-exit; hypervisors without it are ended by whoever reads the last line.
        xor %eax, %eax
        out %al, $0xf4
1:      hlt
        jmp 1b

        .section .rodata
        .align 8
gdt:    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:   .word 23
        .long gdt

        .bss
        .align 4096
directory: .skip 4096
        .skip 65536
stack_top:
