import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { makeBzImage } from '../vmm/loaders/testing.ts';
import { runCli } from './cli.ts';
import { fakeWorld } from './testing.ts';

let directory: string;
let kernel: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'softvt-measure-'));
  kernel = join(directory, 'vmlinuz');
  writeFileSync(kernel, makeBzImage());
});
afterAll(() => rmSync(directory, { recursive: true }));

async function measure(...args: string[]): Promise<string[]> {
  const world = fakeWorld();
  expect(await runCli(['measure', '--kernel', kernel, ...args], world.environment)).toBe(0);
  expect(world.guests).toEqual([]);
  return world.stdout.text.trimEnd().split('\n');
}

test('prints MRTD and the RTMRs at kernel entry, then how the TD is built, ending with TDH.MR.FINALIZE', async () => {
  const lines = await measure();
  expect(lines[0]).toMatch(/^MRTD {2}[0-9a-f]{96}$/);
  expect(lines.slice(1, 5)).toEqual([0, 1, 2, 3].map((n) => `RTMR${n} ${'0'.repeat(96)}`));
  expect(lines[6]).toBe('boot_params, page 0x7000: each TDH.MEM.PAGE.ADD, then 16 × TDH.MR.EXTEND by 256 bytes');
  expect(lines.at(-2)).toContain('td-shim, pages 0xffff7000 to 0xfffff000 (9)');
  expect(lines.at(-1)).toBe('TDH.MR.FINALIZE');
});

test('--calls names every call in order', async () => {
  const lines = (await measure('--calls')).slice(6);
  expect(lines.slice(0, 3)).toEqual(['TDH.MEM.PAGE.ADD 0x7000', 'TDH.MR.EXTEND 0x7000', 'TDH.MR.EXTEND 0x7100']);
  expect((lines.length - 1) % 17).toBe(0);
});

test('--json has value, regions and counts', async () => {
  const [line] = await measure('--json');
  const report = JSON.parse(line!);
  expect(report.mrtd).toMatch(/^[0-9a-f]{96}$/);
  expect(report.rtmr).toHaveLength(4);
  expect(report.calls['TDH.MR.EXTEND']).toBe(16 * report.calls['TDH.MEM.PAGE.ADD']);
  expect(report.regions.at(-1)).toEqual({ name: 'td-shim', gpa: 0xffff7000, size: 0x9000, measured: true });
});

test('the same input has the same MRTD; command line, memory and number of CPUs change it', async () => {
  const mrtd = async (...args: string[]): Promise<string> => (await measure(...args))[0]!;
  const plain = await mrtd();
  expect(await mrtd()).toBe(plain);
  const others = [await mrtd('--append', 'quiet'), await mrtd('--memory', '512M'), await mrtd('--cpus', '2')];
  expect(new Set([plain, ...others]).size).toBe(4);
});
