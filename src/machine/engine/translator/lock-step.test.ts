import { describe, expect, test } from 'vitest';
import { lockStep, thresholdOf } from './testing/lock-step.ts';
import type { WorldName } from './testing/worlds.ts';

const seeds = (name: WorldName, count: number): [WorldName, number, number][] =>
  Array.from({ length: count }, (_, seed) => [name, seed, thresholdOf(seed)]);

describe('translated code does what the interpreter does, and stops where it stops', () => {
  test.each([
    ...seeds('long', 24),
    ...seeds('protected', 8),
    ...seeds('compatibility', 8),
    ...seeds('segments', 24),
    ...seeds('wrap', 12),
  ])(
    '%s: random program %i, threshold %i',
    (name, seed, threshold) => {
      const { difference, instructions, regions, segmentFaults } = lockStep(seed, threshold, name);
      expect(difference).toBeNull();
      expect(instructions).toBeGreaterThan(10_000);
      expect(regions).toBeGreaterThan(0);
      if (name !== 'long') expect(segmentFaults).toBeGreaterThan(0);
    },
    60_000,
  );
});
