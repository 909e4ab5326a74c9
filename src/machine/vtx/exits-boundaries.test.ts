import { describe, expect, test } from 'vitest';
import { DeliveryMode } from '../../devices/interrupt-message.ts';
import { EXIT_CONTROL, PIN, PRIMARY } from './controls.ts';
import { REASON } from './reasons.ts';
import { CODE, change, FREE_PAGE, get, guest, MAPPED, run, set } from './test-guest.ts';
import type { Vtx } from './vtx.ts';

describe('events at boundaries', () => {
  const NOP_LOOP = '90 eb fd';
  test('external interrupt: the vector only with acknowledge-on-exit', () => {
    const external = (acknowledge: boolean): [number, bigint, boolean] => {
      const v = guest(NOP_LOOP);
      change(v, 'PIN_CONTROLS', PIN.EXTERNAL_INTERRUPT_EXITING);
      if (acknowledge) change(v, 'EXIT_CONTROLS', EXIT_CONTROL.ACKNOWLEDGE_INTERRUPT);
      pend(v, 0x41);
      return [run(v).reason, get(v, 'EXIT_INTERRUPTION_INFO'), v.p.apic.interruptPending];
    };
    expect(external(true)).toEqual([REASON.EXTERNAL_INTERRUPT, 0x8000_0041n, false]);
    expect(external(false)).toEqual([REASON.EXTERNAL_INTERRUPT, 0n, true]);
  });
  test('NMI: exits and leaves NMIs blocked in the host', () => {
    const v = guest(NOP_LOOP);
    change(v, 'PIN_CONTROLS', PIN.NMI_EXITING);
    v.p.nmiPending = true;
    expect(run(v).reason).toBe(REASON.EXCEPTION_OR_NMI);
    expect(get(v, 'EXIT_INTERRUPTION_INFO')).toBe(0x8000_0202n);
    expect(v.p.nmiBlocked).toBe(true);
    expect(get(v, 'GUEST_INTERRUPTIBILITY')).toBe(0n);
  });
  test('interrupt window: after STI and one more instruction', () => {
    const v = guest('90 fb 90 90', PRIMARY.INTERRUPT_WINDOW); // nop; sti; nop; nop
    expect(run(v)).toMatchObject({ reason: REASON.INTERRUPT_WINDOW, rip: CODE + 3 });
    expect(get(v, 'GUEST_INTERRUPTIBILITY')).toBe(0n);
  });
  test('interrupt window that is open at entry exits at once, also from HLT', () => {
    const v = guest('90', PRIMARY.INTERRUPT_WINDOW);
    set(v, 'GUEST_RFLAGS', 0x202);
    set(v, 'GUEST_ACTIVITY', 1);
    expect(run(v)).toMatchObject({ reason: REASON.INTERRUPT_WINDOW, rip: CODE });
    expect(get(v, 'GUEST_ACTIVITY')).toBe(1n);
  });
  const virtualNmis = (v: Vtx): void => change(v, 'PIN_CONTROLS', PIN.NMI_EXITING | PIN.VIRTUAL_NMIS);
  test('NMI window: at once when open, after IRET when virtual NMIs are blocked', () => {
    const open = guest('90', PRIMARY.NMI_WINDOW);
    virtualNmis(open);
    expect(run(open)).toMatchObject({ reason: REASON.NMI_WINDOW, rip: CODE });

    const blocked = guest('48 cf', PRIMARY.NMI_WINDOW); // iretq
    virtualNmis(blocked);
    set(blocked, 'GUEST_INTERRUPTIBILITY', 8);
    makeGdt(blocked);
    const { memory: ram } = blocked.p.machine;
    for (const [i, value] of [CODE + 0x10, 0x10, 2, 0x9000, 0x18].entries())
      ram.write64(FREE_PAGE + 8 * i, BigInt(value));
    set(blocked, 'GUEST_RSP', FREE_PAGE);
    expect(run(blocked)).toMatchObject({ reason: REASON.NMI_WINDOW, rip: CODE + 0x10 });
    expect(get(blocked, 'GUEST_INTERRUPTIBILITY')).toBe(0n);
  });
  test('IRET that faults has unblocked NMIs: bit 12', () => {
    const v = guest('48 cf');
    virtualNmis(v);
    set(v, 'GUEST_INTERRUPTIBILITY', 8);
    set(v, 'GUEST_RSP', MAPPED);
    expect(run(v).reason).toBe(REASON.EPT_VIOLATION);
    expect(get(v, 'EXIT_QUALIFICATION') & 0x1000n).toBe(0x1000n);
    expect(get(v, 'GUEST_INTERRUPTIBILITY')).toBe(0n);
  });
  test('preemption timer: counts once in 32 TSC ticks; value 0 exits before any instruction', () => {
    const timer = (value: number): [number, number, bigint] => {
      const v = guest(NOP_LOOP);
      change(v, 'PIN_CONTROLS', PIN.PREEMPTION_TIMER);
      change(v, 'EXIT_CONTROLS', EXIT_CONTROL.SAVE_PREEMPTION_TIMER);
      set(v, 'PREEMPTION_TIMER_VALUE', value);
      const before = v.p.machine.clock.now();
      const { reason } = run(v);
      return [reason, v.p.machine.clock.now() - before, get(v, 'PREEMPTION_TIMER_VALUE')];
    };
    expect(timer(0)).toEqual([REASON.PREEMPTION_TIMER, 0, 0n]);
    const [reason, elapsed, left] = timer(10);
    expect(reason).toBe(REASON.PREEMPTION_TIMER);
    expect(elapsed).toBeGreaterThan(9 * 32);
    expect(elapsed).toBeLessThanOrEqual(10 * 32 + 2);
    expect(left).toBe(0n);
  });
  test('preemption timer: what is left is saved', () => {
    const v = guest('90 90 0f a2');
    change(v, 'PIN_CONTROLS', PIN.PREEMPTION_TIMER);
    change(v, 'EXIT_CONTROLS', EXIT_CONTROL.SAVE_PREEMPTION_TIMER);
    set(v, 'PREEMPTION_TIMER_VALUE', 1000);
    expect(run(v).reason).toBe(REASON.CPUID);
    expect(get(v, 'PREEMPTION_TIMER_VALUE')).toBeGreaterThanOrEqual(999n);
  });
  test('monitor trap flag: one instruction at a time', () => {
    const v = guest('90 90 48 ff c0', PRIMARY.MONITOR_TRAP_FLAG);
    expect(run(v)).toMatchObject({ reason: REASON.MONITOR_TRAP_FLAG, rip: CODE + 1 });
    expect(run(v)).toMatchObject({ reason: REASON.MONITOR_TRAP_FLAG, rip: CODE + 2 });
    expect(run(v)).toMatchObject({ reason: REASON.MONITOR_TRAP_FLAG, rip: CODE + 5 });
  });
  test('monitor trap flag by injection: before any instruction', () => {
    const v = guest('90');
    set(v, 'ENTRY_INTERRUPTION_INFO', 0x8000_0700);
    expect(run(v)).toMatchObject({ reason: REASON.MONITOR_TRAP_FLAG, rip: CODE });
    expect(get(v, 'ENTRY_INTERRUPTION_INFO')).toBe(0x700n);
  });
  test('INIT exits, and is used up', () => {
    const v = guest(NOP_LOOP);
    v.p.initPending = true;
    expect(run(v)).toMatchObject({ reason: REASON.INIT, rip: CODE });
    expect(v.p.initPending).toBe(false);
  });
  test('SIPI in wait-for-SIPI state', () => {
    const v = guest('90');
    set(v, 'GUEST_ACTIVITY', 3);
    v.p.sipiPending = 0x9a;
    expect(run(v)).toMatchObject({ reason: REASON.SIPI, qualification: 0x9an });
    expect(get(v, 'GUEST_ACTIVITY')).toBe(3n);
  });
});

/** A GDT whose entries 0x10 and 0x18 are the guest's code and stack. */
function makeGdt(v: Vtx): void {
  const { memory: ram } = v.p.machine;
  ram.write64(FREE_PAGE + 0x810, 0x00af_9b00_0000_ffffn);
  ram.write64(FREE_PAGE + 0x818, 0x00cf_9300_0000_ffffn);
  set(v, 'GUEST_GDTR_BASE', FREE_PAGE + 0x800);
}

/** Makes an interrupt pending at the processor's local APIC. */
function pend(v: Vtx, vector: number): void {
  const { apic } = v.p;
  apic.mmioWrite(0xf0, 4, 0x1ff);
  apic.accept(DeliveryMode.fixed, vector, false);
}
