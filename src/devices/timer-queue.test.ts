import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Timer } from './clock.ts';
import { ManualClock } from './manual-clock.ts';
import { nsToTicks, ticksToNs } from './ticks.ts';
import { TimerQueue } from './timer-queue.ts';

describe('timer queue', () => {
  test('equal deadlines fire in order of arming, a re-armed timer goes last', () => {
    const queue = new TimerQueue();
    const fired: string[] = [];
    const [a, b, c] = ['a', 'b', 'c'].map((name) => new Timer(() => fired.push(name)));
    for (const timer of [a, b, c]) queue.set(timer as Timer, 5);
    queue.set(a as Timer, 5);
    expect(queue.runExpired(4)).toBe(0);
    expect(queue.runExpired(5)).toBe(3);
    expect(fired).toEqual(['b', 'c', 'a']);
    expect(queue.nextDeadline).toBe(Number.POSITIVE_INFINITY);
  });

  test('a callback may arm timers that are due at once', () => {
    const queue = new TimerQueue();
    const deadlines: number[] = [];
    const timer: Timer = new Timer((deadline) => {
      deadlines.push(deadline);
      if (deadline < 30) queue.set(timer, deadline + 10);
    });
    queue.set(timer, 10);
    queue.runExpired(30);
    expect(deadlines).toEqual([10, 20, 30]);
    expect(timer.armed).toBe(false);
  });

  test('behaves as a sorted list under random arming, cancelling and running', () => {
    const operation = fc.oneof(
      fc.record({ kind: fc.constant('set' as const), timer: fc.nat(9), at: fc.nat(50) }),
      fc.record({ kind: fc.constant('cancel' as const), timer: fc.nat(9), at: fc.nat(50) }),
      fc.record({ kind: fc.constant('run' as const), timer: fc.nat(9), at: fc.nat(50) }),
    );
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
        const queue = new TimerQueue();
        const fired: number[] = [];
        const timers = Array.from({ length: 10 }, (_, i) => new Timer(() => fired.push(i)));
        let model: { timer: number; at: number }[] = [];
        const expected: number[] = [];
        for (const { kind, timer, at } of operations) {
          if (kind === 'run') {
            queue.runExpired(at);
            const due = model.filter((entry) => entry.at <= at).sort((x, y) => x.at - y.at);
            expected.push(...due.map((entry) => entry.timer));
            model = model.filter((entry) => entry.at > at);
          } else {
            model = model.filter((entry) => entry.timer !== timer);
            if (kind === 'set') {
              queue.set(timers[timer] as Timer, at);
              model.push({ timer, at });
            } else {
              queue.cancel(timers[timer] as Timer);
            }
          }
          expect(queue.size).toBe(model.length);
          expect(queue.nextDeadline).toBe(Math.min(...model.map((entry) => entry.at)));
        }
        expect(fired).toEqual(expected);
      }),
    );
  });
});

test('a manual clock shows each deadline while its timer fires', () => {
  const clock = new ManualClock();
  const seen: number[] = [];
  for (const at of [30, 10, 20]) clock.setTimer(new Timer(() => seen.push(clock.now())), at);
  clock.advance(25);
  expect(seen).toEqual([10, 20]);
  expect(clock.now()).toBe(25);
});

test('tick conversions are exact against integers of any size', () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.constantFrom(32768, 1_193_182, 3_579_545), (ns, hz) => {
      const ticks = nsToTicks(ns, hz);
      expect(BigInt(ticks)).toBe((BigInt(ns) * BigInt(hz)) / 1_000_000_000n);
      const back = ticksToNs(ticks, hz);
      expect(back).toBeLessThanOrEqual(ns);
      expect(nsToTicks(back, hz)).toBe(ticks);
      if (back > 0) expect(nsToTicks(back - 1, hz)).toBe(ticks - 1);
    }),
  );
});
