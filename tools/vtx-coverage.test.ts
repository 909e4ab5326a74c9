import { readFileSync } from 'node:fs';
import { beforeAll, expect, test } from 'vitest';
import { DOCUMENT, type Item, items, render } from './vtx-coverage.ts';

let list: Item[];
beforeAll(() => {
  list = items();
}, 300_000);

test('docs/vtx-coverage.md is what the tables and the cases say: if not, run node tools/vtx-coverage.ts', () => {
  expect(readFileSync(DOCUMENT, 'utf8')).toBe(render(list));
});

test('every check on VM entry has a case that it stops', () => {
  const checks = list.filter(({ section }) => section.startsWith('Check: '));
  expect(checks.length).toBeGreaterThan(150);
  expect(checks.filter(({ cases }) => cases.length === 0).map(({ name }) => name)).toEqual([]);
});
