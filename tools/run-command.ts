/** `softvt run` as a user calls it. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';

/** What a run came to. */
export interface CommandRun {
  readonly code: number | null;
  /** The guest's console. */
  readonly stdout: string;
  readonly stderr: string;
  /** The object of `--json`; empty if softvt came to none. */
  readonly report: Readonly<Partial<Record<'virtualSeconds' | 'wallSeconds' | 'instructions', number>>>;
}

/** Runs a guest with `args` behind `softvt run --json`, from source and without input. */
export function runCommand(args: readonly string[]): Promise<CommandRun> {
  const command = join(import.meta.dirname, '../src/cli/main.ts');
  const child = spawn(process.execPath, [command, 'run', ...args, '--json'], { stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString('latin1');
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      const last = stderr.trimEnd().split('\n').at(-1) ?? '';
      resolve({ code, stdout, stderr, report: last.startsWith('{') ? JSON.parse(last) : {} });
    });
  });
}
