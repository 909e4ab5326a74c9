/**
 * A TD's ACPI tables: hardware-reduced ACPI, because a TD has no 8259, no 8254 and no interrupt that stays asserted.
 *
 * Power-off is by the sleep control register, the processors wait at a mailbox, and every interrupt is an edge.
 */

import { dsdtAml } from '../acpi/dsdt.ts';
import { rsdp, table } from '../acpi/tables.ts';
import { ByteWriter } from '../byte-writer.ts';
import { IOAPIC_ADDRESS, LOCAL_APIC_ADDRESS, RESET_PORT, RESET_VALUE } from '../layout.ts';
import { SLEEP_CONTROL_PORT, SLEEP_STATUS_PORT } from './sleep-control.ts';

const ENABLED = 1;
/** Ids from here on need x2APIC structures. */
const FIRST_WIDE_ID = 255;
const LOCAL_APIC = 0;
const IO_APIC = 1;
const LOCAL_X2APIC = 9;
const MULTIPROCESSOR_WAKEUP = 0x10;

/**
 * Everything after the MADT's header, for processors with the APIC ids 0 to `cpus` - 1. PCAT_COMPAT is clear: there are
 * no 8259s. @see ACPI "Multiple APIC Description Table (MADT)", "Multiprocessor Wakeup Structure"
 */
export function tdMadtBody(cpus: number, mailbox: number): Uint8Array {
  const out = new ByteWriter().u32(LOCAL_APIC_ADDRESS, 0);
  for (let id = 0; id < cpus; id++) {
    if (id < FIRST_WIDE_ID) out.u8(LOCAL_APIC, 8, id, id).u32(ENABLED);
    else out.u8(LOCAL_X2APIC, 16).u16(0).u32(id, ENABLED, id);
  }
  out.u8(IO_APIC, 12, 0, 0).u32(IOAPIC_ADDRESS, 0);
  return out.u8(MULTIPROCESSOR_WAKEUP, 16).u16(0).u32(0).u64(mailbox).finish();
}

const WBINVD = 1 << 0;
const PROC_C1 = 1 << 2;
const POWER_BUTTON_NOT_FIXED = 1 << 4;
const SLEEP_BUTTON_NOT_FIXED = 1 << 5;
const RESET_REG_SUP = 1 << 10;
const HW_REDUCED_ACPI = 1 << 20;
const LEGACY_DEVICES = 1 << 0;
const VGA_NOT_PRESENT = 1 << 2;
const RTC_CENTURY = 0x32;
const NO_LATENCY = 0xffff;
const SYSTEM_IO = 1;
const BYTE_ACCESS = 1;
/** Blocks of the full hardware model, PM1a event to GPE1, in their 64-bit form. */
const EXTENDED_BLOCKS = 8;

/** Everything after the FADT's header, revision 6.0. @see ACPI "Fixed ACPI Description Table (FADT)" */
export function tdFadtBody(dsdt: number): Uint8Array {
  const port = (out: ByteWriter, address: number): ByteWriter => out.u8(SYSTEM_IO, 8, 0, BYTE_ACCESS).u64(address);
  const out = new ByteWriter()
    .u32(0, dsdt)
    .zeros(4) // reserved, profile, no SCI
    .zeros(48) // no SMI command, no blocks of the full hardware model
    .u16(NO_LATENCY, NO_LATENCY, 0, 0)
    .u8(0, 0, 0, 0, RTC_CENTURY)
    .u16(LEGACY_DEVICES | VGA_NOT_PRESENT)
    .u8(0)
    .u32(WBINVD | PROC_C1 | POWER_BUTTON_NOT_FIXED | SLEEP_BUTTON_NOT_FIXED | RESET_REG_SUP | HW_REDUCED_ACPI);
  port(out, RESET_PORT)
    .u8(RESET_VALUE)
    .u16(0)
    .u8(0) // minor revision
    .u64(0, dsdt)
    .zeros(12 * EXTENDED_BLOCKS);
  port(out, SLEEP_CONTROL_PORT);
  port(out, SLEEP_STATUS_PORT);
  return out.u64(0).finish(); // hypervisor vendor identity
}

/** The tables as one piece to lie at `address`, with the RSDP first. */
export function tdAcpiTables(address: number, cpus: number, mailbox: number): Uint8Array {
  const RSDP_SPACE = 64;
  const out = new ByteWriter().zeros(RSDP_SPACE);
  const place = (bytes: Uint8Array): number => {
    const at = address + out.length;
    out.bytes(bytes).align(64);
    return at;
  };
  const dsdt = place(table('DSDT', 2, dsdtAml()));
  const fadt = place(table('FACP', 6, tdFadtBody(dsdt)));
  const madt = place(table('APIC', 5, tdMadtBody(cpus, mailbox)));
  const rsdt = place(table('RSDT', 1, new ByteWriter().u32(fadt, madt).finish()));
  const xsdt = place(table('XSDT', 1, new ByteWriter().u64(fadt, madt).finish()));
  const all = out.finish();
  all.set(rsdp(rsdt, xsdt));
  return all;
}
