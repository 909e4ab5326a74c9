import { describe, expect, test } from 'vitest';
import { lockStep, thresholdOf } from './testing/lock-step.ts';

describe('translated code does what the interpreter does, and stops where it stops', () => {
  test.each(Array.from({ length: 24 }, (_, seed) => [seed, thresholdOf(seed)]))(
    'random program %i, threshold %i',
    (seed, threshold) => {
      const { difference, instructions, regions } = lockStep(seed, threshold);
      expect(difference).toBeNull();
      expect(instructions).toBeGreaterThan(10_000);
      expect(regions).toBeGreaterThan(0);
    },
    60_000,
  );
});
