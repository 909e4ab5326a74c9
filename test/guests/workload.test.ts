/** Programs of the distribution compute in guests what they compute on this host. `SOFTVT_GUESTS=all` adds what takes long. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ensureBusybox, ensureImage } from '../../src/cli/images/index.ts';
import { SoftvtError } from '../../src/util/errors.ts';
import { compilation } from '../../tools/soak/compile.ts';
import { CASES, userland } from '../../tools/userland/cases.ts';
import { SIZES } from '../../tools/userland/inputs.ts';
import { type PreparedWorkload, prepareWorkload } from '../../tools/workload/prepare.ts';
import { workloadTroubles } from '../../tools/workload/verdict.ts';
import type { Workload } from '../../tools/workload/workload.ts';
import { softvt } from './softvt.ts';

const MINUTES = 60_000;
const ALL = process.env['SOFTVT_GUESTS'] === 'all';

/** A workload in files, or why it cannot be had: not every host has apt with lists of packages. */
async function prepared(
  directory: string,
  make: () => Workload,
): Promise<(PreparedWorkload & { files: string[] }) | string> {
  try {
    const { vmlinuz } = await ensureImage('6.12-cloud');
    const workload = await prepareWorkload(join(directory, 'root'), readFileSync(await ensureBusybox()), make());
    const initrd = join(directory, 'initrd');
    writeFileSync(initrd, workload.initramfs);
    return {
      ...workload,
      files: ['--kernel', vmlinuz, '--initrd', initrd, '--append', 'console=ttyS0 cryptomgr.notests'],
    };
  } catch (error) {
    if (!(error instanceof SoftvtError) || ALL) throw error;
    return error.line;
  }
}

describe.runIf(process.platform === 'linux' && process.arch === 'x64')('as on this host', () => {
  const quick = ['perl'];
  test.each([
    ['vm', 1, quick, ''],
    ...(ALL
      ? ([
          ['vm', 4, CASES, ''],
          ['td', 1, CASES, ''],
          ['vm', 1, quick, 'off'],
        ] as const)
      : []),
  ] as const)(
    '%s with %i vCPUs: %s',
    async (type, cpus, cases, translator) => {
      const speed = type === 'td';
      const directory = mkdtempSync(join(tmpdir(), 'softvt-userland-'));
      try {
        const work = await prepared(directory, () => userland(cases, SIZES.short, speed));
        if (typeof work === 'string') return console.log(`programs are not tested: ${work}`);
        const limits = ['--memory', '1G', '--cpus', String(cpus), '--timeout', '3000'];
        const { code, stdout } = await softvt(['run', '--type', type, ...work.files, ...limits], {
          environment: { SOFTVT_TRANSLATOR: translator },
        });
        expect(workloadTroubles(stdout, work.expected, speed)).toEqual([]);
        expect(code).toBe(0);
      } finally {
        rmSync(directory, { recursive: true });
      }
    },
    60 * MINUTES,
  );

  test.each(ALL ? ['vm', 'td'] : ['td'])(
    'make -j4 as a %s makes the same files',
    async (type) => {
      const directory = mkdtempSync(join(tmpdir(), 'softvt-compile-'));
      try {
        const work = await prepared(directory, () => compilation('tcc', 4));
        if (typeof work === 'string') return console.log(`compiling is not tested: ${work}`);
        const limits = ['--memory', '512M', '--cpus', '4', '--timeout', '3000'];
        const { code, stdout } = await softvt(['run', '--type', type, ...work.files, ...limits]);
        expect(workloadTroubles(stdout, work.expected, false)).toEqual([]);
        expect(code).toBe(0);
      } finally {
        rmSync(directory, { recursive: true });
      }
    },
    60 * MINUTES,
  );
});
