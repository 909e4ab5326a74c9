import { describe, expect, test } from 'vitest';
import { gsiRouting } from './gsi-routing.ts';

describe('interrupt lines of a VM', () => {
  const to = (irqchip: number): (readonly [number, number])[] =>
    gsiRouting().flatMap((entry) =>
      entry.type === 1 && entry.irqchip === irqchip ? [[entry.gsi, entry.pin] as const] : [],
    );

  test('0 to 15 lead to the two 8259s in order', () => {
    expect(to(0)).toEqual([0, 1, 2, 3, 4, 5, 6, 7].map((n) => [n, n]));
    expect(to(1)).toEqual([0, 1, 2, 3, 4, 5, 6, 7].map((n) => [n + 8, n]));
  });
  test('the timer leads to pin 2 of the I/O APIC, the cascade to none, all others to their own pin', () => {
    const pins = new Map(to(2));
    expect(pins.get(0)).toBe(2);
    expect(pins.has(2)).toBe(false);
    expect([...pins.values()].sort((a, b) => a - b)).toEqual(Array.from({ length: 23 }, (_, i) => i + 1));
  });
});
