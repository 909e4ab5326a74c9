/** `softvt run`: runs a guest from files. */

import { basename } from 'node:path';
import { type CommandDef, defineCommand } from 'citty';
import { MOST_DISKS } from '../../vmm/bare/disks.ts';
import { exitCode } from '../../vmm/guest-end.ts';
import type { GuestConfig } from '../../vmm/guest-run.ts';
import { runSession, type SessionEnvironment } from '../guest-session.ts';
import { readInputFile } from '../input-file.ts';
import { checkRunOptions, RUN_ARGS, type RunOptions } from '../run-options.ts';
import { withTrace } from '../trace-file.ts';
import { optionValues, usageError } from '../usage.ts';

/** 2026-01-01 00:00:00 UTC: where the guest's calendar starts when its clock is virtual. */
export const VIRTUAL_EPOCH = 1_767_225_600;

/** Reads the files and gives what the guest is made of. Throws a SoftvtError for a file that cannot be read. */
export function guestConfig(
  options: RunOptions,
  stdinIsTerminal: boolean,
  { disks = [], modules = [] }: { readonly disks?: readonly string[]; readonly modules?: readonly string[] } = {},
): GuestConfig {
  const { type, kernel, firmware, initrd, append, memorySize, cpus, seed, reboot } = options;
  const clock = options.clock ?? (stdinIsTerminal ? 'real' : 'virtual');
  return {
    type,
    kernel: kernel === '' ? new Uint8Array(0) : readInputFile('kernel', kernel),
    kernelName: basename(kernel),
    ...(firmware === undefined
      ? {}
      : { firmware: readInputFile('firmware', firmware), firmwareName: basename(firmware) }),
    ...(disks.length === 0 ? {} : { disks: disks.map(readDisk) }),
    ...(modules.length === 0 ? {} : { modules: modules.map(readModule) }),
    ...(initrd === undefined ? {} : { initrd: readInputFile('initrd', initrd), initrdName: basename(initrd) }),
    commandLine: append,
    memorySize,
    cpus,
    seed,
    clock,
    epochSeconds: clock === 'real' ? Math.floor(Date.now() / 1000) : VIRTUAL_EPOCH,
    reboot,
  };
}

/** A module: what stands behind the file's name is the module's own command line. */
function readModule(given: string): { data: Uint8Array; text: string } {
  const [path = '', ...words] = given.trim().split(' ');
  return { data: readInputFile('module', path), text: [basename(path), ...words].join(' ') };
}

const SECTOR_SIZE = 512;

/** A disk's content, filled up to whole sectors. */
function readDisk(path: string): Uint8Array {
  const file = readInputFile('disk', path);
  const disk = new Uint8Array(Math.max(1, Math.ceil(file.length / SECTOR_SIZE)) * SECTOR_SIZE);
  disk.set(file);
  return disk;
}

/** The command; `exit` receives its exit code. */
export function runCommandWith(
  environment: SessionEnvironment,
  exit: (code: number) => void,
): CommandDef<typeof RUN_ARGS> {
  return defineCommand({
    meta: { name: 'run', description: 'run a kernel as a VM, as a TD, or bare' },
    args: RUN_ARGS,
    async run({ args, rawArgs }) {
      const options = checkRunOptions(args);
      const disks = optionValues(rawArgs, 'disk');
      if (disks.length > MOST_DISKS) throw usageError(`there are at most ${MOST_DISKS} disks`);
      const modules = optionValues(rawArgs, 'module');
      const config = guestConfig(options, environment.process.stdin.isTTY === true, { disks, modules });
      const { timeout, json, trace } = options;
      const report = await withTrace(trace, () => runSession(environment, config, { timeout, json }));
      exit(exitCode(report.end));
    },
  });
}
