/** Software that nobody here wrote runs on the bare machine. `SOFTVT_GUESTS=all` adds what takes long. */

import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import {
  buildInitramfs,
  collectModules,
  ensureBusybox,
  ensureFile,
  ensureImage,
  USERSPACE_MARKER,
} from '../../src/cli/images/index.ts';
import { SoftvtError } from '../../src/util/errors.ts';
import { kvmProgram } from './kvm-program.ts';
import { type GuestFiles, guestFiles, reportOf, softvt } from './softvt.ts';

const MINUTES = 60_000;
const ALL = process.env['SOFTVT_GUESTS'] === 'all';
const QUICK = 'console=ttyS0 cryptomgr.notests';

const command = ({ vmlinuz, initrd }: GuestFiles, append: string, cpus = 1): string[] =>
  ['run', '--type', 'bare', '--kernel', vmlinuz, '--initrd', initrd, '--append', append].concat([
    '--cpus',
    String(cpus),
    '--timeout',
    '600',
    '--json',
  ]);

/** Paths of images, or why they cannot be had; in CI that is an error. */
async function files(...names: string[]): Promise<string[] | string> {
  try {
    const paths: string[] = [];
    for (const name of names) paths.push(await ensureFile(name));
    return paths;
  } catch (error) {
    if (!(error instanceof SoftvtError) || process.env['CI'] === 'true') throw error;
    return error.line;
  }
}

describe('Linux', () => {
  test.each(ALL ? ['6.1-cloud', '6.12-cloud', '7.2-cloud'] : ['6.12-cloud'])(
    '%s boots to userspace and powers off with exit code 0',
    async (name) => {
      const images = await guestFiles(name);
      if (typeof images === 'string') return console.log(`${name} is not tested: ${images}`);
      const result = await softvt(command(images, ALL ? 'console=ttyS0' : QUICK));
      expect(result.stdout).toContain(USERSPACE_MARKER);
      expect(result.code).toBe(0);
      expect(reportOf(result)).toMatchObject({ reason: 'power-off', exits: {} });
    },
    10 * MINUTES,
  );

  test(
    'with --cpus 4 nproc says so, and the same run is the same run',
    async ({ skip }) => {
      const images = await guestFiles('6.1-cloud');
      if (typeof images === 'string') return skip(images);
      const [one, two] = await Promise.all([softvt(command(images, QUICK, 4)), softvt(command(images, QUICK, 4))]);
      expect(one.stdout).toContain('softvt: nproc 4');
      expect(one.code).toBe(0);
      const { instructions, stateHash, virtualSeconds } = reportOf(one);
      expect(reportOf(two)).toMatchObject({ instructions, stateHash, virtualSeconds });
      expect(two.stdout).toBe(one.stdout);
    },
    10 * MINUTES,
  );

  test(
    'loads its own kvm_intel, which runs a guest on the machine’s VT-x',
    async ({ skip }) => {
      const images = await guestFiles('6.1-cloud');
      if (typeof images === 'string') return skip(images);
      const { modules = '' } = await ensureImage('6.1-cloud', { modules: true });
      const set = await collectModules(modules, ['kvm_intel']);
      const script = [
        '#!/bin/busybox sh',
        'busybox mount -t proc proc /proc',
        'busybox mount -t sysfs sys /sys',
        'busybox mount -t devtmpfs dev /dev',
        ...set.load.map((path) => `busybox insmod /${path}`),
        'echo "ept $(busybox cat /sys/module/kvm_intel/parameters/ept)"',
        'echo "apicv $(busybox cat /sys/module/kvm_intel/parameters/enable_apicv)"',
        'echo "2 + 2 = $(/bin/hello-kvm), status $?"',
        'busybox poweroff -f',
        '',
      ].join('\n');
      const program = { path: 'bin/hello-kvm', data: kvmProgram(), mode: 0o755 };
      const busybox = readFileSync(await ensureBusybox());
      writeFileSync(images.initrd, buildInitramfs({ busybox, init: { script }, files: [...set.files, program] }));
      const result = await softvt(command(images, QUICK));
      expect(result.stdout).toContain('ept Y\r\n');
      expect(result.stdout).toContain('apicv Y\r\n');
      expect(result.stdout).toContain('2 + 2 = 4, status 0\r\n');
      expect(result.code).toBe(0);
      expect(reportOf(result).exits).toMatchObject({ IO_INSTRUCTION: 2, HLT: 1 });
    },
    10 * MINUTES,
  );
});

