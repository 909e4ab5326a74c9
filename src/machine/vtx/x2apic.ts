/**
 * RDMSR and WRMSR of 800h to 8FFh with "virtualize x2APIC mode": after the MSR bitmap, whatever the mode of the real APIC.
 *
 * @sdm "Virtualizing MSR-Based APIC Accesses"
 */
import { DONE, GP, type Outcome } from '../outcome.ts';
import { SECONDARY } from './controls.ts';
import { isUnicastIpi, virtualizeIpi, virtualizesIpis } from './ipi-virtualization.ts';
import { REASON } from './reasons.ts';
import { apicTrap, VAPIC, virtualizeEoi, virtualizeSelfIpi, virtualizeTpr, writeVirtual } from './virtual-apic.ts';
import type { Vtx } from './vtx.ts';

const X2APIC_FIRST = 0x800;
const X2APIC_LAST = 0x8ff;
const TPR = 0x808;
const EOI = 0x80b;
const ICR = 0x830;
const SELF_IPI = 0x83f;

const inForce = (v: Vtx, index: number): boolean =>
  (v.secondary & SECONDARY.VIRTUALIZE_X2APIC) !== 0 && index >= X2APIC_FIRST && index <= X2APIC_LAST;

/** What RDMSR gives; undefined where it is not virtualized. */
export function readVirtualX2apic(v: Vtx, index: number): bigint | undefined {
  if (!inForce(v, index)) return undefined;
  if (index !== TPR && (v.secondary & SECONDARY.APIC_REGISTER_VIRTUALIZATION) === 0) return undefined;
  return v.memory.read64(v.virtualApicPage + ((index & 0xff) << 4));
}

/** ICR bits 31:20, 17:16 and 13. */
const ICR_RESERVED = 0xfff3_2000n;

function writeIcr(v: Vtx, value: bigint): Outcome {
  if (value & ICR_RESERVED) return v.p.raise(GP, 0);
  // all checks passed
  const low = Number(value & 0xffff_ffffn);
  const destination = Number(value >> 32n);
  writeVirtual(v, VAPIC.ICR_LOW, low);
  writeVirtual(v, VAPIC.ICR_LOW + 4, destination);
  if (isUnicastIpi(low)) virtualizeIpi(v, low & 0xff, destination);
  else apicTrap(v, REASON.APIC_WRITE, VAPIC.ICR_LOW);
  return DONE;
}

/** WRMSR: DONE or FAULT, or undefined where it is not virtualized. */
export function writeVirtualX2apic(v: Vtx, index: number, value: bigint): Outcome | undefined {
  if (!inForce(v, index)) return undefined;
  if (index === ICR && virtualizesIpis(v)) return writeIcr(v, value);
  const delivery = (v.secondary & SECONDARY.VIRTUAL_INTERRUPT_DELIVERY) !== 0;
  if (index !== TPR && !(delivery && (index === EOI || index === SELF_IPI))) return undefined;
  if (value > (index === EOI ? 0n : 0xffn)) return v.p.raise(GP, 0);
  // all checks passed
  const low = Number(value);
  const offset = (index & 0xff) << 4;
  writeVirtual(v, offset, low);
  writeVirtual(v, offset + 4, 0);
  if (index === TPR) virtualizeTpr(v);
  else if (index === EOI) virtualizeEoi(v);
  else if (low >= 16) virtualizeSelfIpi(v, low);
  else apicTrap(v, REASON.APIC_WRITE, VAPIC.SELF_IPI);
  return DONE;
}
