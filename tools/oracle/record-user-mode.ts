/**
 * Records what this machine's processor makes of the oracle's cases: writes test/oracle/vectors/user-mode.txt.
 *
 * `node tools/oracle/record-user-mode.ts`; needs Linux on an Intel processor with everything in the tables, and gcc. Run it when rows
 * have been added or the generator has changed.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { comparable, digest } from '../../test/oracle/compare.ts';
import { runNative } from '../../test/oracle/native.ts';
import { casesOf, formatVectors, rowKey, VECTORS, vectorRows } from '../../test/oracle/vectors.ts';

const made = vectorRows.map((row) => casesOf(row));
const results = runNative(made.flat().map((m) => m.case));
const vectors = new Map<string, Uint32Array>();
let at = 0;
vectorRows.forEach((row, i) => {
  const digests = made[i]!.map((m) => digest(comparable(results[at++]!, m.insn.row.operation, 0)));
  vectors.set(rowKey(row), Uint32Array.from(digests));
});
mkdirSync(dirname(VECTORS), { recursive: true });
writeFileSync(VECTORS, formatVectors(vectors));
console.log(`${vectors.size} rows, ${at} cases`);
