import { describe, expect, test } from 'vitest';
import { PIN, PRIMARY } from './controls.ts';
import { REASON } from './reasons.ts';
import { CODE, change, FREE_PAGE, get, guestWith, MAPPED, run, set } from './test-guest.ts';
import type { Vtx } from './vtx.ts';

const IDT = FREE_PAGE + 0x1000;
const GDT = FREE_PAGE + 0x800;
const HANDLER = CODE + 0x100;
const STACK = 0x9000;
const HLT = 0xf4;

/** A guest at a NOP whose IDT sends every vector to a HLT, which exits. */
function guest(): Vtx {
  const v = guestWith([0x90, 0x90, HLT]);
  const { memory } = v.p.machine;
  memory.write8(HANDLER, HLT);
  memory.write64(GDT + 0x10, 0x00af_9b00_0000_ffffn);
  memory.write64(GDT + 0x18, 0x00cf_9300_0000_ffffn);
  for (let vector = 0; vector < 256; vector++) {
    memory.write64(IDT + 16 * vector, (BigInt(HANDLER) & 0xffffn) | (0x10n << 16n) | (0x8e00n << 32n));
    memory.write64(IDT + 16 * vector + 8, 0n);
  }
  set(v, 'GUEST_GDTR_BASE', GDT);
  set(v, 'GUEST_IDTR_BASE', IDT);
  set(v, 'GUEST_IDTR_LIMIT', 0xfff);
  set(v, 'GUEST_RSP', STACK);
  set(v, 'GUEST_RFLAGS', 0x202);
  change(v, 'PRIMARY_CONTROLS', PRIMARY.HLT);
  return v;
}

const inject = (v: Vtx, info: number, errorCode = 0, length = 0): void => {
  set(v, 'ENTRY_INTERRUPTION_INFO', (0x8000_0000 | info) >>> 0);
  set(v, 'ENTRY_EXCEPTION_ERROR_CODE', errorCode);
  set(v, 'ENTRY_INSTRUCTION_LENGTH', length);
};
const pushed = (v: Vtx, slot: number): bigint => v.p.machine.memory.read64(STACK - 8 * slot);
/** Slots below the stack pointer: SS, RSP, RFLAGS, CS, RIP, error code. */
const FLAGS = 3;
const RIP = 5;
const ERROR = 6;

