/** Unmodified distribution kernels boot as TDs. `SOFTVT_GUESTS=all` adds the suite that moves. */

import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { buildInitramfs, ensureBusybox, USERSPACE_MARKER } from '../../src/cli/images/index.ts';
import { Machine, startGuests, verifyReport } from '../../src/index.ts';
import { type GuestFiles, guestFiles, reportOf, softvt, tdreportFiles } from './softvt.ts';

const MINUTES = 60_000;
const KERNELS = ['6.12-cloud', ...(process.env['SOFTVT_GUESTS'] === 'all' ? ['7.2-cloud'] : [])];
/** Without the kernel's self tests of cryptography, which are more than half of a boot. */
const QUICK = 'console=ttyS0 cryptomgr.notests';

/** What measures or runs these files. */
const guest = ({ vmlinuz, initrd }: GuestFiles, append: string, cpus = 1): string[] =>
  ['--kernel', vmlinuz, '--initrd', initrd, '--append', append].concat(['--memory', '256M', '--cpus', String(cpus)]);
const command = (files: GuestFiles, append: string = 'console=ttyS0', cpus = 1): string[] => [
  'run',
  '--type',
  'td',
  ...guest(files, append, cpus),
  '--timeout',
  '600',
  '--json',
];

describe.each(KERNELS)('%s as a TD', (name) => {
  let files: GuestFiles | string;
  beforeAll(async () => {
    files = await guestFiles(name);
    if (typeof files === 'string') console.log(`${name} is not tested as a TD: ${files}`);
  }, 5 * MINUTES);

  test(
    'boots to userspace and powers off with exit code 0; the kernel says that TDX is active',
    async ({ skip }) => {
      if (typeof files === 'string') return skip(files);
      const result = await softvt(command(files));
      expect(result.stdout).toContain('Memory Encryption Features active: Intel TDX');
      expect(result.stdout).toContain(USERSPACE_MARKER);
      expect(result.code).toBe(0);
      const report = reportOf(result);
      expect(report.reason).toBe('power-off');
      expect(report.seamcalls['TDH.VP.ENTER']).toBeGreaterThan(1000);
      expect(report.tdcalls['TDG.MEM.PAGE.ACCEPT']).toBeGreaterThan(50_000);
    },
    10 * MINUTES,
  );

  test(
    'with --cpus 4 nproc says so, and the same run is the same run',
    async ({ skip }) => {
      if (typeof files === 'string') return skip(files);
      const args = command(files, QUICK, 4);
      const [one, two] = await Promise.all([softvt(args), softvt(args)]);
      expect(one.stdout).toContain('softvt: nproc 4');
      expect(one.code).toBe(0);
      const { instructions, stateHash, seamcalls, tdcalls } = reportOf(one);
      expect(reportOf(two)).toMatchObject({ instructions, stateHash, seamcalls, tdcalls });
      expect(two.stdout).toBe(one.stdout);
    },
    10 * MINUTES,
  );

  test(
    'its TDREPORT, read by the distribution’s own driver, has the MRTD that softvt measure computes',
    async ({ skip }) => {
      const withReport = await tdreportFiles(name);
      if (typeof withReport === 'string') return skip(withReport);
      const result = await softvt(command(withReport, QUICK));
      expect(result.code).toBe(0);
      const [, hex = ''] = /^softvt: tdreport ([0-9a-f]{2048})\r?$/m.exec(result.stdout) ?? [];
      const report = Buffer.from(hex, 'hex');
      const at = (offset: number, length: number): string => report.subarray(offset, offset + length).toString('hex');
      const measured = await softvt(['measure', ...guest(withReport, QUICK), '--json']);
      const { mrtd } = JSON.parse(measured.stdout) as { mrtd: string };
      expect(at(528, 48)).toBe(mrtd);
      expect(reportOf(result).mrtd).toBe(mrtd);
      // REPORTDATA, and the attributes: nothing but SEPT_VE_DISABLE.
      expect(report.subarray(128, 134).toString()).toBe('softvt');
      expect(report.readBigUInt64LE(512)).toBe(1n << 28n);
      expect(report.readBigUInt64LE(520) & 3n).toBe(3n);
      expect(reportOf(result).rtmr).toEqual([0, 1, 2, 3].map((n) => at(720 + 48 * n, 48)));
      // The platform that signed it follows from the seed.
      const platform = new Machine({ processors: 1, ramSize: 1 << 20, profile: 'tdx-host', seed: 0 });
      expect(verifyReport(platform, report)).toBe(true);
      for (const byte of [0, 130, 240, 300, 540]) {
        const forged = Uint8Array.from(report);
        forged[byte]! ^= 1;
        expect(verifyReport(platform, forged)).toBe(false);
      }
    },
    10 * MINUTES,
  );
});

