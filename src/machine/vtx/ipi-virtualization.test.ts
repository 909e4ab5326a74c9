import { describe, expect, test } from 'vitest';
import { RAX, RCX, RDI, RDX } from '../engine/layout.ts';
import { PRIMARY, SECONDARY, TERTIARY } from './controls.ts';
import { REASON } from './reasons.ts';
import {
  APIC_ACCESS_PAGE,
  APICV,
  APICV_MEMORY,
  apicGuest,
  DESCRIPTOR,
  HANDLERS,
  NOTIFICATION,
  setVirtualRegister,
  status,
  virtualRegister,
  withPosting,
} from './test-apic.ts';
import { CODE, change, run, set } from './test-guest.ts';
import { VAPIC } from './virtual-apic.ts';
import type { Vtx } from './vtx.ts';

const TABLE = 0x2_a000;
/** Descriptor of virtual processor 3. */
const OTHER = 0x2_b040;

/** A guest with IPI virtualization: virtual processor 0 is it, 3 is another, the table ends at 4. */
function ipiGuest(hex: string, secondary = APICV): Vtx {
  const v = withPosting(apicGuest(hex, secondary, PRIMARY.TERTIARY));
  set(v, 'TERTIARY_CONTROLS', TERTIARY.IPI_VIRTUALIZATION);
  set(v, 'PID_POINTER_TABLE', TABLE);
  set(v, 'LAST_PID_POINTER_INDEX', 4);
  v.p.apic.reset();
  v.p.apic.setRegister(0xf0, 0x1ff);
  const { memory } = v.p.machine;
  memory.write64(TABLE, BigInt(DESCRIPTOR | 1));
  memory.write64(TABLE + 24, BigInt(OTHER | 1));
  for (const descriptor of [DESCRIPTOR, OTHER]) {
    memory.write8(descriptor + 34, NOTIFICATION);
    // The processor's APIC is in xAPIC mode with identifier 0.
    memory.write32(descriptor + 36, 0);
  }
  memory.write8(OTHER + 34, 0xf1);
  return v;
}
const wrmsr = (icr: number, destination: number): Vtx => {
  const v = ipiGuest('0f 30 0f a2');
  v.p.setGpr(RCX, 0x830n);
  v.p.setGpr(RAX, BigInt(icr));
  v.p.setGpr(RDX, BigInt(destination));
  return v;
};
const posted = (v: Vtx, descriptor: number, vector: number): boolean =>
  ((v.p.machine.memory.read32(descriptor + 4 * (vector >> 5)) >>> (vector & 31)) & 1) !== 0;
const control = (v: Vtx, descriptor: number): number => v.p.machine.memory.read8(descriptor + 32);

