import { describe, expect, test } from 'vitest';
import { RAX, RBX, RCX, RDI, RDX, RSI } from '../engine/layout.ts';
import { SECONDARY } from './controls.ts';
import { REASON } from './reasons.ts';
import {
  APIC_ACCESS_PAGE,
  APICV_MEMORY,
  apicGuest,
  HANDLERS,
  hasVector,
  requestVirtual,
  serviceVirtual,
  setVirtualRegister,
  status,
  virtualRegister,
} from './test-apic.ts';
import { CODE, get, run, set } from './test-guest.ts';
import { VAPIC } from './virtual-apic.ts';
import type { Vtx } from './vtx.ts';

const ACCESSES = SECONDARY.VIRTUALIZE_APIC_ACCESSES;
const DELIVERY = ACCESSES | SECONDARY.VIRTUAL_INTERRUPT_DELIVERY;
const READ = '8b 07 0f a2'; // mov eax, [rdi]; cpuid
const WRITE = '89 07 0f a2'; // mov [rdi], eax; cpuid
const hex = (bytes: string): string => bytes.replace(/\s*(;.*)?$/, '');

function at(code: string, offset: number, secondary: number, value = 0n): Vtx {
  const v = apicGuest(hex(code), secondary);
  v.p.setGpr(RDI, BigInt(APIC_ACCESS_PAGE + offset));
  v.p.setGpr(RAX, value);
  return v;
}
const reads = (offset: number, secondary: number): boolean => run(at(READ, offset, secondary)).reason === REASON.CPUID;
const SLOTS = Array.from({ length: 64 }, (_, i) => 16 * i);

describe('reads', () => {
  test.each([
    ['alone: only the TPR', ACCESSES, [0x80]],
    ['with virtual-interrupt delivery: only the TPR', DELIVERY, [0x80]],
    [
      'with APIC-register virtualization',
      ACCESSES | SECONDARY.APIC_REGISTER_VIRTUALIZATION,
      [
        0x20,
        0x30,
        0x80,
        0xb0,
        0xd0,
        0xe0,
        0xf0,
        ...SLOTS.filter((s) => s >= 0x100 && s <= 0x270),
        0x280,
        0x300,
        0x310,
        0x320,
        0x330,
        0x340,
        0x350,
        0x360,
        0x370,
        0x380,
        0x3e0,
      ],
    ],
  ])('%s', (_name, secondary, expected) => {
    expect(SLOTS.filter((slot) => reads(slot, secondary))).toEqual(expected);
  });
  test('a virtualized read gives what the virtual-APIC page has', () => {
    const value = at('8a 47 01 0f a2', 0x80, ACCESSES);
    setVirtualRegister(value, VAPIC.TPR, 0x1234_5678);
    run(value);
    expect(value.p.gpr(RAX) & 0xffn).toBe(0x56n);
    // Four bytes from 81h on leave the register.
    expect(run(at(READ, 0x81, ACCESSES))).toMatchObject({ qualification: 0x81n, rip: CODE });
  });
  test('the exit: linear read, offset, RF', () => {
    const v = at(READ, 0x390, APICV_MEMORY);
    expect(run(v)).toMatchObject({ reason: REASON.APIC_ACCESS, qualification: 0x0390n, rip: CODE });
    expect(get(v, 'GUEST_RFLAGS') & 0x1_0000n).toBe(0x1_0000n);
    expect(get(v, 'IDT_VECTORING_INFO')).toBe(0n);
  });
  test('eight bytes exit', () => {
    expect(run(at('48 8b 07 0f a2', 0x80, APICV_MEMORY))).toMatchObject({ reason: REASON.APIC_ACCESS });
  });
  test('without the TPR shadow everything exits', () => {
    const v = at(READ, 0x80, ACCESSES);
    set(v, 'PRIMARY_CONTROLS', get(v, 'PRIMARY_CONTROLS') & ~0x20_0000n);
    expect(run(v)).toMatchObject({ reason: REASON.APIC_ACCESS, qualification: 0x80n });
  });
  test('repeated accesses all go to the virtual-APIC page: there is no TLB entry', () => {
    const v = at('8b 07 8b 1f 8b 0f 0f a2', 0x80, ACCESSES);
    setVirtualRegister(v, VAPIC.TPR, 0x40);
    v.p.machine.memory.write32(APIC_ACCESS_PAGE + 0x80, 0xffff_ffff);
    run(v);
    expect([RAX, RBX, RCX].map((n) => v.p.gpr(n))).toEqual([0x40n, 0x40n, 0x40n]);
  });
  test('without the control the page is a page', () => {
    const v = at(READ, 0x80, 0);
    v.p.machine.memory.write32(APIC_ACCESS_PAGE + 0x80, 0x55);
    run(v);
    expect(v.p.gpr(RAX)).toBe(0x55n);
  });
});