describe('firmware', () => {
  const bare = (bios: string, ...more: string[]): string[] =>
    ['run', '--type', 'bare', '--firmware', bios, '--timeout', '600', '--json'].concat(more);

  test(
    'SeaBIOS finds the machine and tries to boot',
    async ({ skip }) => {
      const images = await files('seabios');
      if (typeof images === 'string') return skip(images);
      const result = await softvt(bare(images[0]!, '--cpus', '4'));
      expect(result.stderr).toContain('Found 4 cpu(s) max supported 4 cpu(s)');
      expect(result.stdout).toContain('SeaBIOS (version');
      expect(result.stdout).toContain('No bootable device.');
      // It tries again after a minute of the guest's time.
      expect(reportOf(result).reason).toBe('reset');
      expect(reportOf(result).virtualSeconds).toBeGreaterThan(60);
      expect(result.code).toBe(1);
    },
    5 * MINUTES,
  );

  test(
    'GRUB shows its menu, and its prompt when asked',
    async ({ skip }) => {
      const images = await files('seabios', 'grub');
      if (typeof images === 'string') return skip(images);
      let stage = 0;
      const result = await softvt(bare(images[0]!, '--disk', images[1]!, '--clock', 'real'), {
        onOutput: (stdout, type, _, interrupt) => {
          if (stage === 0 && stdout.includes('for a command-line')) {
            stage = 1;
            type('c');
          } else if (stage === 1 && stdout.includes('grub>')) {
            stage = 2;
            interrupt();
          }
        },
      });
      expect(stage).toBe(2);
      expect(result.stdout).toContain('GNU GRUB');
      expect(reportOf(result).reason).toBe('signal');
    },
    5 * MINUTES,
  );

  test(
    'iPXE starts from its disk image, and shows its prompt when asked',
    async ({ skip }) => {
      const images = await files('seabios', 'ipxe');
      if (typeof images === 'string') return skip(images);
      let stage = 0;
      const result = await softvt(bare(images[0]!, '--disk', images[1]!, '--clock', 'real'), {
        onOutput: (stdout, type, _, interrupt) => {
          if (stage === 0 && stdout.includes('Press Ctrl-B for the iPXE command line')) {
            stage = 1;
            type('\x02');
          } else if (stage === 1 && stdout.includes('iPXE> ')) {
            stage = 2;
            interrupt();
          }
        },
      });
      expect(stage).toBe(2);
      expect(result.stdout).toContain('Open Source Network Boot Firmware');
      expect(reportOf(result).reason).toBe('signal');
    },
    10 * MINUTES,
  );
});

describe('without firmware', () => {
  test(
    'Xen asks for a dom0 where none is; Debian’s kernel as dom0 comes to userspace on both processors',
    async ({ skip }) => {
      const images = await files('xen');
      if (typeof images === 'string') return skip(images);
      const xen = join(mkdtempSync(join(tmpdir(), 'softvt-xen-')), 'xen');
      writeFileSync(xen, gunzipSync(readFileSync(images[0]!)));
      // Its BIOS calls would find no BIOS.
      const append = 'com1=115200,8n1 console=com1 no-real-mode';
      const run = ['run', '--type', 'bare', '--kernel', xen, '--append', append, '--timeout', '600', '--cpus', '2'];
      const result = await softvt(run);
      expect(result.stdout).toMatch(/Xen version 4\.17/);
      expect(result.stdout).toContain('dom0 kernel not specified');
      expect(result.code).toBe(1);

      const kernel = await guestFiles('6.1-cloud');
      if (typeof kernel === 'string') return;
      // This kernel has no driver for Xen's console; its messages go there by hypercall.
      const script = [
        '#!/bin/busybox sh',
        'busybox mount -t devtmpfs dev /dev',
        'busybox mount -t proc proc /proc',
        'busybox mount -t sysfs sys /sys',
        'echo "<1>userspace of $(busybox cat /sys/hypervisor/type), nproc $(busybox nproc)" >/dev/kmsg',
        'busybox poweroff -f',
        '',
      ].join('\n');
      writeFileSync(kernel.initrd, buildInitramfs({ busybox: readFileSync(await ensureBusybox()), init: { script } }));
      const dom0 = ['--module', `${kernel.vmlinuz} earlyprintk=xen,keep`, '--module', kernel.initrd];
      const withDom0 = await softvt([...run, ...dom0, '--memory', '512M']);
      expect(withDom0.stdout).toContain('HVM: VMX enabled');
      expect(withDom0.stdout).toContain('Brought up 2 CPUs');
      expect(withDom0.stdout).toContain('userspace of xen, nproc 2\r\n');
      expect(withDom0.stdout).toContain('Hardware Dom0 halted');
      expect(withDom0.stdout).not.toContain('Hardware Dom0 crashed');
      expect(withDom0.code).toBe(1);
    },
    20 * MINUTES,
  );

  test.runIf(ALL)(
    'memtest86+ makes a full pass over 64 MiB on two processors, without an error',
    async ({ skip }) => {
      const images = await files('memtest86+');
      if (typeof images === 'string') return skip(images);
      const append = 'console=ttyS0,115200 nopause';
      const run = ['run', '--type', 'bare', '--kernel', images[0]!, '--append', append, '--timeout', '1500'];
      let passed = false;
      const result = await softvt([...run, '--memory', '64M', '--cpus', '2'], {
        onOutput: (stdout, _, __, interrupt) => {
          if (passed || !/Pass: +1 +Errors: 0/.test(stdout)) return;
          passed = true;
          interrupt();
        },
      });
      expect(passed).toBe(true);
      expect(result.stdout).toContain('SMP: 2T (PAR)');
    },
    30 * MINUTES,
  );
});
