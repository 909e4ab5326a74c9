/** Unmodified distribution kernels boot as VMs. `SOFTVT_GUESTS=all` adds the suite that moves, and a 32-bit kernel. */

import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { USERSPACE_MARKER } from '../../src/cli/images/index.ts';
import { type GuestFiles, guestFiles, reportOf, softvt } from './softvt.ts';
import { extractVmlinux } from './vmlinux.ts';

const MINUTES = 60_000;
const ALL = process.env['SOFTVT_GUESTS'] === 'all';
const KERNELS = ['6.1-cloud', '6.12-cloud', ...(ALL ? ['7.2-cloud'] : [])];

/** The command line of the contract. */
const command = ({ vmlinuz, initrd }: GuestFiles, cpus = 1, append = 'console=ttyS0'): string[] =>
  ['run', '--type', 'vm', '--kernel', vmlinuz, '--initrd', initrd, '--append', append].concat([
    '--memory',
    '256M',
    '--cpus',
    String(cpus),
    '--timeout',
    '600',
    '--json',
  ]);

/** Without the kernel's self tests of cryptography, which are more than half of a boot. */
const QUICK = 'console=ttyS0 cryptomgr.notests';

describe.each(KERNELS)('%s', (name) => {
  let files: GuestFiles | string;
  beforeAll(async () => {
    files = await guestFiles(name);
    if (typeof files === 'string') console.log(`${name} is not tested: ${files}`);
  }, 5 * MINUTES);

  test(
    'boots to userspace and powers off with exit code 0',
    async ({ skip }) => {
      if (typeof files === 'string') return skip(files);
      const result = await softvt(command(files));
      expect(result.stdout).toContain(USERSPACE_MARKER);
      expect(result.stdout).toContain('softvt: nproc 1');
      expect(result.code).toBe(0);
      expect(reportOf(result).reason).toBe('power-off');
    },
    10 * MINUTES,
  );
});

describe('6.1-i386', () => {
  test.runIf(ALL)(
    'a 32-bit kernel boots to 32-bit userspace, the same with and without translation',
    async ({ skip }) => {
      const files = await guestFiles('6.1-i386', 'poweroff', 'busybox-i386');
      if (typeof files === 'string') return skip(files);
      const [on, off] = await Promise.all(
        ['on', 'off'].map((translator) =>
          softvt(command(files, 1, QUICK), { environment: { SOFTVT_TRANSLATOR: translator } }),
        ),
      );
      expect(on!.stdout).toContain(USERSPACE_MARKER);
      expect(on!.code).toBe(0);
      const { instructions, stateHash, exits } = reportOf(on!);
      expect(reportOf(off!)).toMatchObject({ instructions, stateHash, exits });
      expect(off!.stdout).toBe(on!.stdout);
    },
    10 * MINUTES,
  );
});

describe('6.1-cloud', () => {
  let files: GuestFiles | string;
  beforeAll(async () => {
    files = await guestFiles('6.1-cloud');
  }, 5 * MINUTES);

  test(
    'with --cpus 4 nproc says so, and the same run is the same run',
    async ({ skip }) => {
      if (typeof files === 'string') return skip(files);
      const args = [...command(files, 4), '--seed', '7'];
      const [one, two] = await Promise.all([softvt(args), softvt(args)]);
      expect(one.stdout).toContain('softvt: nproc 4');
      expect(one.code).toBe(0);
      const { instructions, stateHash, virtualSeconds, exits } = reportOf(one);
      expect(reportOf(two)).toMatchObject({ instructions, stateHash, virtualSeconds, exits });
      expect(two.stdout).toBe(one.stdout);
    },
    10 * MINUTES,
  );

  test(
    'the ELF kernel inside boots by its PVH note',
    async ({ skip }) => {
      if (typeof files === 'string') return skip(files);
      const vmlinux = join(mkdtempSync(join(tmpdir(), 'softvt-pvh-')), 'vmlinux');
      writeFileSync(vmlinux, extractVmlinux(readFileSync(files.vmlinuz)));
      const result = await softvt(command({ ...files, vmlinuz: vmlinux }, 1, QUICK));
      expect(result.stdout).toContain(USERSPACE_MARKER);
      expect(result.code).toBe(0);
    },
    10 * MINUTES,
  );

  test(
    'without a root file system it panics, which panic=-1 turns into a reset and exit code 1',
    async ({ skip }) => {
      if (typeof files === 'string') return skip(files);
      const args = ['run', '--kernel', files.vmlinuz, '--append', `${QUICK} panic=-1`, '--timeout', '600'];
      const { code, stdout, stderr } = await softvt(args);
      expect(stdout).toContain('Kernel panic');
      expect(stderr).toMatch(/^softvt: the guest reset itself by [^\n]*\n$/);
      expect(code).toBe(1);
    },
    10 * MINUTES,
  );

  test(
    'the console is interactive: a shell runs what is typed and pasted',
    async ({ skip }) => {
      const shell = await guestFiles('6.1-cloud', 'shell');
      if (typeof shell === 'string') return skip(shell);
      const paste = Array.from({ length: 200 }, (_, n) => `echo line-$((${n} * 7))\n`).join('');
      let stage = 0;
      const result = await softvt(command(shell, 1, QUICK), {
        onOutput: (stdout, type, end) => {
          if (stage === 0 && stdout.includes('/ # ')) {
            stage = 1;
            type(paste);
          } else if (stage === 1 && stdout.includes(`line-${199 * 7}\r\n`)) {
            stage = 2;
            type('exit\n');
            end();
          }
        },
      });
      for (let n = 0; n < 200; n++) expect(result.stdout).toContain(`\nline-${n * 7}\r\n`);
      expect(result.code).toBe(0);
    },
    10 * MINUTES,
  );
});