describe('writes', () => {
  const writes = (offset: number, secondary: number): boolean =>
    run(at(WRITE, offset, secondary, 0n)).reason !== REASON.APIC_ACCESS;
  test.each([
    ['alone: only the TPR', ACCESSES, [0x80]],
    ['with virtual-interrupt delivery: TPR, EOI, ICR', DELIVERY, [0x80, 0xb0, 0x300]],
    [
      'with APIC-register virtualization',
      ACCESSES | SECONDARY.APIC_REGISTER_VIRTUALIZATION,
      [0x20, 0x80, 0xb0, 0xd0, 0xe0, 0xf0, 0x280, 0x300, 0x310, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370, 0x380, 0x3e0],
    ],
  ])('%s', (_name, secondary, expected) => {
    expect(SLOTS.filter((slot) => writes(slot, secondary))).toEqual(expected);
  });
  test('a write that exits: qualification, and nothing is written', () => {
    const v = at(WRITE, 0x390, APICV_MEMORY, 5n);
    expect(run(v)).toMatchObject({ reason: REASON.APIC_ACCESS, qualification: 0x1390n, rip: CODE });
    expect(virtualRegister(v, 0x390)).toBe(0);
  });
  test('TPR: bytes 3 to 1 are cleared, then TPR virtualization', () => {
    const v = at(WRITE, 0x80, DELIVERY, 0x1234_5620n);
    set(v, 'GUEST_RFLAGS', 0x202);
    setVirtualRegister(v, VAPIC.TPR, 0x50);
    requestVirtual(v, 0x41);
    expect(run(v).rip).toBe(HANDLERS + 16 * 0x41);
    expect(virtualRegister(v, VAPIC.TPR)).toBe(0x20);
  });
  test('TPR below the threshold exits behind the instruction', () => {
    const v = at(WRITE, 0x80, ACCESSES, 0x20n);
    setVirtualRegister(v, VAPIC.TPR, 0x50);
    set(v, 'TPR_THRESHOLD', 4);
    expect(run(v)).toMatchObject({ reason: REASON.TPR_BELOW_THRESHOLD, rip: CODE + 2 });
  });
  test('EOI with virtual-interrupt delivery is EOI virtualization', () => {
    const v = at(WRITE, 0xb0, DELIVERY, 0x77n);
    serviceVirtual(v, 0x41);
    expect(run(v).reason).toBe(REASON.CPUID);
    expect(status(v).svi).toBe(0);
    expect(virtualRegister(v, VAPIC.EOI)).toBe(0);
  });
  test('EOI without it is an APIC-write exit', () => {
    const v = at(WRITE, 0xb0, ACCESSES | SECONDARY.APIC_REGISTER_VIRTUALIZATION, 0n);
    expect(run(v)).toMatchObject({ reason: REASON.APIC_WRITE, qualification: 0xb0n, rip: CODE + 2 });
  });
  test('the high half of the ICR keeps its destination only, and does not exit', () => {
    const v = at(WRITE, 0x310, APICV_MEMORY, 0x1234_5678n);
    expect(run(v).reason).toBe(REASON.CPUID);
    expect(virtualRegister(v, VAPIC.ICR_HIGH)).toBe(0x1200_0000);
  });
  test.each([
    ['a self-IPI', 0x4_0041n, true],
    ['with any destination mode and level', 0x4_4841n, true],
    ['no shorthand', 0x41n, false],
    ['all including self', 0x8_0041n, false],
    ['a vector below 16', 0x4_000fn, false],
    ['not fixed', 0x4_0441n, false],
    ['level-triggered', 0x4_8041n, false],
    ['delivery status', 0x4_1041n, false],
    ['reserved bit 31', 0x8004_0041n, false],
  ])('ICR, %s', (_name, icr, self) => {
    const v = at(WRITE, 0x300, DELIVERY, icr);
    const exit = run(v);
    if (self) {
      expect(exit.reason).toBe(REASON.CPUID);
      expect(status(v).rvi).toBe(0x41);
      expect(hasVector(v, VAPIC.IRR, 0x41)).toBe(true);
    } else {
      expect(exit).toMatchObject({ reason: REASON.APIC_WRITE, qualification: 0x300n, rip: CODE + 2 });
      expect(virtualRegister(v, VAPIC.ICR_LOW)).toBe(Number(icr));
    }
  });
  test('every other register is an APIC-write exit after the write', () => {
    const v = at(WRITE, 0xf0, APICV_MEMORY, 0x1ffn);
    expect(run(v)).toMatchObject({ reason: REASON.APIC_WRITE, qualification: 0xf0n, rip: CODE + 2 });
    expect(virtualRegister(v, 0xf0)).toBe(0x1ff);
  });
  test('so is a byte inside a register: the qualification is its offset', () => {
    const v = at('88 07 0f a2', 0xf1, APICV_MEMORY, 1n);
    expect(run(v)).toMatchObject({ reason: REASON.APIC_WRITE, qualification: 0xf1n });
    expect(virtualRegister(v, 0xf0)).toBe(0x100);
  });
  test('read and write in one: OR', () => {
    const v = at('09 07 0f a2', 0x80, ACCESSES, 3n);
    setVirtualRegister(v, VAPIC.TPR, 0x40);
    expect(run(v).reason).toBe(REASON.CPUID);
    expect(virtualRegister(v, VAPIC.TPR)).toBe(0x43);
    // Of a register whose writes alone are virtualized it exits, as a write.
    expect(run(at('09 07 0f a2', 0xb0, DELIVERY))).toMatchObject({ qualification: 0x10b0n });
  });
  test('REP STOS: emulation follows each iteration', () => {
    const v = at('f3 ab 0f a2', 0xf0, APICV_MEMORY, 0x10n);
    v.p.setGpr(RCX, 2n);
    expect(run(v)).toMatchObject({ reason: REASON.APIC_WRITE, qualification: 0xf0n, rip: CODE });
    expect(v.p.gpr(RCX)).toBe(1n);
    // The next iteration is at F4h, which is no register.
    expect(run(v)).toMatchObject({ reason: REASON.APIC_ACCESS, qualification: 0x10f4n });
  });
  test('MOVS from memory to a register', () => {
    const v = at('a5 0f a2', 0x80, ACCESSES);
    v.p.setGpr(RSI, 0x2_7000n);
    v.p.machine.memory.write32(0x2_7000, 0x30);
    expect(run(v).reason).toBe(REASON.CPUID);
    expect(virtualRegister(v, VAPIC.TPR)).toBe(0x30);
  });
  test('a handler in TypeScript writes as generated code does', () => {
    // sgdt [rdi]: ten bytes.
    expect(run(at('0f 01 07 0f a2', 0x80, APICV_MEMORY))).toMatchObject({
      reason: REASON.APIC_ACCESS,
      qualification: 0x1080n,
    });
    // fnstcw [rdi]: two bytes.
    const v = at('d9 3f 0f a2', 0x80, ACCESSES);
    expect(run(v).reason).toBe(REASON.CPUID);
    expect(virtualRegister(v, VAPIC.TPR)).toBe(0x40);
  });
});

