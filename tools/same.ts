/**
 * Shows that a run is the same run, whatever executes it: translator off, on and at several thresholds, and however often the
 * event loop gets its turn. One line per comparison; exit code 1 with the first difference, 2 where a kernel is missing.
 *
 *   npm run same                                 instruction vectors, random programs, Debian's kernels with 1 and 4 processors
 *   npm run same -- vectors | random | boots     only these
 *   npm run same -- --seed N --programs N        other random programs, or more of them
 *   npm run same -- --kernels 6.12-cloud,7.2-cloud --every 100000     other kernels; ns of machine time between two hashes
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { buildInitramfs, ensureBusybox, ensureImage } from '../src/cli/images/index.ts';
import { lockStep } from '../src/machine/engine/translator/testing/lock-step.ts';
import { WORLDS } from '../src/machine/engine/translator/testing/worlds.ts';
import { type Boot, bootSamples, firstDifference, type Variant } from './same/boots.ts';
import { compareVectors } from './same/vectors.ts';

const { values, positionals } = parseArgs({
  options: {
    seed: { type: 'string', default: '1000' },
    programs: { type: 'string', default: '200' },
    kernels: { type: 'string', default: '6.1-cloud,6.12-cloud' },
    every: { type: 'string', default: '1000000' },
  },
  allowPositionals: true,
});
const wanted = (name: string): boolean => positionals.length === 0 || positionals.includes(name);

function report(what: string, difference: string | null, details: string): void {
  if (difference === null) return console.log(`same    ${what}: ${details}`);
  console.log(`DIFFERS ${what}: ${difference}`);
  process.exit(1);
}

function vectors(): void {
  for (const mode of [64, 32] as const) {
    const { cases, entries, difference } = compareVectors(mode, 8);
    report(`instruction vectors, ${mode}-bit code`, difference, `${cases} cases, ${entries} of them in regions`);
  }
}

function random(): void {
  const programs = Number(values.programs);
  for (const world of WORLDS) {
    for (const threshold of [1, 2, 10, 40]) {
      const sum = { instructions: 0, regions: 0 };
      for (let n = 0; n < programs / 4; n++) {
        const seed = Number(values.seed) + n;
        const walk = lockStep(seed, threshold, world);
        if (walk.difference !== null)
          report(`random program ${seed}, ${world}, threshold ${threshold}`, walk.difference, '');
        sum.instructions += walk.instructions;
        sum.regions += walk.regions;
      }
      const details = `${(sum.instructions / 1e6).toFixed(1)} million instructions, ${sum.regions} regions`;
      report(`${programs / 4} random programs, ${world}, threshold ${threshold}`, null, details);
    }
  }
}

const PLAIN: Variant = { name: 'translator off', threshold: 0, turns: 'due' };
const VARIANTS: readonly Variant[] = [
  { name: 'threshold 2500', threshold: 2500, turns: 'due' },
  { name: 'threshold 2500, event loop never', threshold: 2500, turns: 'never' },
  { name: 'threshold 2500, event loop always', threshold: 2500, turns: 'always' },
  { name: 'threshold 30', threshold: 30, turns: 'due' },
  { name: 'threshold 20000', threshold: 20_000, turns: 'due' },
];
const TO_THE_END = Number.MAX_SAFE_INTEGER;
/** Samples into which a differing interval is divided. */
const NARROWER = 64;

/** Runs both again with more samples in the interval that ends with the first difference, until it is one stretch without a jump. */
async function narrow(boot: Boot, variant: Variant, from: number, to: number): Promise<string> {
  const interval = { from, to, where: '' };
  for (let step = to - from; step > 1; ) {
    step = Math.max(1, Math.floor((interval.to - interval.from) / NARROWER));
    const samples = { from: interval.from, to: interval.to + step, step, memoryEvery: 1_000_000 };
    const a = await bootSamples(boot, PLAIN, samples);
    const b = await bootSamples(boot, variant, samples);
    const at = firstDifference(a, b);
    if (at === null) return `between ${interval.from} and ${interval.to} ns, but not when hashed every ${step} ns`;
    if (at > 0) interval.from = a[at - 1]!.time;
    interval.to = Math.max(a[at]?.time ?? to, b[at]?.time ?? to);
    interval.where = `from RIP ${a[at - 1]?.rip} to ${a[at]?.rip}, or ${b[at]?.rip} with ${variant.name}`;
    if (step === 1) break;
  }
  return `between ${interval.from} and ${interval.to} ns, ${interval.where}`;
}

async function boots(): Promise<void> {
  const every = Number(values.every);
  const busybox = readFileSync(await ensureBusybox());
  const initrd = buildInitramfs({ busybox, init: 'poweroff' });
  for (const name of values.kernels.split(',')) {
    const kernel = readFileSync((await ensureImage(name)).vmlinuz);
    for (const cpus of [1, 4]) {
      const commandLine = 'console=ttyS0 cryptomgr.notests';
      const boot = { name, kernel, initrd, commandLine, memorySize: 256 * 2 ** 20, cpus };
      const samples = { from: every, to: TO_THE_END, step: every, memoryEvery: 100 };
      const expected = await bootSamples(boot, PLAIN, samples);
      for (const variant of VARIANTS) {
        const got = await bootSamples(boot, variant, samples);
        const at = firstDifference(expected, got);
        const times = [0, ...expected.map(({ time }) => time)];
        const found = at === null ? null : await narrow(boot, variant, times[at] ?? 0, times[at + 1] ?? times.at(-1)!);
        const details = `${got.length} hashes, the last ${got.at(-1)?.hash}`;
        report(`${name}, ${cpus} processors: ${variant.name} and ${PLAIN.name}`, found, details);
      }
    }
  }
}

if (wanted('vectors')) vectors();
if (wanted('random')) random();
if (wanted('boots')) await boots();
