import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { tdreportProgram } from './tdreport-program.ts';

const ENOENT = 2;

test('is a static executable with one segment, entered behind its headers', () => {
  const elf = tdreportProgram();
  const view = new DataView(elf.buffer, elf.byteOffset, elf.byteLength);
  expect([...elf.subarray(0, 7)]).toEqual([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  expect([view.getUint16(16, true), view.getUint16(18, true), view.getUint16(56, true)]).toEqual([2, 62, 1]);
  const start = Number(view.getBigUint64(24, true));
  const address = Number(view.getBigUint64(64 + 16, true));
  expect(start - address).toBe(120);
  expect(Number(view.getBigUint64(64 + 32, true))).toBe(elf.length);
  expect(Number(view.getBigUint64(64 + 40, true))).toBe(elf.length + 1088);
});

const linux = process.platform === 'linux' && process.arch === 'x64';

test.runIf(linux)('runs, and exits with the errno of what fails: here there is no device', () => {
  const directory = mkdtempSync(join(tmpdir(), 'softvt-tdreport-'));
  const path = join(directory, 'tdreport');
  writeFileSync(path, tdreportProgram(), { mode: 0o755 });
  const { status, stdout } = spawnSync(path, { input: 'x' });
  rmSync(directory, { recursive: true });
  expect([status, stdout.length]).toEqual([ENOENT, 0]);
});
