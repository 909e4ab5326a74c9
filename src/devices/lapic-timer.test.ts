import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { APIC } from './lapic-registers.ts';
import { MASKED, makeApic } from './test-lapic.ts';

describe('timer', () => {
  test('one-shot counts down once at bus clock divided', () => {
    const { apic, clock, write, read } = makeApic();
    write(APIC.TIMER_DIVIDE, 0x3); // by 16
    write(APIC.LVT_TIMER, 0x40);
    write(APIC.TIMER_INITIAL, 10);
    clock.advance(79);
    expect(read(APIC.TIMER_CURRENT)).toBe(6);
    clock.advance(80);
    expect([read(APIC.TIMER_CURRENT), apic.pendingVector]).toEqual([1, -1]);
    clock.advance(1);
    expect([read(APIC.TIMER_CURRENT), apic.pendingVector]).toEqual([0, 0x40]);
    expect(clock.queue.size).toBe(0);
  });

  test('a masked timer counts but asks for no alarm', () => {
    const { apic, clock, write, read } = makeApic();
    write(APIC.TIMER_DIVIDE, 0xb);
    write(APIC.LVT_TIMER, MASKED | 0x40);
    write(APIC.TIMER_INITIAL, 100);
    clock.advance(60);
    expect([clock.queue.size, read(APIC.TIMER_CURRENT)]).toEqual([0, 40]);
    write(APIC.LVT_TIMER, 0x40);
    clock.advance(39);
    expect(apic.pendingVector).toBe(-1);
    clock.advance(1);
    expect(apic.pendingVector).toBe(0x40);
  });

  test('TSC deadline fires once at its time, a past one at once, and mode changes disarm', () => {
    const { apic, clock, write } = makeApic();
    apic.writeTscDeadline(5000n);
    expect(apic.readTscDeadline()).toBe(0n);
    write(APIC.LVT_TIMER, 0x4_0040);
    write(APIC.TIMER_INITIAL, 7);
    expect(apic.register(APIC.TIMER_INITIAL)).toBe(0);
    apic.writeTscDeadline(1500n);
    expect(apic.readTscDeadline()).toBe(1500n);
    clock.advance(499);
    expect(apic.pendingVector).toBe(-1);
    clock.advance(1);
    expect(apic.acknowledge()).toBe(0x40);
    expect(apic.readTscDeadline()).toBe(0n);
    apic.eoi();
    apic.writeTscDeadline(1n);
    expect(apic.acknowledge()).toBe(0x40);
    apic.eoi();
    apic.writeTscDeadline(9000n);
    write(APIC.LVT_TIMER, 0x40);
    write(APIC.LVT_TIMER, 0x4_0040);
    expect(apic.readTscDeadline()).toBe(0n);
    clock.advance(10_000);
    expect(apic.pendingVector).toBe(-1);
  });

  test('a deadline that passes while masked is spent', () => {
    const { apic, clock, write } = makeApic();
    write(APIC.LVT_TIMER, 0x5_0040);
    apic.writeTscDeadline(1100n);
    clock.advance(200);
    expect(apic.readTscDeadline()).toBe(0n);
    write(APIC.LVT_TIMER, 0x4_0040);
    expect(apic.pendingVector).toBe(-1);
  });

  test('a period shorter than the guard is stretched', () => {
    const { apic, clock, log, write } = makeApic({ minPeriodNs: 1000 });
    write(APIC.TIMER_DIVIDE, 0xb);
    write(APIC.LVT_TIMER, 0x2_0040);
    write(APIC.TIMER_INITIAL, 1);
    clock.advance(999);
    expect(apic.pendingVector).toBe(-1);
    for (let i = 0; i < 3; i++) {
      clock.advance(i === 0 ? 1 : 1000);
      apic.acknowledge();
      apic.eoi();
    }
    expect(log.filter((line) => line === 'pending 64').length).toBe(3);
  });

  test('behaves as a counter clocked cycle by cycle', () => {
    const step = fc.oneof(
      { weight: 5, arbitrary: fc.record({ kind: fc.constant('run' as const), n: fc.nat(40) }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant('count' as const), n: fc.nat(12) }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('divide' as const), n: fc.nat(2) }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant('lvt' as const), n: fc.nat(3) }) },
    );
    const divides = [
      [0xb, 1],
      [0x0, 2],
      [0x1, 4],
    ] as const;
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const { apic, clock, write, read } = makeApic();
        let [divide, prescale, initial, count, fired] = [2, 0, 0, 0, 0];
        let [periodic, masked] = [false, true];
        let interrupts = 0;
        const collect = () => {
          if (apic.pendingVector < 0) return;
          apic.acknowledge();
          apic.eoi();
          interrupts++;
        };
        const cycle = () => {
          if (count === 0 || ++prescale < divide) return;
          prescale = 0;
          if (--count > 0) return;
          if (!masked) fired++;
          if (periodic) count = initial;
        };
        for (const { kind, n } of steps) {
          if (kind === 'run') {
            for (let i = 0; i < n; i++) {
              cycle();
              clock.advance(1);
              collect();
            }
          } else if (kind === 'count') {
            write(APIC.TIMER_INITIAL, n);
            initial = count = n;
            prescale = 0;
          } else if (kind === 'divide') {
            const [code, cycles] = divides[n] ?? divides[0];
            write(APIC.TIMER_DIVIDE, code);
            divide = cycles;
            prescale = 0;
          } else {
            periodic = (n & 1) === 1;
            masked = (n & 2) === 2;
            write(APIC.LVT_TIMER, (periodic ? 0x2_0000 : 0) | (masked ? MASKED : 0) | 0x40);
          }
          expect(read(APIC.TIMER_CURRENT)).toBe(count);
          expect(interrupts).toBe(fired);
        }
      }),
    );
  });
});
