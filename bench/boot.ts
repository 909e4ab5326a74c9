/** Boots a distribution kernel on every emulator, from kernel entry to the marker that its init prints. */

import { readFileSync } from 'node:fs';
import { buildInitramfs, ensureBusybox, ensureImage, USERSPACE_MARKER } from '../src/cli/images/index.ts';
import type { Emulator } from './emulators.ts';
import { figure, printTable } from './table.ts';
import { lastLine } from './watch.ts';

const IMAGE = '6.1-cloud';
const MEMORY = 256 * 2 ** 20;
const TIMEOUT = 300;

/** One boot. */
export interface BootResult {
  readonly emulator: string;
  /** CPU seconds from kernel entry to marker. */
  readonly seconds: number;
  /** The same by the wall. */
  readonly wallSeconds: number;
  /** CPU seconds before kernel entry. */
  readonly secondsBefore: number;
  readonly peakMemory: number;
}

/** Results and, from softvt, the instructions that the boot takes. */
export interface BootResults {
  readonly instructions: number;
  readonly boots: readonly BootResult[];
}

/** Kernel and initramfs: from the environment (SOFTVT_BENCH_KERNEL, SOFTVT_BENCH_INITRD) or the image cache. */
async function bootFiles(): Promise<{ kernel: Uint8Array; initrd: Uint8Array }> {
  const { SOFTVT_BENCH_KERNEL: kernel, SOFTVT_BENCH_INITRD: initrd } = process.env;
  if (kernel !== undefined && initrd !== undefined) {
    return { kernel: readFileSync(kernel), initrd: readFileSync(initrd) };
  }
  const { vmlinuz } = await ensureImage(IMAGE);
  const busybox = readFileSync(await ensureBusybox());
  return { kernel: readFileSync(vmlinuz), initrd: buildInitramfs({ busybox, init: 'poweroff' }) };
}

/** Boots on each emulator, softvt first. */
export async function runBoots(emulators: readonly Emulator[]): Promise<BootResults> {
  const guest = { ...(await bootFiles()), commandLine: 'console=ttyS0', memorySize: MEMORY };
  const boots: BootResult[] = [];
  let instructions = 0;
  for (const [n, emulator] of emulators.entries()) {
    const last = n === 0 ? 'instructions ' : USERSPACE_MARKER;
    const run = await emulator.run(guest, last, TIMEOUT);
    const entry = run.lines.find(({ text }) => text.endsWith('entry'));
    const marker = run.lines.find(({ text }) => text.includes(USERSPACE_MARKER));
    if (entry === undefined || marker === undefined) {
      console.log(`${emulator.name}: no boot${lastLine(run)}`);
      continue;
    }
    if (n === 0) instructions = Number(run.lines.at(-1)?.text.split(' ')[1] ?? Number.NaN);
    boots.push({
      emulator: emulator.name,
      seconds: marker.cpu - entry.cpu,
      wallSeconds: marker.wall - entry.wall,
      secondsBefore: entry.cpu,
      peakMemory: run.peakMemory,
    });
  }
  return { instructions, boots };
}

/** Prints seconds, MIPS by softvt's count of instructions, and ratios. */
export function printBoots({ instructions, boots }: BootResults): void {
  const ours = boots[0];
  if (ours === undefined) return;
  printTable(
    `boot of ${IMAGE} from kernel entry to user space (${(instructions / 1e9).toFixed(2)} G instructions on softvt)`,
    ['emulator', 'CPU s', 'wall s', 'guest MIPS', 'softvt is faster by', 'CPU s before entry'],
    boots.map(({ emulator, seconds, wallSeconds, secondsBefore }) => [
      emulator,
      figure(seconds),
      figure(wallSeconds),
      figure(instructions / seconds / 1e6),
      figure(seconds / ours.seconds, 'x'),
      figure(secondsBefore),
    ]),
  );
}
