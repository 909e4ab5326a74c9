/** The memory map that a guest is told, in E820's terms. */

import { FIRMWARE_AREA, HIGH_RAM, KVM_IDENTITY_MAP_ADDRESS, LOW_RAM_END, VGA_WINDOW } from './layout.ts';

/** E820 address range types, which Multiboot and PVH share. @see ACPI "Address Range Types" */
export const E820_RAM = 1;
export const E820_RESERVED = 2;

/** One address range: bytes from `address`, of a type. */
export interface MemoryRange {
  readonly address: number;
  readonly size: number;
  readonly type: number;
}

/** The map of a VM with `ramSize` bytes of RAM from address 0, ascending, without overlap. */
export function memoryMap(ramSize: number): MemoryRange[] {
  const range = (from: number, to: number, type: number): MemoryRange => ({
    address: from,
    size: to - from,
    type,
  });
  return [
    range(0, LOW_RAM_END, E820_RAM),
    range(LOW_RAM_END, VGA_WINDOW, E820_RESERVED),
    range(FIRMWARE_AREA, HIGH_RAM, E820_RESERVED),
    range(HIGH_RAM, ramSize, E820_RAM),
    range(KVM_IDENTITY_MAP_ADDRESS, 0x1_0000_0000, E820_RESERVED),
  ];
}
