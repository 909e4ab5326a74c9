/**
 * Where things lie in a guest's physical address space.
 *
 *   0x0000_0500  GDT of the first processor
 *   0x0000_7000  boot_params ("zero page"), or hvm_start_info / multiboot information
 *   0x0000_9000  page tables of the 64-bit entry: PML4, PDPT, four page directories
 *   0x0001_0000  module lists and memory maps of PVH and Multiboot
 *   0x0002_0000  command line
 *   0x0009_fc00  end of low RAM
 *   0x000a_0000  VGA window: nobody answers
 *   0x000e_0000  ACPI tables, MP table
 *   0x0010_0000  the kernel as loaded; the initrd lies as high as it may
 *   0xc000_0000  end of what may be RAM; MMIO hole with IOAPIC, local APICs and KVM's own pages
 */

export const GDT_ADDRESS = 0x500;
export const BOOT_INFO_ADDRESS = 0x7000;
export const PAGE_TABLES_ADDRESS = 0x9000;
export const BOOT_LISTS_ADDRESS = 0x10000;
export const COMMAND_LINE_ADDRESS = 0x20000;
/** Longest command line with its NUL. */
export const COMMAND_LINE_SIZE = 0x10000;
export const LOW_RAM_END = 0x9fc00;
export const VGA_WINDOW = 0xa0000;
export const VGA_WINDOW_END = 0xc0000;
export const FIRMWARE_AREA = 0xe0000;
export const HIGH_RAM = 0x100000;
/** RAM never reaches beyond this. */
export const RAM_LIMIT = 0xc0000000;
export const IOAPIC_ADDRESS = 0xfec00000;
export const LOCAL_APIC_ADDRESS = 0xfee00000;
/** One page for the identity map, then three for the TSS that VMX without unrestricted guest would need. */
export const KVM_IDENTITY_MAP_ADDRESS = 0xfffbc000;
export const KVM_TSS_ADDRESS = 0xfffbd000;

/** ACPI fixed hardware, where PIIX4 boards of QEMU have it. */
export const PM_EVENT_PORT = 0x600;
export const PM_CONTROL_PORT = 0x604;
export const PM_TIMER_PORT = 0x608;
/** ISA interrupt of ACPI events. */
export const SCI_IRQ = 9;
export const RESET_PORT = 0xcf9;
/** What, written to {@link RESET_PORT}, resets the machine. */
export const RESET_VALUE = 0x0e;
export const COM1_PORT = 0x3f8;
export const COM1_IRQ = 4;
export const RTC_PORT = 0x70;
export const RTC_IRQ = 8;
/** Panic notification device. */
export const PVPANIC_PORT = 0x505;
