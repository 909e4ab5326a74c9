/** The monitor trap flag, rule by rule. @sdm "Monitor Trap Flag" */
import { describe, expect, test } from 'vitest';
import { RCX } from '../engine/layout.ts';
import { PRIMARY, SECONDARY } from './controls.ts';
import { REASON } from './reasons.ts';
import { APIC_ACCESS_PAGE, apicGuest, HANDLERS, requestVirtual, STACK, setVirtualRegister } from './test-apic.ts';
import { CODE, change, get, run, set } from './test-guest.ts';
import { VAPIC } from './virtual-apic.ts';
import type { Vtx } from './vtx.ts';

const MTF = PRIMARY.MONITOR_TRAP_FLAG;
const TRAP = REASON.MONITOR_TRAP_FLAG;
const handler = (vector: number): number => HANDLERS + 16 * vector;
const trapGuest = (hex: string, secondary = 0): Vtx => apicGuest(hex, secondary, MTF);

describe('without a vectored event at entry', () => {
  test('the exit comes after one instruction, and again after the next entry', () => {
    const v = trapGuest('90 40 89 c0 90');
    expect(run(v)).toMatchObject({ reason: TRAP, rip: CODE + 1, qualification: 0n, length: 0 });
    expect(run(v)).toMatchObject({ reason: TRAP, rip: CODE + 4 });
  });
  test('REP: after one iteration', () => {
    const v = trapGuest('f3 aa 90');
    v.p.setGpr(RCX, 3n);
    expect(run(v)).toMatchObject({ reason: TRAP, rip: CODE });
    expect(v.p.gpr(RCX)).toBe(2n);
  });
  test('a jump to itself', () => {
    expect(run(trapGuest('eb fe'))).toMatchObject({ reason: TRAP, rip: CODE });
  });
  test('HLT: behind it, in the HLT state', () => {
    const v = trapGuest('f4 90');
    expect(run(v)).toMatchObject({ reason: TRAP, rip: CODE + 1 });
    expect(get(v, 'GUEST_ACTIVITY')).toBe(1n);
  });
  test.each([
    ['INT n', 'cd 30', 0x30, 2],
    ['INT3', 'cc', 3, 1],
  ])('%s: after its delivery', (_name, hex, vector, length) => {
    const v = trapGuest(hex);
    expect(run(v)).toMatchObject({ reason: TRAP, rip: handler(vector) });
    expect(v.p.machine.memory.read64(Number(get(v, 'GUEST_RSP')))).toBe(BigInt(CODE + length));
  });
  test('a fault: after its delivery', () => {
    const v = trapGuest('0f 0b');
    expect(run(v)).toMatchObject({ reason: TRAP, rip: handler(6) });
  });
  test('a fault whose handler is the faulting instruction', () => {
    const v = trapGuest('0f 0b');
    set(v, 'GUEST_RIP', handler(6));
    v.p.machine.memory.write16(handler(6), 0x0b0f);
    expect(run(v)).toMatchObject({ reason: TRAP, rip: handler(6) });
    expect(get(v, 'GUEST_RSP')).toBeLessThan(BigInt(STACK));
  });
  test('an instruction that exits does not trap as well', () => {
    expect(run(trapGuest('0f a2'))).toMatchObject({ reason: REASON.CPUID, rip: CODE });
  });
  test('an event that is delivered before the first instruction: then', () => {
    const v = trapGuest('90', SECONDARY.VIRTUALIZE_X2APIC | SECONDARY.VIRTUAL_INTERRUPT_DELIVERY);
    set(v, 'GUEST_RFLAGS', 0x202);
    requestVirtual(v, 0x41);
    expect(run(v)).toMatchObject({ reason: TRAP, rip: handler(0x41) });
  });
});

describe('with an injected event', () => {
  test('the exit comes after its delivery, before any instruction', () => {
    const v = trapGuest('90');
    set(v, 'GUEST_RFLAGS', 0x202);
    set(v, 'ENTRY_INTERRUPTION_INFO', 0x8000_0030);
    expect(run(v)).toMatchObject({ reason: TRAP, rip: handler(0x30) });
  });
  test('an injected MTF needs no control', () => {
    const v = apicGuest('90', 0);
    set(v, 'ENTRY_INTERRUPTION_INFO', 0x8000_0700);
    expect(run(v)).toMatchObject({ reason: TRAP, rip: CODE });
  });
});

describe('priority', () => {
  test('above a debug trap, which is saved as pending', () => {
    const v = trapGuest('90 90');
    set(v, 'GUEST_RFLAGS', 0x102);
    expect(run(v)).toMatchObject({ reason: TRAP, rip: CODE + 1 });
    expect(get(v, 'GUEST_PENDING_DEBUG')).toBe(0x4000n);
  });
  test('below the traps of APIC virtualization', () => {
    const v = trapGuest('c7 07 20 00 00 00 90', SECONDARY.VIRTUALIZE_APIC_ACCESSES);
    setVirtualRegister(v, VAPIC.TPR, 0x50);
    set(v, 'TPR_THRESHOLD', 4);
    v.p.setGpr(7, BigInt(APIC_ACCESS_PAGE + 0x80));
    expect(run(v)).toMatchObject({ reason: REASON.TPR_BELOW_THRESHOLD, rip: CODE + 6 });
  });
  test('not blocked by MOV SS', () => {
    const v = trapGuest('8e d0 90');
    v.p.setGpr(0, 0n);
    expect(run(v)).toMatchObject({ reason: TRAP, rip: CODE + 2 });
    expect(get(v, 'GUEST_INTERRUPTIBILITY')).toBe(2n);
  });
  test('without the control nothing traps', () => {
    const v = apicGuest('90 0f a2', 0);
    change(v, 'PRIMARY_CONTROLS', 0, MTF);
    expect(run(v).reason).toBe(REASON.CPUID);
  });
});
