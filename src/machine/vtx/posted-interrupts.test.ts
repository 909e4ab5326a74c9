import { describe, expect, test } from 'vitest';
import { Timer } from '../../devices/clock.ts';
import { REASON } from './reasons.ts';
import {
  APICV,
  apicGuest,
  DESCRIPTOR,
  HANDLERS,
  hasVector,
  NOTIFICATION,
  requestVirtual,
  setVector,
  setVirtualRegister,
  status,
  withPosting,
} from './test-apic.ts';
import { CODE, get, run, set } from './test-guest.ts';
import { VAPIC } from './virtual-apic.ts';
import type { Vtx } from './vtx.ts';

const CPUID = '0f a2';
const handler = (vector: number): number => HANDLERS + 16 * vector;

/** A guest with posting, whose processor's own APIC is on. */
function postingGuest(hex: string): Vtx {
  const v = withPosting(apicGuest(hex, APICV));
  v.p.apic.reset();
  v.p.apic.setRegister(0xf0, 0x1ff);
  set(v, 'GUEST_RFLAGS', 0x202);
  return v;
}
const raise = (v: Vtx, vector: number): void => void v.p.apic.accept(0, vector, false);
const outstanding = (v: Vtx): boolean => (v.p.machine.memory.read8(DESCRIPTOR + 32) & 1) !== 0;
const post = (v: Vtx, vector: number): void => {
  setVector(v, DESCRIPTOR, vector);
  v.p.machine.memory.write8(DESCRIPTOR + 32, 1);
};

describe('posted-interrupt processing', () => {
  test('a notification that is pending at VM entry is taken without an exit', () => {
    const v = postingGuest(CPUID);
    post(v, 0x41);
    post(v, 0x33);
    raise(v, NOTIFICATION);
    expect(run(v)).toMatchObject({ reason: REASON.CPUID, rip: handler(0x41) });
    expect(status(v)).toEqual({ rvi: 0x33, svi: 0x41 });
    expect(outstanding(v)).toBe(false);
    expect(v.p.machine.memory.read32(DESCRIPTOR + 8)).toBe(0);
    // The local APIC has been told.
    expect(v.p.apic.highestIsr).toBe(-1);
    expect(v.p.apic.highestIrr).toBe(-1);
  });
  test('one that arrives while the guest runs', () => {
    const v = postingGuest('90 eb fd'); // nop; jmp back
    const { clock } = v.p.machine;
    clock.setTimer(
      new Timer(() => {
        post(v, 0x41);
        raise(v, NOTIFICATION);
      }),
      clock.now() + 1000,
    );
    expect(run(v)).toMatchObject({ reason: REASON.CPUID, rip: handler(0x41) });
  });
  test('another vector exits, acknowledged', () => {
    const v = postingGuest(CPUID);
    post(v, 0x41);
    raise(v, 0xec);
    expect(run(v)).toMatchObject({ reason: REASON.EXTERNAL_INTERRUPT, rip: CODE });
    expect(get(v, 'EXIT_INTERRUPTION_INFO')).toBe(0x8000_00ecn);
    expect(outstanding(v)).toBe(true);
  });
  test('a higher vector exits first, and the notification is taken at the next entry', () => {
    const v = postingGuest(CPUID);
    post(v, 0x41);
    raise(v, NOTIFICATION);
    raise(v, 0xfd);
    expect(run(v).reason).toBe(REASON.EXTERNAL_INTERRUPT);
    v.p.apic.eoi();
    expect(run(v)).toMatchObject({ reason: REASON.CPUID, rip: handler(0x41) });
  });
  test('RVI is the maximum of what it was and what was posted', () => {
    const v = postingGuest(CPUID);
    setVirtualRegister(v, VAPIC.TPR, 0xf0);
    requestVirtual(v, 0x51);
    post(v, 0x41);
    raise(v, NOTIFICATION);
    run(v);
    expect(status(v)).toEqual({ rvi: 0x51, svi: 0 });
    expect(hasVector(v, VAPIC.IRR, 0x41)).toBe(true);
  });
  test('an empty PIR leaves RVI alone, even where VIRR has more', () => {
    const v = postingGuest(CPUID);
    setVector(v, VAPIC.IRR, 0x61);
    raise(v, NOTIFICATION);
    expect(run(v).rip).toBe(CODE);
    expect(status(v)).toEqual({ rvi: 0, svi: 0 });
  });
  test('a halted guest stays halted until the interrupt can be delivered', () => {
    const v = postingGuest(CPUID);
    set(v, 'GUEST_ACTIVITY', 1);
    setVirtualRegister(v, VAPIC.TPR, 0x50);
    const { clock } = v.p.machine;
    const later = (ns: number, what: () => void): void => clock.setTimer(new Timer(what), clock.now() + ns);
    later(100, () => {
      post(v, 0x41);
      raise(v, NOTIFICATION);
    });
    later(200, () => expect(v.p.activity).toBe(1));
    later(300, () => {
      post(v, 0x61);
      raise(v, NOTIFICATION);
    });
    expect(run(v).rip).toBe(handler(0x61));
  });
  test('NDST, NV and SN are not looked at', () => {
    const v = postingGuest(CPUID);
    post(v, 0x41);
    v.p.machine.memory.write8(DESCRIPTOR + 32, 3);
    raise(v, NOTIFICATION);
    expect(run(v).rip).toBe(handler(0x41));
    expect(v.p.machine.memory.read8(DESCRIPTOR + 32)).toBe(2);
  });
  test('in root operation the notification vector is an interrupt like any other', () => {
    const v = postingGuest(CPUID);
    post(v, 0x41);
    raise(v, NOTIFICATION);
    expect(v.p.apic.pendingVector).toBe(NOTIFICATION);
    expect(outstanding(v)).toBe(true);
  });
});