describe('6.12-cloud as a TD', () => {
  test(
    'gives a processor back to the td-shim and wakes it up again; its ACPI tables stay as they were measured',
    async ({ skip }) => {
      const files = await guestFiles('6.12-cloud');
      if (typeof files === 'string') return skip(files);
      const online = '/sys/devices/system/cpu/cpu1/online';
      const script = [
        '#!/bin/busybox sh',
        'export PATH=/bin',
        'busybox mount -t proc proc /proc',
        'busybox mount -t sysfs sys /sys',
        `for n in 1 2; do echo 0 >${online}; busybox nproc; echo 1 >${online}; busybox nproc; done`,
        'echo "ran on 1: $(busybox taskset 2 busybox cut -d " " -f 39 /proc/self/stat)"',
        'echo "madt $(busybox od -An -v -tx1 /sys/firmware/acpi/tables/APIC | busybox tr -d " \\n")"',
        'busybox poweroff -f',
        '',
      ].join('\n');
      writeFileSync(files.initrd, buildInitramfs({ busybox: readFileSync(await ensureBusybox()), init: { script } }));
      const { code, stdout } = await softvt(command(files, QUICK, 2));
      expect(stdout.match(/^[12]\r?$/gm)?.map(Number)).toEqual([1, 2, 1, 2]);
      expect(stdout).toContain('ran on 1: 1\r\n');
      expect(stdout).not.toContain('Failed to hand over');
      const [, madt = ''] = /^madt ([0-9a-f]+)\r?$/m.exec(stdout) ?? [];
      const bytes = Buffer.from(madt, 'hex');
      expect(bytes.length).toBeGreaterThan(44);
      expect(bytes.reduce((sum, byte) => (sum + byte) & 255, 0)).toBe(0);
      expect(code).toBe(0);
    },
    10 * MINUTES,
  );

  test(
    'without a root file system it panics, which panic=-1 turns into a reset and exit code 1',
    async ({ skip }) => {
      const files = await guestFiles('6.12-cloud');
      if (typeof files === 'string') return skip(files);
      const args = ['run', '--type', 'td', '--kernel', files.vmlinuz, '--append', `${QUICK} panic=-1`];
      const { code, stdout, stderr } = await softvt([...args, '--timeout', '600']);
      expect(stdout).toContain('Kernel panic');
      expect(stderr).toBe('softvt: the guest reset itself by port 0xcf9\n');
      expect(code).toBe(1);
    },
    10 * MINUTES,
  );

  test(
    'has an interactive console: a shell runs what is typed and pasted',
    async ({ skip }) => {
      const shell = await guestFiles('6.12-cloud', 'shell');
      if (typeof shell === 'string') return skip(shell);
      const numbers = Array.from({ length: 50 }, (_, n) => n);
      // The terminal may echo what is typed ahead into what a command prints, so the last command prints it all.
      const paste = `${numbers.map((n) => `echo line-$((${n} * 7)) >> /out\n`).join('')}cat /out\n`;
      let stage = 0;
      const result = await softvt(command(shell, QUICK), {
        onOutput: (stdout, type, end) => {
          if (stage === 0 && stdout.includes('/ # ')) {
            stage = 1;
            type(paste);
          } else if (stage === 1 && stdout.includes(`line-${49 * 7}\r\n`)) {
            stage = 2;
            type('exit\n');
            end();
          }
        },
      });
      expect(result.stdout).toContain(numbers.map((n) => `line-${n * 7}\r\n`).join(''));
      expect(result.code).toBe(0);
    },
    10 * MINUTES,
  );
});

