/** The BIOS data area: what a PC's firmware leaves at 400h for whoever comes after it. */

import { ByteWriter } from '../byte-writer.ts';
import type { GuestMemory } from '../guest-memory.ts';
import { COM1_PORT, LOW_RAM_END } from '../layout.ts';

const BIOS_DATA_AREA = 0x400;
const SIZE = 0x100;
/** A floating-point unit, and one serial port. */
const EQUIPMENT = 0x0202;

/** Writes the fields that kernels look at: serial port, extended area, equipment, and size of low RAM. */
export function writeBiosDataArea(memory: GuestMemory): void {
  const fields = new ByteWriter()
    .u16(COM1_PORT, 0, 0, 0) //   400h: serial ports
    .u16(0, 0, 0) //              408h: parallel ports
    .u16(LOW_RAM_END >> 4) //     40Eh: segment of the extended BIOS data area
    .u16(EQUIPMENT) //            410h
    .u8(0)
    .u16(LOW_RAM_END >> 10); //   413h: KiB of low RAM
  memory.write(BIOS_DATA_AREA, fields.zeros(SIZE - fields.length).finish());
  // The extended area begins with its size in KiB.
  memory.write(LOW_RAM_END, Uint8Array.of(1));
}
