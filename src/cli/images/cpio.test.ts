import { expect, test } from 'vitest';
import { writeCpio } from './cpio.ts';
import { buildInitramfs, initScript, USERSPACE_MARKER } from './initramfs.ts';

/** Reads an archive back by the format's description, apart from the writer. */
function readCpio(archive: Uint8Array): { path: string; mode: number; data: string; rdev: string; inode: number }[] {
  const text = Buffer.from(archive).toString('latin1');
  const entries = [];
  for (let at = 0; ; ) {
    expect(text.slice(at, at + 6)).toBe('070701');
    const header = text.slice(at + 6, at + 110);
    const field = (index: number): number => Number.parseInt(header.slice(index * 8, index * 8 + 8), 16);
    const nameSize = field(11);
    const path = text.slice(at + 110, at + 110 + nameSize - 1);
    expect(text.charCodeAt(at + 110 + nameSize - 1)).toBe(0);
    const dataAt = Math.ceil((at + 110 + nameSize) / 4) * 4;
    const data = text.slice(dataAt, dataAt + field(6));
    at = Math.ceil((dataAt + field(6)) / 4) * 4;
    if (path === 'TRAILER!!!') {
      expect(at).toBe(text.length);
      return entries;
    }
    entries.push({ path, mode: field(1), data, rdev: `${field(9)}:${field(10)}`, inode: field(0) });
  }
}

const BUSYBOX = new TextEncoder().encode('busybox');

test('newc: types, modes, contents and device numbers survive, whatever the lengths', () => {
  const files = ['a', 'bb', 'ccc', 'dddd', 'eeeee'].map((path) => ({
    kind: 'file' as const,
    path,
    data: new TextEncoder().encode(path.repeat(3)),
  }));
  const entries = readCpio(
    writeCpio([
      { kind: 'directory', path: 'dev' },
      { kind: 'device', path: 'dev/console', major: 5, minor: 1 },
      { kind: 'symlink', path: 'sh', target: 'bin/busybox' },
      ...files,
    ]),
  );
  expect(entries.map(({ path, mode }) => [path, mode.toString(8)])).toEqual([
    ['dev', '40755'],
    ['dev/console', '20600'],
    ['sh', '120777'],
    ...files.map(({ path }) => [path, '100644']),
  ]);
  expect(entries[1]?.rdev).toBe('5:1');
  expect(entries[2]?.data).toBe('bin/busybox');
  expect(entries.slice(3).map(({ data }) => data)).toEqual(files.map(({ path }) => path.repeat(3)));
  expect(new Set(entries.map(({ inode }) => inode)).size).toBe(entries.length);
});

test('an initramfs holds busybox, the console, the script, and the directories of its files, in order', () => {
  const files = [{ path: 'lib/modules/tsm.ko', data: BUSYBOX }];
  const entries = readCpio(buildInitramfs({ busybox: BUSYBOX, init: 'poweroff', files, load: ['lib/modules/tsm.ko'] }));
  const paths = entries.map(({ path }) => path);
  expect(paths.indexOf('lib')).toBeLessThan(paths.indexOf('lib/modules'));
  expect(paths.indexOf('lib/modules')).toBeLessThan(paths.indexOf('lib/modules/tsm.ko'));
  expect(entries.find(({ path }) => path === 'bin/busybox')?.mode.toString(8)).toBe('100755');
  expect(entries.find(({ path }) => path === 'init')?.data).toContain('insmod /lib/modules/tsm.ko');
});

test('the same input gives the same bytes', () => {
  const build = (): Uint8Array => buildInitramfs({ busybox: BUSYBOX, init: 'shell' });
  expect(Buffer.from(build()).equals(build())).toBe(true);
});

test('the default init prints the marker before it powers off, and asks for a shell only in shell mode', () => {
  const off = initScript('poweroff');
  expect(off.indexOf(USERSPACE_MARKER)).toBeGreaterThan(0);
  expect(off.indexOf('poweroff -f')).toBeGreaterThan(off.indexOf(USERSPACE_MARKER));
  expect(off).not.toContain('cttyhack');
  expect(initScript('shell')).toMatch(/setsid busybox cttyhack busybox sh\nbusybox poweroff -f\n$/);
});

test('a script of one’s own replaces the default', () => {
  const entries = readCpio(buildInitramfs({ busybox: BUSYBOX, init: { script: '#!/bin/sh\n' } }));
  expect(entries.find(({ path }) => path === 'init')?.data).toBe('#!/bin/sh\n');
});
