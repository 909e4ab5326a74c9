/** Puts a VM's ACPI tables into the firmware area. */

import { ByteWriter } from '../byte-writer.ts';
import type { GuestMemory } from '../guest-memory.ts';
import { FIRMWARE_AREA } from '../layout.ts';
import { dsdtAml } from './dsdt.ts';
import { fadtBody } from './fadt.ts';
import { madtBody } from './madt.ts';

const OEM_ID = 'SOFTVT';
const OEM_TABLE_ID = 'SOFTVT';
const HEADER_SIZE = 36;
const CHECKSUM_AT = 9;
const FACS_SIZE = 64;
const RSDP_SIZE = 36;
const RSDP_V1_SIZE = 20;

/** What, added to the sum of `bytes`, gives 0 modulo 256. */
export function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (const byte of bytes) sum += byte;
  return -sum & 0xff;
}

/** A system description table: header, checksum, body. @see ACPI "System Description Table Header" */
export function table(signature: string, revision: number, body: Uint8Array): Uint8Array {
  const bytes = new ByteWriter()
    .text(signature, 4)
    .u32(HEADER_SIZE + body.length)
    .u8(revision, 0)
    .text(OEM_ID, 6, 0x20)
    .text(OEM_TABLE_ID, 8, 0x20)
    .u32(1)
    .text('SVT', 4, 0x20)
    .u32(1)
    .bytes(body)
    .finish();
  bytes[CHECKSUM_AT] = checksum(bytes);
  return bytes;
}

/** Root System Description Pointer, revision 2. @see ACPI "Root System Description Pointer (RSDP) Structure" */
export function rsdp(rsdt: number, xsdt: number): Uint8Array {
  const bytes = new ByteWriter()
    .text('RSD PTR ', 8)
    .u8(0)
    .text(OEM_ID, 6, 0x20)
    .u8(2)
    .u32(rsdt, RSDP_SIZE)
    .u64(xsdt)
    .u32(0)
    .finish();
  bytes[8] = checksum(bytes.subarray(0, RSDP_V1_SIZE));
  bytes[32] = checksum(bytes);
  return bytes;
}

/** Firmware ACPI Control Structure, version 2; it wants 64-byte alignment. @see ACPI "Firmware ACPI Control Structure (FACS)" */
export function facs(): Uint8Array {
  return new ByteWriter().text('FACS', 4).u32(FACS_SIZE).zeros(24).u8(2).zeros(31).finish();
}

/** Writes the tables for `cpus` processors and gives the RSDP's address, which a scan of the BIOS area finds as well. */
export function writeAcpiTables(memory: GuestMemory, cpus: number): number {
  // The RSDP comes first, so that every kind of scan finds it; the FACS wants 64-byte alignment.
  const free = { next: FIRMWARE_AREA + 0x40 };
  const place = (bytes: Uint8Array): number => {
    const address = free.next;
    memory.write(address, bytes);
    free.next = Math.ceil((address + bytes.length) / 64) * 64;
    return address;
  };
  const firmware = place(facs());
  const dsdt = place(table('DSDT', 2, dsdtAml()));
  const fadt = place(table('FACP', 6, fadtBody(firmware, dsdt)));
  const madt = place(table('APIC', 4, madtBody(cpus)));
  const rsdt = place(table('RSDT', 1, new ByteWriter().u32(fadt, madt).finish()));
  const xsdt = place(table('XSDT', 1, new ByteWriter().u64(fadt, madt).finish()));
  memory.write(FIRMWARE_AREA, rsdp(rsdt, xsdt));
  return FIRMWARE_AREA;
}
