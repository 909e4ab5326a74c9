/** `softvt demo` (npm start): boots a distribution kernel as a VM and says what that took. */

import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { type CommandDef, defineCommand } from 'citty';
import { SoftvtError } from '../../util/errors.ts';
import { exitCode } from '../../vmm/guest-end.ts';
import type { GuestConfig } from '../../vmm/guest-run.ts';
import { builtinGuest } from '../builtin-guest.ts';
import { runSession, type SessionEnvironment } from '../guest-session.ts';
import { summaryLines } from '../report.ts';
import { VIRTUAL_EPOCH } from './run.ts';

const IMAGE = '6.1-cloud';
const MEMORY = 256 * 2 ** 20;

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
    const { vmlinuz } = await ensureImage(IMAGE, { progress: writer.listener });
    const busybox = await ensureBusybox({ progress: writer.listener });
    return {
      kernel: readFileSync(vmlinuz),
      kernelName: basename(vmlinuz),
      initrd: buildInitramfs({ busybox: readFileSync(busybox), init: 'poweroff' }),
      initrdName: 'busybox initramfs',
    };
  } finally {
    writer.end();
  }
};

/** The images as a guest, or the built-in one, with a line that says why. */
async function demoGuest(images: DemoImages, say: (line: string) => void): Promise<GuestConfig> {
  try {
    return { ...DEFAULTS, ...(await images()), commandLine: 'console=ttyS0' };
  } catch (error) {
    if (!(error instanceof SoftvtError)) throw error;
    say(`no kernel to boot: ${error.line}; running the built-in guest instead`);
    return { ...DEFAULTS, kernel: builtinGuest(), kernelName: 'the built-in guest', commandLine: '' };
  }
}

/** The command; `exit` receives its exit code. */
export function demoCommandWith(
  environment: SessionEnvironment,
  images: DemoImages,
  exit: (code: number) => void,
): CommandDef {
  return defineCommand({
    meta: { name: 'demo', description: 'boot a distribution kernel as a VM (npm start)' },
    async run() {
      const say = (line: string): void => {
        environment.process.stderr.write(`softvt: ${line}\n`);
      };
      const config = await demoGuest(images, say);
      say(`booting ${config.kernelName} as a VM with 256M on the emulated machine`);
      const report = await runSession(environment, config, { quiet: true, status: true });
      for (const line of summaryLines(report)) say(line);
      exit(exitCode(report.end));
    },
  });
}
