import { expect, test } from 'vitest';
import { type ImageProgress, progressWriter } from './progress.ts';

const STEPS: readonly ImageProgress[] = [
  { kind: 'download', file: 'a.deb', done: 1048576, total: 3145728 },
  { kind: 'download', file: 'a.deb', done: 3145728, total: 3145728 },
  { kind: 'warning', message: 'the index is old' },
  { kind: 'unpack', file: 'a.deb' },
];

function written(isTTY: boolean): string {
  let text = '';
  const writer = progressWriter({ isTTY, write: (part) => (text += part) });
  for (const step of STEPS) writer.listener(step);
  writer.end();
  return text;
}

test('in a log each file is said once, and warnings stand out', () => {
  expect(written(false)).toBe(
    'softvt: downloading a.deb (3.0 MiB)\nsoftvt: warning: the index is old\nsoftvt: unpacking a.deb\n',
  );
});

test('on a terminal one line updates itself; warnings and the end start a new one', () => {
  expect(written(true)).toBe(
    [
      '\r\x1b[Ksoftvt: downloading a.deb: 1.0 of 3.0 MiB\r\x1b[Ksoftvt: downloading a.deb: 3.0 of 3.0 MiB',
      'softvt: warning: the index is old',
      '\r\x1b[Ksoftvt: unpacking a.deb',
      '',
    ].join('\n'),
  );
});
