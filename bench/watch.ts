/** Runs an emulator and takes the time of each line that its guest prints. */

import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

/** A line of the guest's console, and when it came. */
export interface TimedLine {
  readonly text: string;
  /** CPU seconds of all threads of the emulator since its start; wall seconds where the system does not tell. */
  readonly cpu: number;
  /** Wall seconds since the start. */
  readonly wall: number;
  /** Resident bytes of the emulator; 0 where the system does not tell. */
  readonly memory: number;
}

/** What was seen of a run. */
export interface WatchedRun {
  readonly lines: readonly TimedLine[];
  /** The most memory that the process had resident, in bytes; 0 where the system does not tell. */
  readonly peakMemory: number;
  /** The last line that was waited for came. */
  readonly complete: boolean;
  /** What the emulator said on stderr. */
  readonly stderr: string;
}

/** An emulator's command line. */
export interface Command {
  readonly program: string;
  readonly args: readonly string[];
}

/** CPU seconds of a running process, or undefined. */
function cpuSeconds(pid: number): number | undefined {
  try {
    let total = 0;
    for (const task of readdirSync(`/proc/${pid}/task`)) {
      total += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]);
    }
    return total / 1e9;
  } catch {
    return undefined;
  }
}

/** Of a process: VmHWM is the most that it had resident, VmRSS what it has. */
function memoryOf(pid: number, field: 'VmHWM' | 'VmRSS'): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const [, kib] = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status) ?? [];
    return Number(kib ?? 0) * 1024;
  } catch {
    return 0;
  }
}

/** Runs `command` until a line contains `last`, the process ends, or `seconds` have passed. */
export function watch({ program, args }: Command, last: string, seconds: number): Promise<WatchedRun> {
  const started = performance.now();
  const child: ChildProcess = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const lines: TimedLine[] = [];
  let partial = '';
  let stderr = '';
  let peak = 0;
  let complete = false;
  const now = (): Omit<TimedLine, 'text'> => {
    const wall = (performance.now() - started) / 1000;
    if (child.pid === undefined) return { wall, cpu: wall, memory: 0 };
    return { wall, cpu: cpuSeconds(child.pid) ?? wall, memory: memoryOf(child.pid, 'VmRSS') };
  };
  return new Promise((resolve) => {
    const timer = setTimeout(() => child.kill('SIGKILL'), seconds * 1000);
    const finish = (): void => {
      clearTimeout(timer);
      resolve({ lines, peakMemory: peak, complete, stderr });
    };
    child.stderr?.on('data', (chunk: Buffer) => {
      stderr += chunk.toString('latin1');
    });
    child.stdout?.on('data', (chunk: Buffer) => {
      const time = now();
      partial += chunk.toString('latin1');
      const whole = partial.split('\n');
      partial = whole.pop() ?? '';
      for (const text of whole) lines.push({ text: text.trim(), ...time });
      if (complete || !lines.some(({ text }) => text.includes(last))) return;
      complete = true;
      if (child.pid !== undefined) peak = memoryOf(child.pid, 'VmHWM');
      child.kill('SIGKILL');
    });
    child.on('error', (error) => {
      stderr += error.message;
      finish();
    });
    child.on('close', finish);
  });
}

/** The emulator's last words, as the end of a sentence. */
export function lastLine({ stderr }: WatchedRun): string {
  const line = stderr.trim().split('\n').at(-1) ?? '';
  return line === '' ? '' : `: ${line}`;
}
