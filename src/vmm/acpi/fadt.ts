/** The FADT: fixed hardware for power-off and reset, and what the platform does not have. */

import { ByteWriter } from '../byte-writer.ts';
import { PM_CONTROL_PORT, PM_EVENT_PORT, PM_TIMER_PORT, RESET_PORT, RESET_VALUE, SCI_IRQ } from '../layout.ts';

const WBINVD = 1 << 0;
const PROC_C1 = 1 << 2;
const SLP_BUTTON_NOT_FIXED = 1 << 5;
const RTC_NOT_FIXED = 1 << 6;
/** The PM timer has 32 bits. */
const TMR_VAL_EXT = 1 << 8;
const RESET_REG_SUP = 1 << 10;
const LEGACY_DEVICES = 1 << 0;
const VGA_NOT_PRESENT = 1 << 2;
const NO_LATENCY_C2 = 0xffff;
const RTC_CENTURY = 0x32;
const SYSTEM_IO = 1;

/** Generic address structure of a port range. */
function port(out: ByteWriter, address: number, bits: number, accessSize: number): void {
  if (address === 0) out.zeros(12);
  else out.u8(SYSTEM_IO, bits, 0, accessSize).u64(address);
}

/** Everything after the table header; revision 6.0. @see ACPI "Fixed ACPI Description Table (FADT)" */
export function fadtBody(facs: number, dsdt: number): Uint8Array {
  const out = new ByteWriter()
    .u32(facs, dsdt)
    .u8(0, 0) // reserved, preferred profile
    .u16(SCI_IRQ)
    .u32(0) // SMI_CMD: the platform is always in ACPI mode
    .u8(0, 0, 0, 0)
    .u32(PM_EVENT_PORT, 0, PM_CONTROL_PORT, 0, 0, PM_TIMER_PORT, 0, 0)
    .u8(4, 2, 0, 4, 0, 0, 0, 0) // lengths of the blocks, no GPEs, no CST
    .u16(NO_LATENCY_C2, NO_LATENCY_C2, 0, 0)
    .u8(0, 0, 0, 0, RTC_CENTURY)
    .u16(LEGACY_DEVICES | VGA_NOT_PRESENT)
    .u8(0)
    .u32(WBINVD | PROC_C1 | SLP_BUTTON_NOT_FIXED | RTC_NOT_FIXED | TMR_VAL_EXT | RESET_REG_SUP);
  port(out, RESET_PORT, 8, 1);
  out
    .u8(RESET_VALUE)
    .u16(0)
    .u8(0) // minor revision
    .u64(facs, dsdt);
  port(out, PM_EVENT_PORT, 32, 2);
  port(out, 0, 0, 0);
  port(out, PM_CONTROL_PORT, 16, 2);
  port(out, 0, 0, 0);
  port(out, 0, 0, 0);
  port(out, PM_TIMER_PORT, 32, 3);
  port(out, 0, 0, 0);
  port(out, 0, 0, 0);
  port(out, 0, 0, 0); // sleep control and status registers: hardware-reduced only
  port(out, 0, 0, 0);
  return out.u64(0).finish(); // hypervisor vendor identity
}
