import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { comparable, describeCase, differences, digest } from './compare.ts';
import { Emulated } from './emulated.ts';
import { nativeAvailable, runNative } from './native.ts';
import { casesOf, readVectors, rowKey, vectorRows } from './vectors.ts';

const MODES = [64, 32] as const;
const SEED = process.env['ORACLE_SEED'] ?? '';
const PER_ROW = Number(process.env['ORACLE_CASES'] ?? 4);

/** What a processor must offer to execute every row. */
const FEATURES = ['sse4_2', 'popcnt', 'abm', 'bmi1', 'bmi2', 'adx', 'movbe', 'aes', 'pclmulqdq', 'sha_ni', 'movdir64b'];

/** Only Intel's processors agree with the recorded one in what the architecture leaves open. */
function intel(): boolean {
  if (!nativeAvailable()) return false;
  const words = new Set(readFileSync('/proc/cpuinfo', 'utf8').split(/\s+/));
  return words.has('GenuineIntel') && FEATURES.every((name) => words.has(name));
}

test.each(MODES)('%s-bit code: every instruction in user mode leaves what the recorded processor left', (mode) => {
  const vectors = readVectors(mode);
  const emulated = new Emulated();
  const wrong: string[] = [];
  let compared = 0;
  for (const row of vectorRows(mode)) {
    const digests = vectors.get(rowKey(row));
    if (digests === undefined) continue;
    casesOf(row, mode).forEach((made, i) => {
      const result = comparable(emulated.run(made.case), made.insn.row.operation, 0);
      compared++;
      if (digest(result, made.case) !== digests[i]) wrong.push(describeCase(made.case, made.insn));
    });
  }
  expect(wrong).toEqual([]);
  expect(compared).toBeGreaterThan(5000);
});

// Fresh cases: ORACLE_SEED=… and ORACLE_CASES=… (per row) choose others and more.
test.runIf(intel()).each(MODES)('%s-bit code: fresh random cases end as on the processor at hand', (mode) => {
  const made = vectorRows(mode).flatMap((row) => casesOf(row, mode, PER_ROW, `fresh${SEED}`));
  const theirs = runNative(made.map((m) => m.case));
  const emulated = new Emulated();
  const wrong: string[] = [];
  made.forEach((m, i) => {
    const { operation } = m.insn.row;
    const { undefinedFlags } = operation;
    const found = differences(
      comparable(emulated.run(m.case), operation, undefinedFlags),
      comparable(theirs[i]!, operation, undefinedFlags),
    );
    if (found.length > 0) wrong.push(`${found.join(', ')}\n  ${describeCase(m.case, m.insn)}`);
  });
  expect(wrong).toEqual([]);
  expect(made.length).toBeGreaterThan(2000);
});