describe('by WRMSR of the ICR', () => {
  test('the vector is posted to the other’s descriptor, with a notification to its processor', () => {
    const v = wrmsr(0x41, 3);
    // The notification comes to this processor, which is the only one: not the guest's own vector, so it exits.
    expect(run(v)).toMatchObject({ reason: REASON.EXTERNAL_INTERRUPT, rip: CODE + 2 });
    expect(Number(v.vmread(0x4404))).toBe(0x8000_00f1);
    expect(posted(v, OTHER, 0x41)).toBe(true);
    expect(control(v, OTHER)).toBe(1);
    expect(virtualRegister(v, VAPIC.ICR_LOW)).toBe(0x41);
    expect(virtualRegister(v, VAPIC.ICR_LOW + 4)).toBe(3);
    v.p.apic.eoi();
  });
  test('to itself: the notification is taken at once', () => {
    const v = wrmsr(0x41, 0);
    set(v, 'GUEST_RFLAGS', 0x202);
    expect(run(v)).toMatchObject({ reason: REASON.CPUID, rip: HANDLERS + 16 * 0x41 });
    expect(status(v)).toEqual({ rvi: 0, svi: 0x41 });
    expect(control(v, DESCRIPTOR)).toBe(0);
  });
  test.each([
    ['outstanding', 1],
    ['suppressed', 2],
  ])('no second notification while one is %s', (_name, bits) => {
    const v = wrmsr(0x41, 3);
    v.p.machine.memory.write8(OTHER + 32, bits);
    expect(run(v).reason).toBe(REASON.CPUID);
    expect(posted(v, OTHER, 0x41)).toBe(true);
    expect(control(v, OTHER)).toBe(bits);
  });
  test.each([
    ['a vector below 16', 0x0f, 3],
    ['a destination beyond the table', 0x41, 5],
    ['a destination without an entry', 0x41, 2],
    ['a shorthand', 0x4_0041, 3],
    ['lowest priority', 0x141, 3],
    ['a logical destination', 0x841, 3],
    ['delivery status', 0x1041, 3],
    ['level-triggered', 0x8041, 3],
  ])('an APIC-write exit with the ICR in place for %s', (_name, icr, destination) => {
    const v = wrmsr(icr, destination);
    expect(run(v)).toMatchObject({ reason: REASON.APIC_WRITE, qualification: 0x300n, rip: CODE + 2 });
    expect(virtualRegister(v, VAPIC.ICR_LOW)).toBe(icr);
    expect(virtualRegister(v, VAPIC.ICR_LOW + 4)).toBe(destination);
    expect(posted(v, OTHER, 0x41)).toBe(false);
  });
  test.each([
    ['not valid', 0n],
    ['reserved bit 1', 3n],
    ['beyond the physical-address width', (1n << 52n) | 1n],
  ])('an APIC-write exit for an entry that is %s', (_name, bits) => {
    const v = wrmsr(0x41, 3);
    v.p.machine.memory.write64(TABLE + 24, bits > 3n ? bits : BigInt(OTHER) | bits);
    expect(run(v).reason).toBe(REASON.APIC_WRITE);
  });
  test.each([13, 16, 17, 20, 31])('#GP for ICR bit %i', (bit) => {
    const v = wrmsr((0x41 | (1 << bit)) >>> 0, 3);
    set(v, 'EXCEPTION_BITMAP', 1 << 13);
    expect(run(v)).toMatchObject({ reason: REASON.EXCEPTION_OR_NMI, rip: CODE });
    expect(virtualRegister(v, VAPIC.ICR_LOW)).toBe(0);
  });
  test('without the control the real APIC is asked', () => {
    const v = wrmsr(0x41, 3);
    change(v, 'PRIMARY_CONTROLS', 0, PRIMARY.TERTIARY);
    set(v, 'EXCEPTION_BITMAP', 1 << 13);
    expect(run(v).reason).toBe(REASON.EXCEPTION_OR_NMI);
  });
});

describe('by a write to the APIC-access page', () => {
  const store = (icr: number, high: number): Vtx => {
    const v = ipiGuest('89 07 0f a2', APICV_MEMORY);
    v.p.setGpr(RDI, BigInt(APIC_ACCESS_PAGE + 0x300));
    v.p.setGpr(RAX, BigInt(icr));
    setVirtualRegister(v, VAPIC.ICR_HIGH, high);
    return v;
  };
  test('the destination is in bits 31:24 of the high half', () => {
    const v = store(0x41, 0x0300_0000);
    v.p.machine.memory.write8(OTHER + 32, 2);
    expect(run(v).reason).toBe(REASON.CPUID);
    expect(posted(v, OTHER, 0x41)).toBe(true);
  });
  test('a self-IPI stays one', () => {
    const v = store(0x4_0041, 0);
    expect(run(v).reason).toBe(REASON.CPUID);
    expect(status(v).rvi).toBe(0x41);
    expect(posted(v, DESCRIPTOR, 0x41)).toBe(false);
  });
  test('anything else exits', () => {
    expect(run(store(0xc_0041, 0))).toMatchObject({ reason: REASON.APIC_WRITE, qualification: 0x300n });
    expect(run(store(0x41, 0xff00_0000)).reason).toBe(REASON.APIC_WRITE);
  });
  test('it does not need virtual-interrupt delivery', () => {
    const v = store(0x41, 0x0300_0000);
    change(v, 'SECONDARY_CONTROLS', 0, SECONDARY.VIRTUAL_INTERRUPT_DELIVERY);
    change(v, 'PIN_CONTROLS', 0, 0x80);
    v.p.machine.memory.write8(OTHER + 32, 2);
    expect(run(v).reason).toBe(REASON.CPUID);
    expect(posted(v, OTHER, 0x41)).toBe(true);
  });
});
