/** Runs the `softvt` command as a user does, and gets guest images for tests. */

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  buildInitramfs,
  collectModules,
  ensureBusybox,
  ensureFile,
  ensureImage,
  type InitMode,
} from '../../src/cli/images/index.ts';
import { initScript } from '../../src/cli/images/initramfs.ts';
import { SoftvtError } from '../../src/util/errors.ts';

/** The line of init behind which modules are loaded. */
const USERSPACE = /^echo '.*'\n/m;

/** What a run came to. */
export interface CommandResult {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The object of `--json`. */
export interface JsonReport {
  readonly reason: string;
  readonly instructions: number;
  readonly virtualSeconds: number;
  readonly stateHash: string;
  readonly exits: Readonly<Record<string, number>>;
  readonly seamcalls: Readonly<Record<string, number>>;
  readonly tdcalls: Readonly<Record<string, number>>;
  /** Of TDs only. */
  readonly mrtd?: string;
  readonly rtmr?: readonly string[];
}

/** What goes on around the command while it runs. */
export interface Interaction {
  /** Variables beside those of the test's own environment. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Called with all of stdout so far whenever some comes; may type, end the input, or interrupt the command. */
  readonly onOutput?: (stdout: string, type: (text: string) => void, end: () => void, interrupt: () => void) => void;
}

/** Runs `softvt` with `args`; stdin is empty unless something is typed. */
export function softvt(
  args: readonly string[],
  { onOutput, environment = {} }: Interaction = {},
): Promise<CommandResult> {
  const child = spawn(process.execPath, ['src/cli/main.ts', ...args], {
    stdio: 'pipe',
    env: { ...process.env, ...environment },
  });
  let stdout = '';
  let stderr = '';
  if (onOutput === undefined) child.stdin.end();
  child.stdin.on('error', () => {});
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString('latin1');
    onOutput?.(
      stdout,
      (text) => child.stdin.write(text),
      () => child.stdin.end(),
      () => child.kill('SIGINT'),
    );
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}

/** The report of a run with `--json`: the last line of stderr. */
export function reportOf({ stderr }: CommandResult): JsonReport {
  return JSON.parse(stderr.trimEnd().split('\n').at(-1) ?? '') as JsonReport;
}

/** Files of a guest. */
export interface GuestFiles {
  readonly vmlinuz: string;
  readonly initrd: string;
}

/** Kernel and initramfs by name, or why they cannot be had; in CI that is an error. */
export async function guestFiles(
  name: string,
  init: InitMode = 'poweroff',
  shell = 'busybox',
): Promise<GuestFiles | string> {
  try {
    const { vmlinuz } = await ensureImage(name);
    const busybox = readFileSync(await ensureFile(shell));
    const initrd = join(mkdtempSync(join(tmpdir(), 'softvt-guest-')), 'initrd');
    writeFileSync(initrd, buildInitramfs({ busybox, init }));
    return { vmlinuz, initrd };
  } catch (error) {
    if (!(error instanceof SoftvtError) || process.env['CI'] === 'true') throw error;
    return error.line;
  }
}

/**
 * The same with an initramfs that loads the kernel's own tdx_guest driver, runs `lines` of shell, and prints a TDREPORT.
 */
export async function tdreportFiles(name: string, lines: readonly string[] = []): Promise<GuestFiles | string> {
  const files = await guestFiles(name);
  if (typeof files === 'string') return files;
  const { modules = '' } = await ensureImage(name, { modules: true });
  const busybox = readFileSync(await ensureBusybox());
  const set = await collectModules(modules, ['tdx_guest']);
  const script = initScript('poweroff', set.load, true).replace(USERSPACE, (line) => [line, ...lines, ''].join('\n'));
  writeFileSync(files.initrd, buildInitramfs({ busybox, init: { script }, tdreport: true, ...set }));
  return files;
}
