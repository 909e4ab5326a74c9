/** For tests: guests with APIC virtualization, interrupt handlers and a virtual-APIC page. */
import { EXIT_CONTROL, PIN, PRIMARY, SECONDARY } from './controls.ts';
import { change, get, guest, set } from './test-guest.ts';
import { VAPIC } from './virtual-apic.ts';
import type { Vtx } from './vtx.ts';

export const VIRTUAL_APIC_PAGE = 0x2_0000;
export const APIC_ACCESS_PAGE = 0x2_1000;
export const DESCRIPTOR = 0x2_2000;
export const VE_AREA = 0x2_3000;
const IDT = 0x2_4000;
/** Handlers: one for each vector, which executes CPUID (and so exits) at HANDLERS + 16 * vector. */
export const HANDLERS = 0x2_5000;
const GDT = 0x2_6000;
export const STACK = 0x2_8000;
export const NOTIFICATION = 0xf2;

/** All of APICv but the APIC-access page. */
export const APICV: number =
  SECONDARY.VIRTUALIZE_X2APIC | SECONDARY.APIC_REGISTER_VIRTUALIZATION | SECONDARY.VIRTUAL_INTERRUPT_DELIVERY;
/** With it. */
export const APICV_MEMORY: number =
  SECONDARY.VIRTUALIZE_APIC_ACCESSES | SECONDARY.APIC_REGISTER_VIRTUALIZATION | SECONDARY.VIRTUAL_INTERRUPT_DELIVERY;

/** A guest with a TPR shadow and these secondary controls; every handler exits by CPUID. MSR accesses do not exit. */
export function apicGuest(hex: string, secondary: number, primary = 0): Vtx {
  const v = guest(hex, PRIMARY.TPR_SHADOW | PRIMARY.MSR_BITMAPS | primary, secondary);
  change(v, 'PIN_CONTROLS', PIN.EXTERNAL_INTERRUPT_EXITING);
  change(v, 'EXIT_CONTROLS', EXIT_CONTROL.ACKNOWLEDGE_INTERRUPT);
  set(v, 'MSR_BITMAP', 0x2_9000);
  set(v, 'VIRTUAL_APIC_ADDRESS', VIRTUAL_APIC_PAGE);
  set(v, 'APIC_ACCESS_ADDRESS', APIC_ACCESS_PAGE);
  set(v, 'GUEST_RSP', STACK);
  set(v, 'GUEST_IDTR_BASE', IDT);
  set(v, 'GUEST_GDTR_BASE', GDT);
  const { memory } = v.p.machine;
  memory.write64(GDT + 0x10, 0x00af_9b00_0000_ffffn);
  for (let vector = 0; vector < 256; vector++) {
    const handler = HANDLERS + 16 * vector;
    memory.write64(
      IDT + 16 * vector,
      0x0000_8e00_0010_0000n | (BigInt(handler >> 16) << 48n) | BigInt(handler & 0xffff),
    );
    memory.write16(handler, 0xa20f);
  }
  return v;
}

/** Posting is on, with an empty descriptor. */
export function withPosting(v: Vtx): Vtx {
  change(v, 'PIN_CONTROLS', PIN.POSTED_INTERRUPTS);
  set(v, 'POSTED_INTERRUPT_NOTIFICATION_VECTOR', NOTIFICATION);
  set(v, 'POSTED_INTERRUPT_DESCRIPTOR_ADDRESS', DESCRIPTOR);
  return v;
}

/** Sets a vector in VIRR, VISR or PIR. */
export function setVector(v: Vtx, base: number, vector: number): void {
  const { memory } = v.p.machine;
  const at = base === DESCRIPTOR ? base + 4 * (vector >> 5) : VIRTUAL_APIC_PAGE + base + 16 * (vector >> 5);
  memory.write32(at, memory.read32(at) | (1 << (vector & 31)));
}
export const hasVector = (v: Vtx, base: number, vector: number): boolean =>
  ((virtualRegister(v, base + 16 * (vector >> 5)) >>> (vector & 31)) & 1) !== 0;
export const virtualRegister = (v: Vtx, offset: number): number =>
  v.p.machine.memory.read32(VIRTUAL_APIC_PAGE + offset);
export function setVirtualRegister(v: Vtx, offset: number, value: number): void {
  v.p.machine.memory.write32(VIRTUAL_APIC_PAGE + offset, value);
}

/** A virtual interrupt is requested, in VIRR and RVI. */
export function requestVirtual(v: Vtx, vector: number): void {
  setVector(v, VAPIC.IRR, vector);
  set(v, 'GUEST_INTERRUPT_STATUS', (Number(get(v, 'GUEST_INTERRUPT_STATUS')) & 0xff00) | vector);
}
/** A virtual interrupt is in service, in VISR and SVI. */
export function serviceVirtual(v: Vtx, vector: number): void {
  setVector(v, VAPIC.ISR, vector);
  set(v, 'GUEST_INTERRUPT_STATUS', (Number(get(v, 'GUEST_INTERRUPT_STATUS')) & 0xff) | (vector << 8));
}

/** RVI and SVI after an exit. */
export const status = (v: Vtx): { rvi: number; svi: number } => {
  const value = Number(get(v, 'GUEST_INTERRUPT_STATUS'));
  return { rvi: value & 0xff, svi: value >> 8 };
};
