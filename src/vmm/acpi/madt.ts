/** The MADT: which interrupt controllers there are and how the ISA interrupts reach them. */

import { ByteWriter } from '../byte-writer.ts';
import { IOAPIC_ADDRESS, LOCAL_APIC_ADDRESS, SCI_IRQ } from '../layout.ts';

const PCAT_COMPAT = 1;
const ENABLED = 1;
/** Ids from here on need x2APIC structures; 255 is the xAPIC's broadcast. */
const FIRST_WIDE_ID = 255;
const LEVEL_ACTIVE_HIGH = 0xd;
const BUS_DEFAULT = 0;
const TIMER_GSI = 2;
const ALL_PROCESSORS = 0xff;
const ALL_PROCESSORS_WIDE = 0xffff_ffff;

/** Everything after the table header, for processors with the APIC ids 0 to `cpus` - 1. @see ACPI "Multiple APIC Description Table (MADT)" */
export function madtBody(cpus: number): Uint8Array {
  const out = new ByteWriter().u32(LOCAL_APIC_ADDRESS, PCAT_COMPAT);
  for (let id = 0; id < cpus; id++) {
    if (id < FIRST_WIDE_ID) out.u8(0, 8, id, id).u32(ENABLED);
    else out.u8(9, 16).u16(0).u32(id, ENABLED, id);
  }
  out.u8(1, 12, 0, 0).u32(IOAPIC_ADDRESS, 0);
  // The 8254's line goes to pin 2, because pin 0 is the 8259's.
  out.u8(2, 10, BUS_DEFAULT, 0).u32(TIMER_GSI).u16(0);
  out.u8(2, 10, BUS_DEFAULT, SCI_IRQ).u32(SCI_IRQ).u16(LEVEL_ACTIVE_HIGH);
  // NMI on LINT1 of every processor.
  out.u8(4, 6, ALL_PROCESSORS).u16(0).u8(1);
  if (cpus > FIRST_WIDE_ID) out.u8(10, 12).u16(0).u32(ALL_PROCESSORS_WIDE).u8(1, 0, 0, 0);
  return out.finish();
}
