/**
 * The ACPI tables as firmware takes them from the configuration device: files, and a script that says where they go, which of
 * their fields point into which file, and which bytes are checksums.
 *
 * ```
 * script entry, 128 bytes   1 allocate      file[56]  alignment u32  zone u8
 *                           2 add pointer   file[56]  pointed-to file[56]  offset u32  size u8
 *                           3 add checksum  file[56]  offset u32  start u32  length u32
 * ```
 * @see QEMU hw/acpi/bios-linker-loader.c, the interface between firmware and QEMU
 */

import type { FirmwareConfig } from '../../devices/fw-cfg.ts';
import { writeAcpiTables } from '../acpi/tables.ts';
import { ByteWriter } from '../byte-writer.ts';
import { ArrayGuestMemory } from '../guest-memory.ts';
import { FIRMWARE_AREA, HIGH_RAM } from '../layout.ts';

const TABLES = 'etc/acpi/tables';
const RSDP = 'etc/acpi/rsdp';
const ALLOCATE = 1;
const ADD_POINTER = 2;
const ADD_CHECKSUM = 3;
const ZONE_HIGH = 1;
const ZONE_F_SEGMENT = 2;
const NAME_SIZE = 56;
const ENTRY_SIZE = 128;

const HEADER_SIZE = 36;
const LENGTH_AT = 4;
const CHECKSUM_AT = 9;
const RSDP_SIZE = 36;
const RSDP_V1_SIZE = 20;
const RSDP_CHECKSUM_AT = 8;
const RSDP_EXTENDED_CHECKSUM_AT = 32;
const RSDP_RSDT_AT = 16;
const RSDP_XSDT_AT = 24;
/** FACS and DSDT in the FADT: 32-bit fields, then 64-bit ones. */
const FADT_POINTERS: readonly (readonly [at: number, size: number])[] = [
  [36, 4],
  [40, 4],
  [132, 8],
  [140, 8],
];

/** Adds the tables for `cpus` processors to what firmware is given. */
export function addAcpiFiles(config: FirmwareConfig, cpus: number): void {
  // They are made for a place of their own; every pointer becomes an offset into the file.
  const memory = new ArrayGuestMemory(HIGH_RAM);
  const root = writeAcpiTables(memory, cpus);
  const area = memory.read(FIRMWARE_AREA, HIGH_RAM - FIRMWARE_AREA);
  const base = root + RSDP_SIZE - FIRMWARE_AREA;
  const end = area.findLastIndex((byte) => byte !== 0) + 1;
  const rsdp = area.slice(root - FIRMWARE_AREA, base);
  const start = Math.ceil(base / 64) * 64;
  const tables = area.slice(start, Math.ceil(end / 64) * 64);
  const view = new DataView(tables.buffer);
  const script = new ByteWriter();
  const entry = (command: number, body: ByteWriter): void => {
    script.u32(command).bytes(body.zeros(ENTRY_SIZE - 4 - body.length).finish());
  };
  const named = (...names: string[]): ByteWriter =>
    names.reduce((out, name) => out.text(name, NAME_SIZE), new ByteWriter());
  const checksum = (file: string, at: number, from: number, length: number): void =>
    entry(ADD_CHECKSUM, named(file).u32(at, from, length));

  entry(ALLOCATE, named(RSDP).u32(16).u8(ZONE_F_SEGMENT));
  entry(ALLOCATE, named(TABLES).u32(64).u8(ZONE_HIGH));
  /** Turns a pointer into an offset; gives it. */
  const relocate = (file: string, bytes: DataView, at: number, size: number): number => {
    const offset = bytes.getUint32(at, true) - FIRMWARE_AREA - start;
    bytes.setUint32(at, offset, true);
    entry(ADD_POINTER, named(file, TABLES).u32(at).u8(size));
    return offset;
  };
  const sealed = new Set<number>();
  const seal = (table: number): void => {
    if (sealed.has(table)) return;
    sealed.add(table);
    tables[table + CHECKSUM_AT] = 0;
    checksum(TABLES, table + CHECKSUM_AT, table, view.getUint32(table + LENGTH_AT, true));
  };
  const pointedTo = new Set<number>();
  const rsdpView = new DataView(rsdp.buffer);
  const roots = [
    { table: relocate(RSDP, rsdpView, RSDP_RSDT_AT, 4), size: 4 },
    { table: relocate(RSDP, rsdpView, RSDP_XSDT_AT, 8), size: 8 },
  ];
  for (const { table, size } of roots) {
    const length = view.getUint32(table + LENGTH_AT, true);
    for (let at = table + HEADER_SIZE; at < table + length; at += size) pointedTo.add(relocate(TABLES, view, at, size));
  }
  for (const table of pointedTo) {
    if (signature(tables, table) !== 'FACP') continue;
    const pointers = FADT_POINTERS.map(([at, size]) => relocate(TABLES, view, table + at, size));
    for (const target of pointers) if (signature(tables, target) === 'DSDT') seal(target);
  }
  for (const table of pointedTo) seal(table);
  for (const { table } of roots) seal(table);
  rsdp[RSDP_CHECKSUM_AT] = 0;
  rsdp[RSDP_EXTENDED_CHECKSUM_AT] = 0;
  checksum(RSDP, RSDP_CHECKSUM_AT, 0, RSDP_V1_SIZE);
  checksum(RSDP, RSDP_EXTENDED_CHECKSUM_AT, 0, RSDP_SIZE);

  config.file(TABLES, tables);
  config.file(RSDP, rsdp);
  config.file('etc/table-loader', script.finish());
}

const signature = (bytes: Uint8Array, at: number): string => String.fromCharCode(...bytes.subarray(at, at + 4));
