/** The real processor: compiles tools/oracle/run-native.c once and runs cases with it. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Case, INPUT_BYTES, OUTPUT_BYTES, type Result, readResult, writeCase } from './case.ts';

const SOURCE = join(import.meta.dirname, '../../tools/oracle/run-native.c');

/** Whether cases can run here: Linux on x86-64 with a C compiler. */
export function nativeAvailable(): boolean {
  if (process.platform !== 'linux' || process.arch !== 'x64') return false;
  try {
    execFileSync('gcc', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** What the real processor makes of the cases. */
export function runNative(cases: readonly Case[]): Result[] {
  const directory = mkdtempSync(join(tmpdir(), 'softvt-oracle-'));
  try {
    const program = join(directory, 'run-native');
    execFileSync('gcc', ['-O1', '-o', program, SOURCE]);
    const input = new Uint8Array(cases.length * INPUT_BYTES);
    cases.forEach((c, i) => {
      writeCase(c, input.subarray(i * INPUT_BYTES, (i + 1) * INPUT_BYTES));
    });
    const output = execFileSync(program, {
      input,
      maxBuffer: cases.length * OUTPUT_BYTES + 1024,
      timeout: 30_000,
    });
    if (output.length !== cases.length * OUTPUT_BYTES) throw new Error('the native runner stopped early');
    return cases.map((_, i) => readResult(output.subarray(i * OUTPUT_BYTES, (i + 1) * OUTPUT_BYTES)));
  } finally {
    rmSync(directory, { recursive: true });
  }
}
