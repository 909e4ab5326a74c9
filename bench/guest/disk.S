# Boot sector: loads the sectors behind it (disk-loader.c) by the BIOS and enters them in flat 32-bit protected mode.

        .set LOADER, 0x60000
        .set SECTORS, 15

        .code16
        .globl boot
boot:   cli
        xor %ax, %ax
        mov %ax, %ds
        mov %ax, %es
        mov %ax, %ss
        mov $0x7c00, %sp
        mov $packet, %si
        mov $0x42, %ah                  # extended read; DL is the drive already
        int $0x13
        in $0x92, %al                   # A20
        or $2, %al
        out %al, $0x92
        lgdt gdtr
        mov %cr0, %eax
        or $1, %al
        mov %eax, %cr0
        ljmp $0x10, $protected

        .code32
protected:
        mov $0x18, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        mov %eax, %fs
        mov %eax, %gs
        mov $0x9f000, %esp
        mov $LOADER, %eax
        call *%eax

        .align 8
# __BOOT_CS is 0x10 and __BOOT_DS is 0x18, as Linux wants.
gdt:    .quad 0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:   .word 31
        .long gdt
packet: .byte 16, 0
        .word SECTORS, 0, LOADER / 16
        .quad 1

        .org 510
        .word 0xaa55
