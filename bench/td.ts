/** Trust domains beside VMs: the boot of one kernel as each, what building and accepting memory cost, and calls. */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildInitramfs, ensureBusybox, ensureImage } from '../src/cli/images/index.ts';
import { figure, printTable } from './table.ts';
import { TD_CALLS } from './td-guest.ts';

const IMAGE = '6.12-cloud';
const MIB = 2 ** 20;
const BOOT_MEMORY: number = 256 * MIB;
const BENCH_MEMORY: number = 192 * MIB;
const PAGES_PER_MIB = 256;
const CHILD: string = fileURLToPath(new URL('td-child.ts', import.meta.url));

/** What a child says. */
interface ChildReport {
  readonly reason: string;
  readonly stages: Readonly<Record<string, number>>;
  /** When the bench's own guest left for user space: before, between and after its stages. */
  readonly exits: readonly number[];
  readonly seamcalls?: Readonly<Record<string, number>>;
  readonly accepted: number;
}

/** User seconds, except where a name says otherwise. */
export interface TdResult {
  /** From the kernel's entry to the marker. */
  readonly vmBoot: number;
  readonly tdBoot: number;
  /** From nothing to the TD's first instruction: module, memory added and measured, all memory mapped. */
  readonly build: number;
  readonly accept: number;
  readonly acceptPerMib: number;
  readonly seamcallsPerSecond: number;
  /** Microseconds of each of {@link TD_CALLS}. */
  readonly calls: Readonly<Record<string, number>>;
}

function run(type: 'vm' | 'td', files: readonly [string, string], append: string, memory: number): ChildReport {
  const args = [CHILD, type, ...files, append, String(memory)];
  const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', maxBuffer: 64 * MIB });
  const line = stdout.trimEnd().split('\n').at(-1) ?? '';
  if (!line.startsWith('{')) throw new Error(`the child of the bench failed: ${stderr}`);
  return JSON.parse(line) as ChildReport;
}

const between = ({ stages }: ChildReport, from: string, to: string): number =>
  (stages[to] ?? Number.NaN) - (stages[from] ?? Number.NaN);

/** Boots and calls, each once; all in one run, so that ratios mean something. */
export async function runTdBench(): Promise<TdResult> {
  const directory = mkdtempSync(join(tmpdir(), 'softvt-bench-td-'));
  try {
    const { vmlinuz } = await ensureImage(IMAGE);
    const initrd = join(directory, 'initrd');
    writeFileSync(initrd, buildInitramfs({ busybox: readFileSync(await ensureBusybox()), init: 'poweroff' }));
    const files = [vmlinuz, initrd] as const;
    const vm = run('vm', files, 'console=ttyS0', BOOT_MEMORY);
    const td = run('td', files, 'console=ttyS0', BOOT_MEMORY);
    const calls = run('td', ['', ''], '', BENCH_MEMORY);
    const accept = between(td, 'built', 'accepted');
    const build = between(td, 'loaded', 'built');
    const made = ['TDH.MEM.PAGE.ADD', 'TDH.MR.EXTEND', 'TDH.MEM.PAGE.AUG'].map((name) => td.seamcalls?.[name] ?? 0);
    const [, , info = 0, cpuid = 0, cpuidFrom = 0, port = 0, portFrom = 0, last = 0] = calls.exits;
    const spans = [cpuid - info, port - cpuidFrom, last - portFrom];
    return {
      vmBoot: between(vm, 'built', 'marker'),
      tdBoot: between(td, 'accepted', 'marker'),
      build,
      accept,
      acceptPerMib: (accept / td.accepted) * PAGES_PER_MIB,
      seamcallsPerSecond: made.reduce((sum, count) => sum + count, 0) / build,
      calls: Object.fromEntries(TD_CALLS.map(({ name, count }, n) => [name, (spans[n]! / count) * 1e6])),
    };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Prints both boots with their ratio, and the rest one below the other. */
export function printTdBench(result: TdResult): void {
  const { vmBoot, tdBoot, build, accept, acceptPerMib, seamcallsPerSecond, calls } = result;
  printTable(
    `boot of ${IMAGE} from kernel entry to user space, user seconds`,
    ['guest', 's', 'against the VM'],
    [
      ['VM', figure(vmBoot), '1.00x'],
      ['TD', figure(tdBoot), figure(tdBoot / vmBoot, 'x')],
    ],
  );
  printTable(
    'trust domains',
    ['what', 'cost'],
    [
      [`creation of a TD with ${BOOT_MEMORY / MIB} MiB, to its first instruction`, figure(build, ' s')],
      [`acceptance of its memory`, figure(accept, ' s')],
      ['acceptance of 1 MiB in pages of 4 KiB', figure(acceptPerMib * 1e3, ' ms')],
      ['SEAMCALLs a second while a TD is made', figure(seamcallsPerSecond)],
      ...Object.entries(calls).map(([name, microseconds]) => [name, figure(microseconds, ' µs')]),
    ],
  );
}
