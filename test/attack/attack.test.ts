/** The attack suite: nothing gets in. */
import { expect, test } from 'vitest';
import { FAMILIES } from './families.ts';
import { carryOut } from './run.ts';

test.each(FAMILIES.map((family) => [family.name, family] as const))('%s', (_name, family) => {
  for (const { attack, happened, gotIn } of carryOut([family])) {
    expect({ attack: attack.name, happened, gotIn }).toEqual({
      attack: attack.name,
      happened: attack.must,
      gotIn: false,
    });
  }
});
