/** The DSDT's contents: sleep state S5 and the legacy devices that ACPI operating systems look for here only. */

import { COM1_IRQ, COM1_PORT, PVPANIC_PORT, RTC_IRQ, RTC_PORT } from '../layout.ts';
import {
  type Aml,
  concat,
  device,
  eisaId,
  integer,
  ioPorts,
  irq,
  name,
  packageOf,
  resources,
  scope,
  string,
} from './aml.ts';

/** SLP_TYP of S5, soft off; S0 is 0. */
export const SLEEP_TYPE_S5 = 5;

/** _STA: present, enabled, shown, functioning. */
const STATUS_OK = 0xf;

/** The AML of the DSDT. */
export function dsdtAml(): Aml {
  return concat(
    name('\\_S5', packageOf(integer(SLEEP_TYPE_S5), integer(SLEEP_TYPE_S5), integer(0), integer(0))),
    scope(
      '\\_SB',
      device(
        'COM1',
        name('_HID', eisaId('PNP0501')),
        name('_UID', integer(1)),
        name('_STA', integer(STATUS_OK)),
        name('_CRS', resources(ioPorts(COM1_PORT, 8), irq(COM1_IRQ))),
      ),
      device(
        'RTC',
        name('_HID', eisaId('PNP0B00')),
        name('_STA', integer(STATUS_OK)),
        name('_CRS', resources(ioPorts(RTC_PORT, 8), irq(RTC_IRQ))),
      ),
      device(
        'PEVT',
        name('_HID', string('QEMU0001')),
        name('_STA', integer(STATUS_OK)),
        name('_CRS', resources(ioPorts(PVPANIC_PORT, 1))),
      ),
    ),
  );
}
