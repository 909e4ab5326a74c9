import { afterAll, describe, expect, test } from 'vitest';
import { EmulatedProcessor } from './emulated.ts';
import { Recorder } from './recorder.ts';
import { differences, suites } from './suites.ts';
import { mismatches, type SuiteName } from './vectors.ts';

const names = Object.keys(suites) as SuiteName[];
const emulated = new EmulatedProcessor();

describe.each(names)('recorded results of a real processor: %s', (suite) => {
  test('every instruction gives the same registers, flags, memory and faults', () => {
    expect(mismatches(suite, (frame) => emulated.run(frame))).toEqual([]);
  });
});

// Only where there is a compiler and the right processor: other operands on every run.
const recorder = Recorder.open();
if (recorder !== null) {
  afterAll(() => recorder.close());
  describe.each(names)('the processor underneath: %s', (suite) => {
    const seed = Math.floor(Math.random() * 0x8000);
    test(`random operands give the same results (seed ${seed})`, () => {
      const inputs = suites[suite].flatMap((instruction) =>
        instruction.frames(seed, 12).map((frame) => ({ instruction, frame })),
      );
      const expected = recorder.run(inputs.map(({ frame }) => frame));
      const wrong = inputs.flatMap(({ instruction, frame }, i) => {
        const found = differences(instruction, emulated.run(frame), expected[i]!);
        return found.length === 0 ? [] : [`${instruction.name}: ${found.join('; ')}`];
      });
      expect(wrong).toEqual([]);
    });
  });
}
