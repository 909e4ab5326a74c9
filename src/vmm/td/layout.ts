/**
 * Where things lie in a TD's guest-physical address space.
 *
 *   0x0000_7000  boot_params
 *   0x0001_0000  TD HOB
 *   0x0002_0000  command line
 *   0x000e_0000  ACPI tables
 *   0x0010_0000  the kernel as loaded; the initrd lies as high as it may
 *   0xfec0_0000  I/O APIC, which user space emulates
 *   0xffff_7000  td-shim: mailbox, page tables, code with the reset vector in its last 16 bytes
 *
 * RAM is one piece from address 0: there is no VGA window, because what lies between 640 KiB and 1 MiB would be neither
 * private memory nor a device, and a kernel that looks for ROMs there would touch it.
 */

import { BOOT_INFO_ADDRESS, COMMAND_LINE_ADDRESS, FIRMWARE_AREA, HIGH_RAM } from '../layout.ts';
import { E820_RAM, type MemoryRange } from '../memory-map.ts';

/** The least RAM that a TD is given: a guest makes 64 MiB of it shared for its bounce buffers. */
export const LEAST_TD_MEMORY: number = 192 * 2 ** 20;

export const TD_HOB_ADDRESS = 0x10000;
/** Bytes set apart for the HOB list. */
export const TD_HOB_SIZE = 0x2000;
export const TD_BOOT_PARAMS_ADDRESS: number = BOOT_INFO_ADDRESS;
export const TD_COMMAND_LINE_ADDRESS: number = COMMAND_LINE_ADDRESS;
export const TD_ACPI_ADDRESS: number = FIRMWARE_AREA;
/** Where the ACPI tables must end. */
export const TD_ACPI_END: number = HIGH_RAM;
/** Conventional memory ends here; a kernel puts the code that starts its processors below. */
export const TD_LOW_RAM_END = 0xa0000;

/** First address above the td-shim. */
export const SHIM_END = 0x1_0000_0000;
/** Mailbox page, seven pages of page tables, one page of code. */
export const SHIM_SIZE = 0x9000;
export const SHIM_ADDRESS: number = SHIM_END - SHIM_SIZE;
/** The multiprocessor wake-up mailbox is the shim's first page. */
export const MAILBOX_ADDRESS: number = SHIM_END - SHIM_SIZE;
/** Where an operating system gives a processor back to the shim, in front of the reset vector. */
export const OFFLINE_VECTOR: number = SHIM_END - 32;

/** E820 address range types that only firmware with ACPI tables has. @see ACPI "Address Range Types" */
export const E820_ACPI = 3;
export const E820_NVS = 4;

/**
 * The memory map of a TD with `ramSize` bytes of RAM. Nothing is of type 2: a kernel would map reserved memory as shared,
 * and all of this is private.
 */
export function tdMemoryMap(ramSize: number): MemoryRange[] {
  const range = (from: number, to: number, type: number): MemoryRange => ({ address: from, size: to - from, type });
  return [
    range(0, TD_LOW_RAM_END, E820_RAM),
    range(TD_ACPI_ADDRESS, TD_ACPI_END, E820_ACPI),
    range(HIGH_RAM, ramSize, E820_RAM),
    range(SHIM_ADDRESS, SHIM_END, E820_NVS),
  ];
}