describe('other accesses', () => {
  test('an instruction fetch exits', () => {
    const v = apicGuest('0f a2', APICV_MEMORY);
    set(v, 'GUEST_RIP', APIC_ACCESS_PAGE + 0x80);
    expect(run(v)).toMatchObject({ reason: REASON.APIC_ACCESS, qualification: 0x2080n });
  });
  test('event delivery that pushes to it exits with the event', () => {
    const v = apicGuest('0f a2', APICV_MEMORY);
    set(v, 'GUEST_RSP', APIC_ACCESS_PAGE + 0x100);
    set(v, 'ENTRY_INTERRUPTION_INFO', 0x8000_0030);
    set(v, 'GUEST_RFLAGS', 0x202);
    const exit = run(v);
    expect(exit.reason).toBe(REASON.APIC_ACCESS);
    expect(exit.qualification >> 12n).toBe(3n);
    expect(get(v, 'IDT_VECTORING_INFO')).toBe(0x8000_0030n);
  });
  test('guest paging structures in it exit as guest-physical accesses', () => {
    const v = apicGuest('0f a2', APICV_MEMORY);
    set(v, 'GUEST_CR3', APIC_ACCESS_PAGE);
    const exit = run(v);
    expect(exit.reason).toBe(REASON.APIC_ACCESS);
    expect(exit.qualification >> 12n).toBe(15n);
  });
  test('so they do while an event is delivered, and the event is told', () => {
    const v = apicGuest('0f a2', APICV_MEMORY);
    set(v, 'GUEST_CR3', APIC_ACCESS_PAGE);
    set(v, 'ENTRY_INTERRUPTION_INFO', 0x8000_0030);
    set(v, 'GUEST_RFLAGS', 0x202);
    const exit = run(v);
    expect(exit.reason).toBe(REASON.APIC_ACCESS);
    expect(exit.qualification >> 12n).toBe(10n);
    expect(get(v, 'IDT_VECTORING_INFO')).toBe(0x8000_0030n);
  });
  test('an access across the end of the page before exits at offset 0', () => {
    expect(run(at(READ, -2, APICV_MEMORY))).toMatchObject({ reason: REASON.APIC_ACCESS, qualification: 0n });
  });
  test('CLFLUSH is a read', () => {
    expect(run(at('0f ae 3f 0f a2', 0x80, ACCESSES)).reason).toBe(REASON.CPUID);
    expect(run(at('0f ae 3f 0f a2', 0x90, ACCESSES))).toMatchObject({ qualification: 0x90n });
  });
  test('an EPT violation comes first', () => {
    const v = at(WRITE, 0x390, APICV_MEMORY);
    v.p.machine.memory.write64(0x1_4000, 0xb5n); // no write right in the EPT entry
    v.p.setGpr(RDX, 0n);
    expect(run(v).reason).toBe(REASON.EPT_VIOLATION);
  });
});
