/** The attack suite: nothing gets in. */
import { expect, test } from 'vitest';
import { SUITE } from './families.ts';

test.each(SUITE.map((part) => [part.name, part] as const))('%s', async (_name, part) => {
  for (const { name, must, happened, gotIn } of await part.carryOut()) {
    expect({ name, happened, gotIn }).toEqual({ name, happened: must, gotIn: false });
  }
});
