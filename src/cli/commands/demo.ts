/** `softvt demo` (npm start): a VM and a TD of the same kernel, side by side on one host, and what tells them apart. */

import { readFileSync } from 'node:fs';
import { type CommandDef, defineCommand } from 'citty';
import { SoftvtError } from '../../util/errors.ts';
import { exitCode } from '../../vmm/guest-end.ts';
import type { GuestConfig } from '../../vmm/guest-run.ts';
import { builtinGuest } from '../builtin-guest.ts';
import { differenceLines } from '../difference.ts';
import { runSession, type SessionEnvironment } from '../guest-session.ts';
import { runPair } from '../pair-session.ts';
import { summaryLines } from '../report.ts';
import { VIRTUAL_EPOCH } from './run.ts';

const IMAGE = '6.12-cloud';
const MEMORY = 256 * 2 ** 20;
/** The kernel's self tests of cryptography are most of a boot, and the same in both guests. */
const COMMAND_LINE = 'console=ttyS0 cryptomgr.notests';

const DEFAULTS = {
  memorySize: MEMORY,
  cpus: 1,
  seed: 0,
  clock: 'virtual',
  epochSeconds: VIRTUAL_EPOCH,
  reboot: false,
} as const;

/** Where the demo gets its kernel and its initramfs from. */
export type DemoImages = () => Promise<Pick<GuestConfig, 'kernel' | 'kernelName' | 'initrd' | 'initrdName'>>;

/** The distribution's kernel and a busybox initramfs that powers off, with progress on stderr. */
export const fetchDemoImages: DemoImages = async () => {
  const { buildInitramfs, ensureBusybox, ensureImage, progressWriter } = await import('../images/index.ts');
  const writer = progressWriter(process.stderr);
  try {
    const { vmlinuz, version } = await ensureImage(IMAGE, { progress: writer.listener });
    const busybox = await ensureBusybox({ progress: writer.listener });
    return {
      kernel: readFileSync(vmlinuz),
      kernelName: `Linux ${version}`,
      initrd: buildInitramfs({ busybox: readFileSync(busybox), init: 'poweroff' }),
      initrdName: 'busybox initramfs',
    };
  } finally {
    writer.end();
  }
};

/** The built-in guest, which is a VM only, with a line that says why. Gives the exit code. */
async function runBuiltin(environment: SessionEnvironment, why: string, say: (line: string) => void): Promise<number> {
  say(`no kernel to boot: ${why}; running the built-in guest as a VM instead`);
  const config = { ...DEFAULTS, kernel: builtinGuest(), kernelName: 'the built-in guest', commandLine: '' };
  const report = await runSession(environment, config, { quiet: true, status: true });
  for (const line of summaryLines(report)) say(line);
  return exitCode(report.end);
}

/** Both guests to their ends, and the summary. Gives the exit code: that of the first guest that failed. */
async function runBoth(
  environment: SessionEnvironment,
  images: Awaited<ReturnType<DemoImages>>,
  say: (line: string) => void,
): Promise<number> {
  const config = { ...DEFAULTS, ...images, commandLine: COMMAND_LINE };
  say(`one emulated host; booting ${config.kernelName} on it twice, as a VM and as a TD, with 256M each`);
  const [vm, td] = await runPair(environment, [
    { label: 'vm', config: { ...config, type: 'vm' } },
    { label: 'td', config: { ...config, type: 'td' } },
  ]);
  for (const line of differenceLines(vm, td)) say(line);
  return exitCode(vm.report.end) || exitCode(td.report.end);
}

/** The command; `exit` receives its exit code. */
export function demoCommandWith(
  environment: SessionEnvironment,
  images: DemoImages,
  exit: (code: number) => void,
): CommandDef {
  return defineCommand({
    meta: { name: 'demo', description: 'boot a distribution kernel as a VM and as a TD, side by side (npm start)' },
    async run() {
      const say = (line: string): void => {
        environment.process.stderr.write(`softvt: ${line}\n`);
      };
      let found: Awaited<ReturnType<DemoImages>>;
      try {
        found = await images();
      } catch (error) {
        if (!(error instanceof SoftvtError)) throw error;
        exit(await runBuiltin(environment, error.line, say));
        return;
      }
      exit(await runBoth(environment, found, say));
    },
  });
}
