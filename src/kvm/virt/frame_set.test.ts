import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FrameSet } from './frame_set.ts';

const LIMIT = 40;

test('agrees with a set of single frames, in as few ranges as there are', () => {
  const change = fc.record({ start: fc.nat(LIMIT - 1), count: fc.integer({ min: 1, max: 12 }), present: fc.boolean() });
  fc.assert(
    fc.property(fc.array(change, { maxLength: 30 }), (changes) => {
      const set = new FrameSet();
      const model = new Set<number>();
      for (const { start, count, present } of changes) {
        set.set(start, start + count, present);
        for (let gfn = start; gfn < start + count; gfn++) present ? model.add(gfn) : model.delete(gfn);
        const has = (gfn: number): boolean => model.has(gfn);
        let ranges = 0;
        for (let gfn = 0; gfn < LIMIT + 12; gfn++) {
          expect(set.has(gfn)).toBe(has(gfn));
          if (has(gfn) && !has(gfn - 1)) ranges++;
          for (const length of [1, 2, 7]) {
            const frames = Array.from({ length }, (_, i) => has(gfn + i));
            expect(set.all(gfn, gfn + length, true)).toBe(frames.every((there) => there));
            expect(set.all(gfn, gfn + length, false)).toBe(!frames.some((there) => there));
          }
        }
        expect(set.ranges).toBe(ranges);
      }
    }),
    { seed: 11, numRuns: 100 },
  );
});

test('all of guest-physical memory is one range', () => {
  const set = new FrameSet();
  set.set(0, 2 ** 40, true);
  set.set(5, 6, false);
  expect([set.ranges, set.has(4), set.has(5), set.has(2 ** 40 - 1)]).toEqual([2, true, false, true]);
});
