/** The short form of `npm run same`. */
import { expect, test } from 'vitest';
import { builtinGuest } from '../../src/cli/builtin-guest.ts';
import { bootSamples, firstDifference, type Variant } from '../../tools/same/boots.ts';
import { compareVectors } from '../../tools/same/vectors.ts';

test.each([64, 32] as const)(
  'regions do what the interpreter does: one case of each encoding of %s-bit code',
  (mode) => {
    const { cases, entries, difference } = compareVectors(mode, 1);
    expect(difference).toBeNull();
    expect(cases).toBeGreaterThan(1000);
    expect(entries).toBeGreaterThan(cases / 2);
  },
);

test('a guest with two processors goes through the same states, translated or not, and however often the event loop turns', async () => {
  const boot = { name: 'guest', kernel: builtinGuest(), commandLine: '', memorySize: 16 << 20, cpus: 2 };
  const samples = { from: 100_000, to: 5_000_000, step: 100_000, memoryEvery: 10 };
  const variants: readonly Variant[] = [
    { name: 'translator off', threshold: 0, turns: 'due' },
    { name: 'threshold 20', threshold: 20, turns: 'never' },
    { name: 'threshold 1000', threshold: 1000, turns: 'always' },
  ];
  const [expected, ...others] = await Promise.all(variants.map((variant) => bootSamples(boot, variant, samples)));
  expect(expected!.length).toBeGreaterThan(40);
  for (const other of others) expect(firstDifference(expected!, other)).toBeNull();
});