describe('event injection', () => {
  test('an external interrupt: the handler runs first, with the guest’s RIP on the stack', () => {
    const v = guest();
    inject(v, 0x041);
    expect(run(v)).toMatchObject({ reason: REASON.HLT, rip: HANDLER });
    expect([pushed(v, RIP), pushed(v, FLAGS)]).toEqual([BigInt(CODE), 0x202n]);
    expect(get(v, 'GUEST_RSP')).toBe(BigInt(STACK - 40));
    expect(get(v, 'ENTRY_INTERRUPTION_INFO')).toBe(0x041n);
  });
  test('an exception with its error code', () => {
    const v = guest();
    inject(v, 0xb0d, 0x1234);
    expect(run(v)).toMatchObject({ reason: REASON.HLT, rip: HANDLER });
    expect([pushed(v, RIP), pushed(v, ERROR)]).toEqual([BigInt(CODE), 0x1234n]);
  });
  test.each([
    ['INT n', 0x480],
    ['INT1', 0x501],
    ['INT3', 0x603],
  ])('%s pushes the address behind the instruction', (_name, info) => {
    const v = guest();
    inject(v, info, 0, 2);
    expect(run(v)).toMatchObject({ reason: REASON.HLT, rip: HANDLER });
    expect(pushed(v, RIP)).toBe(BigInt(CODE + 2));
  });
  test('the exception bitmap does not look at an injected exception', () => {
    const v = guest();
    set(v, 'EXCEPTION_BITMAP', 0xffff_ffff);
    inject(v, 0xb0d);
    expect(run(v)).toMatchObject({ reason: REASON.HLT, rip: HANDLER });
  });
  test('RF is pushed as the field has it, DR6 stays', () => {
    const v = guest();
    set(v, 'GUEST_RFLAGS', 0x1_0202);
    v.p.dr6 = 0xffff_0ff0;
    inject(v, 0x301);
    expect(run(v)).toMatchObject({ reason: REASON.HLT, rip: HANDLER });
    expect(pushed(v, FLAGS)).toBe(0x1_0202n);
    expect(v.p.dr6).toBe(0xffff_0ff0);
  });
  test('an interrupt wakes the guest from HLT and clears blocking', () => {
    const v = guest();
    set(v, 'GUEST_ACTIVITY', 1);
    inject(v, 0x041);
    expect(run(v)).toMatchObject({ reason: REASON.HLT, rip: HANDLER });
    expect(get(v, 'GUEST_ACTIVITY')).toBe(0n);
  });
  test('an injected NMI blocks NMIs, or virtual NMIs', () => {
    for (const virtual of [false, true]) {
      const v = guest();
      if (virtual) change(v, 'PIN_CONTROLS', PIN.NMI_EXITING | PIN.VIRTUAL_NMIS);
      inject(v, 0x202);
      expect(run(v)).toMatchObject({ reason: REASON.HLT, rip: HANDLER });
      expect(get(v, 'GUEST_INTERRUPTIBILITY')).toBe(8n);
      expect(v.p.nmiBlocked).toBe(!virtual);
    }
  });
  test('a fault of the delivery exits with the injected event as IDT-vectoring information', () => {
    const v = guest();
    set(v, 'EXCEPTION_BITMAP', 1 << 13);
    set(v, 'GUEST_IDTR_LIMIT', 0);
    inject(v, 0x480, 0, 2);
    expect(run(v)).toMatchObject({ reason: REASON.EXCEPTION_OR_NMI, rip: CODE, length: 2 });
    expect(get(v, 'EXIT_INTERRUPTION_INFO')).toBe(0x8000_0b0dn);
    expect(get(v, 'EXIT_INTERRUPTION_ERROR_CODE')).toBe(0x80n * 8n + 2n);
    expect(get(v, 'IDT_VECTORING_INFO')).toBe(0x8000_0480n);
  });
  test('an EPT violation of the delivery carries the injected event, and injecting it again succeeds', () => {
    const v = guest();
    set(v, 'GUEST_RSP', MAPPED + 0x100);
    inject(v, 0xb0e, 7);
    expect(run(v)).toMatchObject({ reason: REASON.EPT_VIOLATION, rip: CODE });
    expect([get(v, 'IDT_VECTORING_INFO'), get(v, 'IDT_VECTORING_ERROR_CODE')]).toEqual([0x8000_0b0en, 7n]);
    expect(get(v, 'GUEST_RSP')).toBe(BigInt(MAPPED + 0x100));
    set(v, 'GUEST_RSP', STACK);
    inject(v, 0xb0e, 7);
    expect(run(v)).toMatchObject({ reason: REASON.HLT, rip: HANDLER });
    expect(get(v, 'IDT_VECTORING_INFO')).toBe(0n);
  });
  test('an injected double fault whose delivery faults is a triple fault', () => {
    const v = guest();
    set(v, 'GUEST_IDTR_LIMIT', 0);
    inject(v, 0xb08);
    expect(run(v).reason).toBe(REASON.TRIPLE_FAULT);
  });
  test('pending debug exceptions become a #DB before the first instruction', () => {
    const v = guest();
    set(v, 'EXCEPTION_BITMAP', 2);
    set(v, 'GUEST_PENDING_DEBUG', 0x4000);
    expect(run(v)).toMatchObject({ reason: REASON.EXCEPTION_OR_NMI, qualification: 0x4000n, rip: CODE });
  });
  test('with the monitor trap flag an injecting entry exits before the handler’s first instruction', () => {
    const v = guest();
    change(v, 'PRIMARY_CONTROLS', PRIMARY.MONITOR_TRAP_FLAG);
    inject(v, 0x041);
    expect(run(v)).toMatchObject({ reason: REASON.MONITOR_TRAP_FLAG, rip: HANDLER });
  });
});
