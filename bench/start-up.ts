/**
 * How long it takes from the start of the process to the guest's first instruction.
 *
 * The guest's fourth instruction ends the run, so that the whole process is measured and nothing else.
 */

import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ByteWriter } from '../src/vmm/byte-writer.ts';
import { figure, printTable } from './table.ts';

const ROUNDS = 7;
const file = (path: string): string => fileURLToPath(new URL(`../${path}`, import.meta.url));

/** Wall seconds, the least of some rounds. */
export interface StartUpResult {
  /** `node -e 0`, start to end. */
  readonly node: number;
  /** `node src/cli/main.ts run` of a guest that ends at once. */
  readonly source: number;
  /** The same with the built program, if there is one. */
  readonly built: number | undefined;
}

/** A Multiboot image: mov al, 0; out 0xf4, al; hlt; jmp. */
function shortGuest(): Uint8Array {
  const flags = 0x10000;
  const address = 0x100000;
  return new ByteWriter()
    .u32(0x1badb002, flags, -(0x1badb002 + flags) >>> 0)
    .u32(address, address, 0, 0, address + 32)
    .u8(0xb0, 0, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd)
    .finish();
}

function wholeRun(args: readonly string[]): Promise<number> {
  const started = performance.now();
  const child = spawn(process.execPath, args, { stdio: 'ignore' });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', () => resolve((performance.now() - started) / 1000));
  });
}

/** Measures in turns, so that what else the machine does hits all alike. */
export async function runStartUp(): Promise<StartUpResult> {
  const directory = mkdtempSync(join(tmpdir(), 'softvt-bench-'));
  try {
    const kernel = join(directory, 'kernel');
    writeFileSync(kernel, shortGuest());
    const run = ['run', '--kernel', kernel, '--memory', '256M'];
    const bundle = file('dist/cli.mjs');
    const least = { node: Infinity, source: Infinity, built: existsSync(bundle) ? Infinity : undefined };
    for (let round = 0; round < ROUNDS; round++) {
      least.node = Math.min(least.node, await wholeRun(['-e', '0']));
      least.source = Math.min(least.source, await wholeRun([file('src/cli/main.ts'), ...run]));
      if (least.built !== undefined) least.built = Math.min(least.built, await wholeRun([bundle, ...run]));
    }
    return least;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Prints milliseconds and ratios. */
export function printStartUp({ node, source, built }: StartUpResult): void {
  const row = (name: string, seconds: number | undefined): string[] => [
    name,
    figure(seconds === undefined ? undefined : seconds * 1000),
    figure(seconds === undefined ? undefined : seconds / node, 'x'),
  ];
  printTable(
    'from process start to the first guest instruction (wall, guest of 256M)',
    ['program', 'ms', 'node -e 0'],
    [row('node -e 0 (to its end)', node), row('softvt from source', source), row('softvt as built', built)],
  );
}