test(
  'two TDs and a VM of the same kernel run side by side on one host, all of them to the end',
  async ({ skip }) => {
    const files = await guestFiles('6.12-cloud');
    if (typeof files === 'string') return skip(files);
    const [kernel, initrd] = [readFileSync(files.vmlinuz), readFileSync(files.initrd)];
    const config = { kernel, kernelName: 'vmlinuz', initrd, commandLine: QUICK, memorySize: 192 << 20, cpus: 1 };
    const more = { seed: 0, clock: 'virtual', epochSeconds: 0, reboot: false } as const;
    const texts = ['', '', ''];
    const guests = (['td', 'vm', 'td'] as const).map((type, n) => ({
      config: { ...config, ...more, type },
      sink: {
        ready: undefined,
        write: (bytes: Uint8Array) => void (texts[n] += Buffer.from(bytes).toString('latin1')),
      },
    }));
    const runs = await startGuests(guests);
    for (const run of runs) run.endInput();
    expect(await Promise.all(runs.map(({ done }) => done))).toEqual(runs.map(() => ({ reason: 'power-off' })));
    for (const text of texts) expect(text).toContain(USERSPACE_MARKER);
    const [one, , two] = runs.map((run) => run.statistics().tdx?.mrtd);
    expect(one).toBe(two);
  },
  10 * MINUTES,
);

/** Kernels with TSM_MEASUREMENTS show measurement registers as files. */
describe.runIf(process.env['SOFTVT_GUESTS'] === 'all')('7.2-cloud as a TD', () => {
  test(
    'extends an RTMR, which shows in the TDREPORT and to whoever emulates the module; a quote is not to be had',
    async ({ skip }) => {
      const data = '0123456789abcdef'.repeat(3);
      const registers = '/sys/devices/virtual/misc/tdx_guest/measurements';
      const reports = '/sys/kernel/config/tsm/report';
      const files = await tdreportFiles('7.2-cloud', [
        `busybox printf ${data} >${registers}/rtmr2:sha384`,
        `busybox mount -t configfs configfs /sys/kernel/config && busybox mkdir ${reports}/one`,
        `busybox dd if=/dev/zero bs=64 count=1 of=${reports}/one/inblob`,
        `busybox cat ${reports}/one/outblob || echo "softvt: no quote"`,
      ]);
      if (typeof files === 'string') return skip(files);
      const result = await softvt(command(files, QUICK));
      expect(result.stdout).toContain('softvt: no quote');
      const [, hex = ''] = /^softvt: tdreport ([0-9a-f]{2048})\r?$/m.exec(result.stdout) ?? [];
      const expected = createHash('sha384').update(new Uint8Array(48)).update(data).digest('hex');
      const at = 2 * (720 + 2 * 48);
      expect(hex.slice(at, at + 96)).toBe(expected);
      expect(reportOf(result).rtmr).toEqual(['0'.repeat(96), '0'.repeat(96), expected, '0'.repeat(96)]);
      expect(result.code).toBe(0);
    },
    10 * MINUTES,
  );
});

describe('6.1-cloud, which has no TDX guest support', () => {
  test(
    'ends as a TD with one clear line and exit code 1',
    async ({ skip }) => {
      const files = await guestFiles('6.1-cloud');
      if (typeof files === 'string') return skip(files);
      const { code, stderr } = await softvt(command(files).filter((word) => word !== '--json'));
      expect(stderr).toMatch(/^softvt: the guest crashed: triple fault on vCPU 0 of a TD[^\n]*\n$/);
      expect(code).toBe(1);
    },
    10 * MINUTES,
  );
});

describe('input that no TD can be made of', () => {
  test.each([
    ['no bzImage', 'this is no kernel', 'not a bzImage'],
    ['nothing', '', 'the kernel file is empty'],
  ])('%s is one line and exit code 2', async (_, content, message) => {
    const kernel = join(mkdtempSync(join(tmpdir(), 'softvt-td-')), 'kernel');
    writeFileSync(kernel, content);
    expect(readFileSync(kernel, 'utf8')).toBe(content);
    const { code, stdout, stderr } = await softvt(['run', '--type', 'td', '--kernel', kernel]);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/^softvt: [^\n]*\n$/);
    expect(stderr).toContain(message);
  });
});
