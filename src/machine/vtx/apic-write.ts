/**
 * What follows a virtualized write to the APIC-access page.
 *
 * @sdm "APIC-Write Emulation"
 */
import { isUnicastIpi, virtualizeIpi, virtualizesIpis } from './ipi-virtualization.ts';
import { REASON } from './reasons.ts';
import {
  apicTrap,
  CLASS,
  delivers,
  readVirtual,
  VAPIC,
  virtualizeEoi,
  virtualizeSelfIpi,
  virtualizeTpr,
  writeVirtual,
} from './virtual-apic.ts';
import type { VtxState } from './vtx-state.ts';

/** All bits but the vector, the destination mode and the level: a self-IPI has the shorthand "self" and nothing else there. */
const ICR_KIND = 0xffff_b700;
const ICR_SELF = 0x4_0000;

const isSelfIpi = (icr: number): boolean => (icr & ICR_KIND) >>> 0 === ICR_SELF && (icr & CLASS) !== 0;

/** What follows a virtualized write, after the operation that made it. @sdm "APIC-Write Emulation" */
export function emulateApicWrite(v: VtxState): void {
  const offset = v.apicWrite;
  v.apicWrite = -1;
  switch (offset) {
    case VAPIC.TPR:
      writeVirtual(v, VAPIC.TPR, readVirtual(v, VAPIC.TPR) & 0xff);
      virtualizeTpr(v);
      break;
    case VAPIC.EOI:
      if (!delivers(v)) return apicTrap(v, REASON.APIC_WRITE, offset);
      writeVirtual(v, VAPIC.EOI, 0);
      virtualizeEoi(v);
      break;
    case VAPIC.ICR_LOW: {
      const icr = readVirtual(v, VAPIC.ICR_LOW);
      if (delivers(v) && isSelfIpi(icr)) virtualizeSelfIpi(v, icr & 0xff);
      else if (virtualizesIpis(v) && isUnicastIpi(icr))
        virtualizeIpi(v, icr & 0xff, readVirtual(v, VAPIC.ICR_HIGH) >>> 24);
      else apicTrap(v, REASON.APIC_WRITE, offset);
      break;
    }
    case VAPIC.ICR_HIGH:
    case VAPIC.ICR_HIGH + 1:
    case VAPIC.ICR_HIGH + 2:
    case VAPIC.ICR_HIGH + 3:
      writeVirtual(v, VAPIC.ICR_HIGH, readVirtual(v, VAPIC.ICR_HIGH) & 0xff00_0000);
      break;
    default:
      apicTrap(v, REASON.APIC_WRITE, offset);
  }
}
