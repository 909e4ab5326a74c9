/**
 * Posted-interrupt processing: the notification vector, arriving in non-root operation, moves what the descriptor holds
 * into the virtual-APIC page without a VM exit.
 *
 *   descriptor: 0 PIR, a bit for each vector | 32 outstanding notification (bit 0)
 *
 * @sdm "Posted-Interrupt Processing"
 */
import { ACTIVE, MWAITING } from '../processor.ts';
import { PIN } from './controls.ts';
import { F } from './field-slots.ts';
import { evaluateVirtualInterrupts, readVirtual, VAPIC, writeVirtual } from './virtual-apic.ts';
import type { VtxState } from './vtx-state.ts';

const CONTROL = 32;
const OUTSTANDING = 1;
const PIR_WORDS = 8;
/** Vectors 0 to 30 mean exceptions and NMIs: into a TD the host cannot post them. @tdx "Interrupt Handling and APIC Virtualization" */
const NOT_FOR_TDS = 0x7fff_ffff;

/** Whether an acknowledged interrupt is the notification of posted ones. */
export const isNotification = (v: VtxState, vector: number): boolean =>
  (v.pin & PIN.POSTED_INTERRUPTS) !== 0 && vector === v.current!.low(F.POSTED_INTERRUPT_NOTIFICATION_VECTOR);

/** After the notification vector was acknowledged. The descriptor is shared memory, whoever the guest is. */
export function processPostedInterrupts(v: VtxState): void {
  const { p } = v;
  const { memory } = p.machine;
  const descriptor = v.current!.address(F.POSTED_INTERRUPT_DESCRIPTOR_ADDRESS);
  memory.write8(descriptor + CONTROL, memory.read8(descriptor + CONTROL) & ~OUTSTANDING);
  p.apic.eoi();
  let highest = -1;
  for (let word = 0; word < PIR_WORDS; word++) {
    const requested = memory.read32(descriptor + 4 * word);
    if (requested === 0) continue;
    memory.write32(descriptor + 4 * word, 0);
    const posted = word === 0 && v.tdGuest ? (requested & ~NOT_FOR_TDS) >>> 0 : requested;
    if (posted === 0) continue;
    const at = VAPIC.IRR + 16 * word;
    writeVirtual(v, at, readVirtual(v, at) | posted);
    highest = 32 * word + 31 - Math.clz32(posted);
  }
  if (highest > v.rvi) v.rvi = highest;
  if (p.activity === MWAITING) p.activity = ACTIVE;
  evaluateVirtualInterrupts(v);
}
