/** The bench guest on every emulator: compute kernels, costs of exits, memory of the process. */

import type { Emulator } from './emulators.ts';
import { figure, geometricMean, printTable } from './table.ts';
import { lastLine, type WatchedRun } from './watch.ts';

const MIB = 2 ** 20;
const MEMORY = 256 * MIB;
const TIMEOUT = 300;

/** One bench of the guest. */
interface Measured {
  readonly seconds: number;
  readonly count: number;
  /** The guest's TSC. */
  readonly ticks: number;
  readonly result: string;
}

/** What one emulator did. */
export interface GuestBenchResult {
  readonly emulator: string;
  readonly benches: Readonly<Record<string, Measured>>;
  readonly peakMemory: number;
}

function measured({ lines }: WatchedRun): Record<string, Measured> {
  const benches: Record<string, Measured> = {};
  for (const [n, { text, cpu }] of lines.entries()) {
    const [, name = '', count] = /^begin (\S+) (\d+)$/.exec(text) ?? [];
    const end = lines.slice(n).find((line) => line.text.startsWith(`end ${name} `));
    if (count === undefined || end === undefined) continue;
    const [, , ticks, result = ''] = end.text.split(' ');
    benches[name] = { seconds: end.cpu - cpu, count: Number(count), ticks: Number(ticks), result };
  }
  return benches;
}

/** Runs the guest `rounds` times on each emulator, in turns, and keeps the least time of each bench. */
export async function runGuestBenches(
  emulators: readonly Emulator[],
  guest: Uint8Array,
  rounds: number,
): Promise<GuestBenchResult[]> {
  const results = new Map<string, { benches: Record<string, Measured>; peakMemory: number }>();
  for (let round = 0; round < rounds; round++) {
    for (const emulator of emulators) {
      const run = await emulator.run({ kernel: guest, commandLine: '', memorySize: MEMORY }, 'done', TIMEOUT);
      if (!run.complete) {
        console.log(`${emulator.name}: the guest did not finish${lastLine(run)}`);
        continue;
      }
      const best = results.get(emulator.name) ?? { benches: {}, peakMemory: run.peakMemory };
      for (const [name, value] of Object.entries(measured(run))) {
        const before = best.benches[name];
        if (before === undefined || value.seconds < before.seconds) best.benches[name] = value;
      }
      results.set(emulator.name, best);
    }
  }
  return [...results].map(([emulator, result]) => ({ emulator, ...result }));
}

const ofKind = (result: GuestBenchResult, kernel: boolean): [string, Measured][] =>
  Object.entries(result.benches).filter(([name]) => /[:-]/.test(name) !== kernel);

/** Prints kernels as guest MIPS, with ratios of softvt to each peer. */
export function printKernels(title: string, results: readonly GuestBenchResult[]): void {
  const [ours, ...others] = results;
  if (ours === undefined) return;
  for (const [name, { result }] of ofKind(ours, true)) {
    for (const other of others) {
      const theirs = other.benches[name]?.result;
      if (theirs !== result) console.log(`${name}: ${other.emulator} computes ${theirs}, softvt ${result}`);
    }
  }
  // On softvt the TSC counts instructions: the same for everybody, as the code is.
  const mips = (result: GuestBenchResult, name: string): number =>
    ours.benches[name]!.ticks / (result.benches[name]?.seconds ?? Number.NaN) / 1e6;
  const names = ofKind(ours, true).map(([name]) => name);
  const row = (name: string, value: (result: GuestBenchResult) => number): string[] => [
    name,
    ...results.map((result) => figure(value(result))),
    ...others.map((other) => figure(value(ours) / value(other))),
  ];
  printTable(
    `${title}: guest MIPS, and softvt as a multiple of each peer (more is better)`,
    ['kernel', ...results.map(({ emulator }) => emulator), ...others.map(({ emulator }) => `/ ${emulator}`)],
    [
      ...names.map((name) => row(name, (result) => mips(result, name))),
      row('geometric mean', (result) => geometricMean(names.map((name) => mips(result, name)))),
    ],
  );
}

/** Prints kernels as {@link printKernels} does, exits as microseconds, and memory. */
export function printGuestBenches(results: readonly GuestBenchResult[]): void {
  const [ours, ...others] = results;
  if (ours === undefined) return;
  printKernels('compute kernels', results);
  printTable(
    'microseconds each, and how many (on emulators of a bare machine nothing exits)',
    [
      'event',
      'count',
      ...results.map(({ emulator }) => emulator),
      ...others.map(({ emulator }) => `faster than ${emulator}`),
    ],
    ofKind(ours, false).map(([name, { count, seconds }]) => [
      name,
      String(count),
      ...results.map(({ benches }) => figure(((benches[name]?.seconds ?? Number.NaN) / count) * 1e6)),
      ...others.map(({ benches }) => figure((benches[name]?.seconds ?? Number.NaN) / seconds)),
    ]),
  );
  printTable(
    'memory of the process after the guest has touched 128 MiB of its RAM, in MiB',
    ['', ...results.map(({ emulator }) => emulator)],
    [['peak resident set', ...results.map(({ peakMemory }) => figure(peakMemory / MIB))]],
  );
}
