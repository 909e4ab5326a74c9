/** A minute of the guest's time with stressors on four vCPUs. `npm run soak` is the same for longer, and without pauses. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { buildInitramfs, ensureBusybox, ensureImage } from '../../src/cli/images/index.ts';
import { SoftvtError } from '../../src/util/errors.ts';
import { CALM_STRESSORS, stressScript, stressTroubles } from '../../tools/soak/stress.ts';
import { stressFiles } from '../../tools/soak/stress-files.ts';
import { reportOf, softvt } from './softvt.ts';

const SECONDS = 60;

/** Arguments that name kernel and initramfs, or why they cannot be had: not every host has apt with lists of packages. */
async function stressed(directory: string): Promise<string[] | string> {
  try {
    const { vmlinuz } = await ensureImage('6.12-cloud');
    const busybox = readFileSync(await ensureBusybox());
    const init = { script: stressScript(CALM_STRESSORS, SECONDS) };
    const initrd = join(directory, 'initrd');
    writeFileSync(initrd, buildInitramfs({ busybox, init, files: await stressFiles() }));
    return ['--kernel', vmlinuz, '--initrd', initrd, '--append', 'console=ttyS0 cryptomgr.notests'];
  } catch (error) {
    if (!(error instanceof SoftvtError) || process.env['SOFTVT_GUESTS'] === 'all') throw error;
    return error.line;
  }
}

test.each(['vm', 'td'])(
  'CPU, memory, timer and clock stressors run clean in a %s',
  async (type) => {
    const directory = mkdtempSync(join(tmpdir(), 'softvt-stress-'));
    try {
      const files = await stressed(directory);
      if (typeof files === 'string') return console.log(`stressors are not tested: ${files}`);
      const limits = ['--memory', '512M', '--cpus', '4', '--timeout', '1500', '--json'];
      const result = await softvt(['run', '--type', type, ...files, ...limits]);
      expect(stressTroubles(result.stdout)).toEqual([]);
      expect(reportOf(result).virtualSeconds).toBeGreaterThan(SECONDS);
      expect(result.code).toBe(0);
    } finally {
      rmSync(directory, { recursive: true });
    }
  },
  30 * 60_000,
);
