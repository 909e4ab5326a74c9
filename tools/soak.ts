/**
 * Long runs: stress-ng from the distribution's package, with several vCPUs, as a VM and as a TD, for so many seconds of the
 * guest's time. A run is clean when every stressor ended without a failure, the kernel complained of nothing and the guest
 * powered off. Exit code 1 when one was not, 2 where the workload cannot be had.
 *
 *   npm run soak [-- --seconds 600] [--type vm|td|both] [--cpus 4] [--kernel 6.12-cloud] [--stressors="--cpu 4 …"]
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { buildInitramfs, ensureBusybox, ensureImage } from '../src/cli/images/index.ts';
import { SoftvtError } from '../src/util/errors.ts';
import { stressFiles } from './soak/stress-files.ts';

/** CPU, memory, timer and interrupt stressors, and context switches between processes and processors. */
const STRESSORS = '--cpu 2 --vm 2 --vm-bytes 24M --timer 1 --timer-freq 1000 --switch 2 --futex 2 --fork 1';
/** Wall seconds for each second of the guest's before a run counts as stuck, and those that a start may take. */
const PATIENCE = 120;
const START = 600;
const ENDED = 'softvt: stress-ng ended with ';
/** What a kernel says when it is not well. */
const COMPLAINTS =
  /BUG:|Oops|soft lockup|rcu.*stall|general protection|Call Trace|WARNING: CPU|Kernel panic|clocksource.*unstable/i;

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '600' },
    type: { type: 'string', default: 'both' },
    cpus: { type: 'string', default: '4' },
    kernel: { type: 'string', default: '6.12-cloud' },
    stressors: { type: 'string', default: STRESSORS },
  },
});

function fail(message: string): never {
  console.error(`soak: ${message}`);
  process.exit(2);
}
const seconds = Number(options.seconds);
const cpus = Number(options.cpus);
if (!Number.isSafeInteger(seconds) || seconds < 1) fail(`--seconds wants a whole number, not '${options.seconds}'`);
if (!Number.isSafeInteger(cpus) || cpus < 1) fail(`--cpus wants a whole number, not '${options.cpus}'`);
const types = { vm: ['vm'], td: ['td'], both: ['vm', 'td'] }[options.type] ?? fail(`--type is vm, td or both`);

/** Runs the stressors and says how they ended. */
const script = `#!/bin/busybox sh
export PATH=/bin HOME=/
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
busybox mount -t tmpfs tmp /tmp
cd /tmp
stress-ng ${options.stressors} --timeout ${seconds} --verify --metrics-brief
echo "${ENDED}$?"
busybox poweroff -f
`;

interface Run {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** `softvt run` as a user calls it; the console is shown from the stressors on. */
function run(type: string, vmlinuz: string, initrd: string): Promise<Run> {
  const args = ['--kernel', vmlinuz, '--initrd', initrd, '--append', 'console=ttyS0 cryptomgr.notests'];
  const limits = ['--memory', '512M', '--cpus', String(cpus), '--timeout', String(START + seconds * PATIENCE)];
  const command = join(import.meta.dirname, '../src/cli/main.ts');
  const child = spawn(process.execPath, [command, 'run', '--type', type, ...args, ...limits, '--json'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
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
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}

/** What is wrong with how a run ended. */
function troubles({ code, stdout }: Run): string[] {
  const lines = stdout.split(/\r?\n/);
  const found = lines.filter((line) => COMPLAINTS.test(line) || /stress-ng: (fail|error)|unexpected signal/.test(line));
  const ended = lines.find((line) => line.startsWith(ENDED))?.slice(ENDED.length);
  if (ended !== '0') found.push(ended === undefined ? 'stress-ng did not end' : `stress-ng ended with ${ended}`);
  if (code !== 0) found.push(`softvt ended with ${code}`);
  return found;
}

async function main(): Promise<number> {
  const directory = mkdtempSync(join(tmpdir(), 'softvt-soak-'));
  try {
    const { vmlinuz } = await ensureImage(options.kernel);
    const busybox = readFileSync(await ensureBusybox());
    const initrd = join(directory, 'initrd');
    writeFileSync(initrd, buildInitramfs({ busybox, init: { script }, files: await stressFiles(directory) }));
    let unclean = 0;
    for (const type of types) {
      const result = await run(type, vmlinuz, initrd);
      const found = troubles(result);
      if (found.length > 0) unclean++;
      const report = JSON.parse(result.stderr.trimEnd().split('\n').at(-1) ?? '{}') as Record<string, number>;
      console.log(
        `${found.length === 0 ? 'ok  ' : 'FAIL'} ${type}, ${cpus} vCPUs: ${report['virtualSeconds']?.toFixed(1)} s of the guest's time, ` +
          `${((report['instructions'] ?? 0) / 1e9).toFixed(2)}e9 instructions, ${report['wallSeconds']?.toFixed(0)} s`,
      );
      for (const line of result.stdout.matchAll(/^stress-ng: (?:metrc|info): .*$/gm))
        console.log(`     ${line[0].trim()}`);
      for (const line of found) console.log(`     ${line}`);
    }
    return unclean === 0 ? 0 : 1;
  } catch (error) {
    if (error instanceof SoftvtError) fail(error.line);
    throw error;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

process.exitCode = await main();
