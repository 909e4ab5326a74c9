/** Records the real processor's results for all suites into vectors/: `node tools/oracle/record.ts`, after any change of cases. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { Recorder } from './recorder.ts';
import { RECORDED, RECORDED_SEED, suites } from './suites.ts';
import { encode, type SuiteName, vectorFile } from './vectors.ts';

const recorder = Recorder.open();
if (recorder === null) throw new Error('recording needs gcc and an Intel processor with AES, SHA and FDP_EXCPTN_ONLY');
for (const suite of Object.keys(suites) as SuiteName[]) {
  const kept: Uint8Array[] = [];
  for (const test of suites[suite]) {
    const results = recorder.run(test.frames(RECORDED_SEED, RECORDED[suite]));
    for (const result of results) kept.push(encode(result, test.approximate));
  }
  mkdirSync(dirname(vectorFile(suite)), { recursive: true });
  writeFileSync(vectorFile(suite), Buffer.concat(kept));
}
recorder.close();
