/**
 * The MP table, by which kernels that do not know ACPI (or were told `acpi=off`) find processors and the IOAPIC.
 *
 * @see Intel MultiProcessor Specification 1.4 "MP Configuration Table"
 */

import { checksum } from './acpi/tables.ts';
import { ByteWriter } from './byte-writer.ts';
import type { GuestMemory } from './guest-memory.ts';
import { IOAPIC_ADDRESS, LOCAL_APIC_ADDRESS } from './layout.ts';

/** The floating pointer lies where a BIOS ROM would be, with the table behind it. */
const POINTER_ADDRESS = 0xf0000;
const TABLE_ADDRESS = 0xf0010;
const REVISION_1_4 = 4;
/** Ids of xAPICs; 255 is broadcast, and the IOAPIC needs one of its own. */
const MOST_PROCESSORS = 254;

const PROCESSOR = 0;
const BUS = 1;
const IOAPIC = 2;
const IO_INTERRUPT = 3;
const LOCAL_INTERRUPT = 4;
const ENABLED = 1;
const BOOTSTRAP = 2;
const TYPE_INT = 0;
const TYPE_NMI = 1;
const TYPE_EXTINT = 3;
const ISA_BUS = 0;
const ALL_APICS = 0xff;
const APIC_VERSION = 0x14;
const IOAPIC_VERSION = 0x11;
const FEATURE_FPU = 1;
const FEATURE_APIC = 1 << 9;

/** Writes the table for `cpus` processors; more than xAPIC ids can name are left out. */
export function writeMpTable(memory: GuestMemory, cpus: number): void {
  const processors = Math.min(cpus, MOST_PROCESSORS);
  const entries = new ByteWriter();
  const written = { count: 0 };
  const entry = (type: number): ByteWriter => {
    written.count++;
    return entries.u8(type);
  };
  for (let id = 0; id < processors; id++) {
    const flags = ENABLED | (id === 0 ? BOOTSTRAP : 0);
    entry(PROCESSOR)
      .u8(id, APIC_VERSION, flags)
      .u32(0x600, FEATURE_FPU | FEATURE_APIC, 0, 0);
  }
  entry(BUS).u8(ISA_BUS).text('ISA', 6, 0x20);
  entry(IOAPIC).u8(processors, IOAPIC_VERSION, ENABLED).u32(IOAPIC_ADDRESS);
  for (let irq = 0; irq < 16; irq++) {
    // The 8254 is on pin 2, where nothing else is; IRQ 2 is the cascade of the 8259s.
    if (irq !== 2)
      entry(IO_INTERRUPT)
        .u8(TYPE_INT)
        .u16(0)
        .u8(ISA_BUS, irq, processors, irq === 0 ? 2 : irq);
  }
  entry(LOCAL_INTERRUPT).u8(TYPE_EXTINT).u16(0).u8(ISA_BUS, 0, 0, 0);
  entry(LOCAL_INTERRUPT).u8(TYPE_NMI).u16(0).u8(ISA_BUS, 0, ALL_APICS, 1);

  const header = (sum: number): ByteWriter =>
    new ByteWriter()
      .text('PCMP', 4)
      .u16(44 + entries.length)
      .u8(REVISION_1_4, sum)
      .text('SOFTVT', 8, 0x20)
      .text('VM', 12, 0x20)
      .u32(0)
      .u16(0, written.count)
      .u32(LOCAL_APIC_ADDRESS, 0);
  const table = (sum: number): Uint8Array => header(sum).bytes(entries.finish()).finish();
  memory.write(TABLE_ADDRESS, table(checksum(table(0))));

  const pointer = (sum: number): Uint8Array =>
    new ByteWriter().text('_MP_', 4).u32(TABLE_ADDRESS).u8(1, REVISION_1_4, sum, 0, 0, 0, 0, 0).finish();
  memory.write(POINTER_ADDRESS, pointer(checksum(pointer(0))));
}
