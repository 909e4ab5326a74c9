/**
 * A TD's ACPI tables: the fixed hardware of a VM, without 8259s, with a mailbox at which processors wait, and with an edge
 * even for ACPI's own interrupt, because KVM cannot see when a TD ends one.
 */

import { dsdtAml } from '../acpi/dsdt.ts';
import { fadtBody } from '../acpi/fadt.ts';
import { facs, rsdp, table } from '../acpi/tables.ts';
import { ByteWriter } from '../byte-writer.ts';
import { IOAPIC_ADDRESS, LOCAL_APIC_ADDRESS, SCI_IRQ } from '../layout.ts';

const ENABLED = 1;
/** Ids from here on need x2APIC structures. */
const FIRST_WIDE_ID = 255;
const LOCAL_APIC = 0;
const IO_APIC = 1;
const SOURCE_OVERRIDE = 2;
const LOCAL_X2APIC = 9;
const MULTIPROCESSOR_WAKEUP = 0x10;
const EDGE_ACTIVE_HIGH = 0x5;
/** Room for the RSDP; tables lie on such boundaries, which the FACS needs. */
const ALIGNMENT = 64;

/**
 * Everything after the MADT's header, for processors with the APIC ids 0 to `cpus` - 1. PCAT_COMPAT is clear: there are
 * no 8259s. The mailbox has version 1: processors can be given back at `offline`. Without that Linux (from 6.11 on) makes
 * the mailbox's address in the table 0, so that no other kernel after it believes in it, and then finds a wrong checksum.
 * @see ACPI "Multiple APIC Description Table (MADT)", "Multiprocessor Wakeup Structure"
 */
export function tdMadtBody(cpus: number, mailbox: number, offline: number): Uint8Array {
  const out = new ByteWriter().u32(LOCAL_APIC_ADDRESS, 0);
  for (let id = 0; id < cpus; id++) {
    if (id < FIRST_WIDE_ID) out.u8(LOCAL_APIC, 8, id, id).u32(ENABLED);
    else out.u8(LOCAL_X2APIC, 16).u16(0).u32(id, ENABLED, id);
  }
  out.u8(IO_APIC, 12, 0, 0).u32(IOAPIC_ADDRESS, 0);
  out.u8(SOURCE_OVERRIDE, 10, 0, SCI_IRQ).u32(SCI_IRQ).u16(EDGE_ACTIVE_HIGH);
  return out.u8(MULTIPROCESSOR_WAKEUP, 24).u16(1).u32(0).u64(mailbox, offline).finish();
}

/** The tables as one piece to lie at `address`, with the RSDP first. */
export function tdAcpiTables(address: number, cpus: number, mailbox: number, offline: number): Uint8Array {
  const out = new ByteWriter().zeros(ALIGNMENT);
  const place = (bytes: Uint8Array): number => {
    const at = address + out.length;
    out.bytes(bytes).align(ALIGNMENT);
    return at;
  };
  const firmware = place(facs());
  const dsdt = place(table('DSDT', 2, dsdtAml()));
  const fadt = place(table('FACP', 6, fadtBody(firmware, dsdt)));
  const madt = place(table('APIC', 5, tdMadtBody(cpus, mailbox, offline)));
  const rsdt = place(table('RSDT', 1, new ByteWriter().u32(fadt, madt).finish()));
  const xsdt = place(table('XSDT', 1, new ByteWriter().u64(fadt, madt).finish()));
  const all = out.finish();
  all.set(rsdp(rsdt, xsdt));
  return all;
}
