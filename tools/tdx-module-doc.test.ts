import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { DIFFERENCES } from '../src/tdx-module/compared.ts';
import { GUEST_LEAVES, HOST_LEAVES } from '../src/tdx-module/dispatch.ts';
import { DOCUMENT, render } from './tdx-module-doc.ts';

test('docs/tdx-module.md is what the code says: if not, run node tools/tdx-module-doc.ts', () => {
  expect(readFileSync(DOCUMENT, 'utf8')).toBe(render());
});

test('every leaf has one line, and an offered one its code', () => {
  const lines = render().split('\n');
  for (const { name, number, versions } of [...HOST_LEAVES.values(), ...GUEST_LEAVES.values()]) {
    const found = lines.filter((line) => line.startsWith(`| ${number} | ${name} |`));
    expect([name, found.length]).toEqual([name, 1]);
    expect([name, found[0]!.includes('(../src/tdx-module/')]).toEqual([name, versions.length > 0]);
  }
});

test('what is said to be compared is a leaf that is offered', () => {
  const offered = [...HOST_LEAVES.values(), ...GUEST_LEAVES.values()].filter(({ versions }) => versions.length > 0);
  expect(Object.keys(DIFFERENCES).filter((name) => !offered.some((leaf) => leaf.name === name))).toEqual([]);
});

test('the host-side table has the whole 1.5 interface', () => {
  expect([...HOST_LEAVES.keys()].sort((a, b) => a - b)).toEqual(NUMBERS);
});

/** Host leaves of the interface: the base leaves, service TDs, shutdown and update, export, import, migration streams. */
const NUMBERS: readonly number[] = [
  ...Array.from({ length: 46 }, (_, i) => i),
  48,
  49,
  52,
  53,
  64,
  65,
  66,
  68,
  ...[70, 71, 72, 73, 74, 75],
  ...[80, 81, 82, 83, 84, 85, 86, 87],
  96,
];
