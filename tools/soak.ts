/**
 * Long runs with several vCPUs, as a VM and as a TD. stress-ng from the distribution's package works for so many seconds
 * of the guest's time: the run is clean when every stressor ended without a failure, the kernel complained of nothing and
 * the guest powered off. Then a guest compiles a program, and every file that comes of it is as on this host. Exit code 1
 * when a run was not clean, 2 where the programs cannot be had.
 *
 *   npm run soak [-- --seconds 600] [--type vm|td|both] [--cpus 4] [--kernel 6.12-cloud] [--stressors="--cpu 4 …"]
 *                [--compiler gcc|tcc|none]
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { buildInitramfs, ensureBusybox, ensureImage } from '../src/cli/images/index.ts';
import { SoftvtError } from '../src/util/errors.ts';
import { type CommandRun, runCommand } from './run-command.ts';
import { COMPILERS, type Compiler, compilation } from './soak/compile.ts';
import { STRESSORS, stressScript, stressTroubles } from './soak/stress.ts';
import { stressFiles } from './soak/stress-files.ts';
import { prepareWorkload } from './workload/prepare.ts';
import { workloadTroubles } from './workload/verdict.ts';

/** Wall seconds for each second of the guest's before a run counts as stuck, and those that a start may take. */
const PATIENCE = 120;
const START = 600;
/** Wall seconds that compiling may take. */
const COMPILING = 7200;

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '600' },
    type: { type: 'string', default: 'both' },
    cpus: { type: 'string', default: '4' },
    kernel: { type: 'string', default: '6.12-cloud' },
    stressors: { type: 'string', default: STRESSORS },
    compiler: { type: 'string', default: 'gcc' },
  },
});

function fail(message: string): never {
  console.error(`soak: ${message}`);
  process.exit(2);
}
const seconds = Number(options.seconds);
const cpus = Number(options.cpus);
const { compiler } = options;
if (!Number.isSafeInteger(seconds) || seconds < 0) fail(`--seconds wants a whole number, not '${options.seconds}'`);
if (!Number.isSafeInteger(cpus) || cpus < 1) fail(`--cpus wants a whole number, not '${options.cpus}'`);
if (compiler !== 'none' && !COMPILERS.includes(compiler)) fail(`--compiler is ${COMPILERS.join(', ')} or none`);
const types = { vm: ['vm'], td: ['td'], both: ['vm', 'td'] }[options.type] ?? fail(`--type is vm, td or both`);

/** One guest: what it does, its initramfs, and how to judge what it did. */
interface Job {
  readonly name: string;
  readonly initramfs: Uint8Array;
  readonly memory: string;
  readonly timeout: number;
  readonly troubles: (run: CommandRun) => string[];
  /** Lines of the console to show. */
  readonly shown: RegExp;
}

async function stressJob(busybox: Uint8Array): Promise<Job> {
  const init = { script: stressScript(options.stressors, seconds) };
  return {
    name: 'stress-ng',
    initramfs: buildInitramfs({ busybox, init, files: await stressFiles() }),
    memory: '512M',
    timeout: START + seconds * PATIENCE,
    troubles: ({ stdout }) => stressTroubles(stdout),
    shown: /^stress-ng: (?:metrc|info): .*$/gm,
  };
}

async function compileJob(busybox: Uint8Array, directory: string): Promise<Job> {
  const { initramfs, expected } = await prepareWorkload(directory, busybox, compilation(compiler as Compiler, cpus));
  return {
    name: `${compiler}, make -j${cpus}`,
    initramfs,
    memory: '1G',
    timeout: COMPILING,
    troubles: ({ stdout }) => workloadTroubles(stdout, expected, false),
    shown: /^softvt: same .*$/gm,
  };
}

/** Runs a job as one kind of guest and says how it went; whether it was clean. */
async function soak(type: string, job: Job, vmlinuz: string, initrd: string): Promise<boolean> {
  const files = ['--kernel', vmlinuz, '--initrd', initrd, '--append', 'console=ttyS0 cryptomgr.notests'];
  const limits = ['--memory', job.memory, '--cpus', String(cpus), '--timeout', String(job.timeout)];
  const run = await runCommand(['--type', type, ...files, ...limits]);
  const found = job.troubles(run);
  if (run.code !== 0) found.push(`softvt ended with ${run.code}`);
  const { virtualSeconds, instructions = 0, wallSeconds } = run.report;
  console.log(
    `${found.length === 0 ? 'ok  ' : 'FAIL'} ${type}, ${job.name}, ${cpus} vCPUs: ${virtualSeconds?.toFixed(1)} s of the guest's time, ` +
      `${(instructions / 1e9).toFixed(2)}e9 instructions, ${wallSeconds?.toFixed(0)} s`,
  );
  for (const line of run.stdout.matchAll(job.shown)) console.log(`     ${line[0].trim()}`);
  for (const line of found) console.log(`     ${line}`);
  return found.length === 0;
}

async function main(): Promise<number> {
  const directory = mkdtempSync(join(tmpdir(), 'softvt-soak-'));
  try {
    const { vmlinuz } = await ensureImage(options.kernel);
    const busybox = readFileSync(await ensureBusybox());
    const initrd = join(directory, 'initrd');
    let clean = true;
    for (const what of [seconds > 0 ? 'stress' : '', compiler === 'none' ? '' : 'compile'].filter(
      (name) => name !== '',
    )) {
      const job = what === 'stress' ? await stressJob(busybox) : await compileJob(busybox, join(directory, 'root'));
      writeFileSync(initrd, job.initramfs);
      for (const type of types) clean = (await soak(type, job, vmlinuz, initrd)) && clean;
    }
    return clean ? 0 : 1;
  } catch (error) {
    if (error instanceof SoftvtError) fail(error.line);
    throw error;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

process.exitCode = await main();
