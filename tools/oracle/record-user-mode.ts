/**
 * Records what this machine's processor makes of the oracle's cases: writes test/oracle/vectors/user-mode-*.txt.
 *
 * `node tools/oracle/record-user-mode.ts`; needs Linux on an Intel processor with everything in the tables, and gcc. Run it when rows
 * have been added or the generator has changed.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { comparable, digest } from '../../test/oracle/compare.ts';
import { runNative } from '../../test/oracle/native.ts';
import { casesOf, formatVectors, rowKey, vectorFile, vectorRows } from '../../test/oracle/vectors.ts';

for (const mode of [64, 32] as const) {
  const rows = vectorRows(mode);
  const made = rows.map((row) => casesOf(row, mode));
  const results = runNative(made.flat().map((m) => m.case));
  const vectors = new Map<string, Uint32Array>();
  let at = 0;
  rows.forEach((row, i) => {
    const digests = made[i]!.map((m) => digest(comparable(results[at++]!, m.insn.row.operation, 0), m.case));
    vectors.set(rowKey(row), Uint32Array.from(digests));
  });
  mkdirSync(dirname(vectorFile(mode)), { recursive: true });
  writeFileSync(vectorFile(mode), formatVectors(vectors));
  console.log(`${mode}-bit code: ${vectors.size} rows, ${at} cases`);
}
