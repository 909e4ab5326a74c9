/**
 * Compares the machine with the processor underneath, on cases that nobody has seen before: every instruction family in user
 * mode, 64-bit and 32-bit, then SSE and x87 arithmetic on hard operands. Exit code 1 on a difference, 2 where there is
 * nothing to compare with.
 *
 *   npm run oracle [-- --seed N] [--count N] [family …]
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { Row } from '../src/machine/isa/row.ts';
import { comparable, describeCase, differences } from '../test/oracle/compare.ts';
import { Emulated } from '../test/oracle/emulated.ts';
import { nativeAvailable, runNative } from '../test/oracle/native.ts';
import { casesOf, vectorRows } from '../test/oracle/vectors.ts';
import { EmulatedProcessor } from './oracle/emulated.ts';
import { Recorder } from './oracle/recorder.ts';
import { differences as frameDifferences, suites } from './oracle/suites.ts';

/** Differences that are shown of each family. */
const SHOWN = 5;
/** Cases that go through the recorder at a time. */
const BATCH = 20_000;

const { values: options, positionals: wanted } = parseArgs({
  options: { seed: { type: 'string', default: '1' }, count: { type: 'string', default: '16' } },
  allowPositionals: true,
});
const seed = Number(options.seed);
const count = Number(options.count);

function fail(message: string): never {
  console.error(`oracle: ${message}`);
  process.exit(2);
}
if (!Number.isSafeInteger(seed) || seed < 0) fail(`--seed wants a whole number, not '${options.seed}'`);
if (!Number.isSafeInteger(count) || count < 1) fail(`--count wants a number of cases, not '${options.count}'`);
if (!nativeAvailable()) fail('this needs Linux on x86-64 and gcc');
const features = new Set(
  readFileSync('/proc/cpuinfo', 'utf8')
    .match(/^flags\s*:(.*)$/m)?.[1]
    ?.split(/\s+/),
);
const vendor = /^vendor_id\s*:\s*(\S+)/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? 'unknown';

const offered = (feature: string): boolean => features.has(feature);

const familyOf = ({ operation: { feature, unit } }: Row): string => feature || unit || 'integer';
const chosen = (family: string): boolean => wanted.length === 0 || wanted.includes(family);

let total = 0;
let wrong = 0;
const left: string[] = [];

function report(family: string, compared: number, found: readonly string[]): void {
  total += compared;
  wrong += found.length;
  console.log(`${found.length === 0 ? 'ok  ' : 'FAIL'} ${family}: ${compared} cases, ${found.length} differ`);
  for (const line of found.slice(0, SHOWN)) console.log(`     ${line}`);
  if (found.length > SHOWN) console.log(`     and ${found.length - SHOWN} more`);
}

/** Every row of a family in one mode. */
function compareFamily(family: string, rows: readonly Row[], mode: 32 | 64): void {
  const made = rows.flatMap((row) => casesOf(row, mode, count, `oracle${seed}`));
  const emulated = new Emulated();
  const found: string[] = [];
  for (let at = 0; at < made.length; at += BATCH) {
    const batch = made.slice(at, at + BATCH);
    const theirs = runNative(batch.map((m) => m.case));
    batch.forEach((m, i) => {
      const { operation } = m.insn.row;
      // Other vendors leave other flags where the architecture leaves them open, as far as the table says so.
      const [a, b] = [emulated.run(m.case), theirs[i]!].map((r) => comparable(r, operation, operation.undefinedFlags));
      const different = differences(a!, b!);
      if (different.length > 0) found.push(`${different.join(', ')}\n       ${describeCase(m.case, m.insn)}`);
    });
  }
  report(`${family}, ${mode}-bit code`, made.length, found);
}

for (const mode of [64, 32] as const) {
  const families = new Map<string, Row[]>();
  for (const row of vectorRows(mode)) {
    const family = familyOf(row);
    families.set(family, [...(families.get(family) ?? []), row]);
  }
  for (const [family, rows] of [...families].sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (!chosen(family)) continue;
    const feature = rows[0]!.operation.feature;
    if (feature === '' || offered(feature)) compareFamily(family, rows, mode);
    else left.push(`${family}, ${mode}-bit code: this processor has no ${feature}`);
  }
}

const frames = (Object.keys(suites) as (keyof typeof suites)[]).filter((suite) => chosen(`${suite} arithmetic`));
const recorder = frames.length === 0 ? null : Recorder.open();
if (recorder === null) {
  for (const suite of frames) left.push(`${suite} arithmetic: not the kind of processor that the machine follows`);
} else {
  const emulated = new EmulatedProcessor();
  for (const suite of frames) {
    let compared = 0;
    const found: string[] = [];
    for (const instruction of suites[suite]) {
      const inputs = instruction.frames(seed, count);
      recorder.run(inputs).forEach((expected, i) => {
        compared++;
        const different = frameDifferences(instruction, emulated.run(inputs[i]!), expected);
        if (different.length > 0) found.push(`${instruction.name}: ${different.join('; ')}`);
      });
    }
    report(`${suite} arithmetic`, compared, found);
  }
  recorder.close();
}

for (const line of left) console.log(`not compared: ${line}`);
if (total === 0) fail(`nothing was compared${wanted.length > 0 ? `: is there a family ${wanted.join(', ')}?` : ''}`);
console.log(`\nseed ${seed}, processor of ${vendor}: ${total} cases compared, ${wrong} differ`);
process.exitCode = wrong === 0 ? 0 : 1;
