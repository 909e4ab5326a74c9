/**
 * IPI virtualization: interrupts that the guest sends to one virtual processor are posted to it without an exit.
 *
 *   PID-pointer table: by virtual APIC identifier, 8 bytes: 0 valid | 5:1 0 | 63:6 address of the posted-interrupt descriptor
 *   descriptor: 0 PIR | 32 ON (bit 0), SN (bit 1) | 34 notification vector | 36 notification destination
 *
 * @sdm "IPI Virtualization"
 */
import { DeliveryMode, Shorthand } from '../../devices/interrupt-message.ts';
import { TERTIARY } from './controls.ts';
import { F } from './field-slots.ts';
import { REASON } from './reasons.ts';
import { apicTrap, VAPIC } from './virtual-apic.ts';
import type { VtxState } from './vtx-state.ts';

const CONTROL = 32;
const NOTIFICATION_VECTOR = 34;
const NOTIFICATION_DESTINATION = 36;
const OUTSTANDING = 1;
const SUPPRESSED = 2;
const ENTRY_LOW = 0x3fn;
const ENTRY_VALID = 1n;

/** Reserved bits, shorthand, trigger mode, delivery status, destination mode and delivery mode. */
const ICR_KIND = 0xffff_bf00;

export const virtualizesIpis = (v: VtxState): boolean => (v.tertiary & TERTIARY.IPI_VIRTUALIZATION) !== 0;

/** A fixed, edge-triggered interrupt for one physical identifier. */
export const isUnicastIpi = (icr: number): boolean => (icr & ICR_KIND) === 0;

/** Address of a virtual processor's descriptor, or -1 if it has none that the processor could use. */
function descriptorOf(v: VtxState, apicId: number): number {
  const vmcs = v.current!;
  if (apicId > vmcs.low(F.LAST_PID_POINTER_INDEX)) return -1;
  const entry = v.memory.read64(vmcs.address(F.PID_POINTER_TABLE) + apicId * 8);
  if ((entry & ENTRY_LOW) !== ENTRY_VALID || entry >> BigInt(v.capabilities.physicalAddressBits)) return -1;
  return Number(entry & ~ENTRY_LOW);
}

/** @param destination virtual APIC identifier */
export function virtualizeIpi(v: VtxState, vector: number, destination: number): void {
  const descriptor = vector < 16 ? -1 : descriptorOf(v, destination);
  if (descriptor < 0) return apicTrap(v, REASON.APIC_WRITE, VAPIC.ICR_LOW);
  const { memory, p } = v;
  const at = descriptor + 4 * (vector >> 5);
  memory.write32(at, memory.read32(at) | (1 << (vector & 31)));
  const control = memory.read8(descriptor + CONTROL);
  if (control & (OUTSTANDING | SUPPRESSED)) return;
  memory.write8(descriptor + CONTROL, control | OUTSTANDING);
  const notify = memory.read32(descriptor + NOTIFICATION_DESTINATION);
  const message = {
    destination: p.apic.mode === 'x2apic' ? notify : (notify >>> 8) & 0xff,
    logical: false,
    deliveryMode: DeliveryMode.fixed,
    vector: memory.read8(descriptor + NOTIFICATION_VECTOR),
    levelTriggered: false,
    asserted: true,
  };
  p.machine.apicBus.sendIpi(p.apic, message, Shorthand.none);
}
