import { expect, test } from 'vitest';
import { Machine } from '../../machine/machine.ts';
import { ATTRIBUTES } from '../objects/tdcs.ts';
import { attributesFixed0, attributesValid, XFAM_FIXED0, XFAM_FIXED1, xfamValid } from './features.ts';

const p = new Machine({ processors: 1, ramSize: 1 << 20, profile: 'tdx-host' }).processors[0]!;

test('XFAM needs x87 and SSE, and has nothing that XSAVE lacks', () => {
  expect([1n, 2n, 3n, 0x103n].map(xfamValid)).toEqual([false, false, true, false]);
  expect(XFAM_FIXED1 & ~XFAM_FIXED0).toBe(0n);
});

test('ATTRIBUTES: debug and SEPT_VE_DISABLE; no migration, no performance monitoring', () => {
  expect(attributesValid(p, ATTRIBUTES.DEBUG | ATTRIBUTES.SEPT_VE_DISABLE)).toBe(true);
  expect(attributesValid(p, ATTRIBUTES.MIGRATABLE)).toBe(false);
  expect(attributesValid(p, ATTRIBUTES.PERFMON)).toBe(false);
  expect(attributesFixed0(p) & ATTRIBUTES.KL).toBe(0n);
});
