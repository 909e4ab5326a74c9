/** Inputs that cannot be a guest, and guests that go wrong: one clear line each, the contract's exit code, no stack. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { makeBzImage, makeMultiboot } from '../../src/vmm/loaders/testing.ts';
import { reportOf, softvt } from './softvt.ts';

const directory = mkdtempSync(join(tmpdir(), 'softvt-bad-'));
afterAll(() => rmSync(directory, { recursive: true }));

function file(name: string, bytes: Uint8Array | string): string {
  const path = join(directory, name);
  writeFileSync(path, bytes);
  return path;
}

describe('inputs', () => {
  const cases: [string, string[], string][] = [
    ['missing kernel', ['--kernel', join(directory, 'nothing')], 'there is no such file'],
    ['empty kernel', ['--kernel', file('empty', '')], 'the kernel file is empty'],
    ['a text file', ['--kernel', file('text', 'hello '.repeat(1000))], 'not a kernel'],
    ['truncated kernel', ['--kernel', file('cut', makeBzImage().subarray(0, 1500))], 'truncated'],
    [
      'corrupt kernel',
      [
        '--kernel',
        file(
          'bad',
          makeBzImage((_, bytes) => bytes.fill(7, 0x500)),
        ),
      ],
      'corrupt',
    ],
    ['too little memory', ['--kernel', file('ok', makeBzImage()), '--memory', '16M'], 'too little for this kernel'],
    [
      'initrd larger than memory',
      ['--kernel', file('ok2', makeBzImage()), '--memory', '32M', '--initrd', file('big', new Uint8Array(33 << 20))],
      'too little for an initrd',
    ],
  ];
  test.each(cases)('%s', async (_, args, message) => {
    const { code, stdout, stderr } = await softvt(['run', ...args]);
    expect(stderr).toMatch(/^softvt: [^\n]*\n$/);
    expect(stderr).toContain(message);
    expect(stdout).toBe('');
    expect(code).toBe(2);
  });
});

describe('guests', () => {
  const guest = (name: string, ...code: number[]): string => file(name, makeMultiboot(Uint8Array.from(code)));
  /** mov dx, port; mov al, value; out dx, al */
  const out = (port: number, value: number): number[] => [0x66, 0xba, port & 0xff, port >> 8, 0xb0, value, 0xee];
  const SPIN = [0xeb, 0xfe];
  const cases: [string, string, string[], number, string, string][] = [
    ['triple fault', guest('triple', 0x0f, 0x0b), [], 1, 'triple-fault', 'triple fault on vCPU 0'],
    ['reset', guest('reset', ...out(0xcf9, 0x0e), ...SPIN), [], 1, 'reset', 'reset itself by port 0xcf9'],
    ['panic device', guest('panic', ...out(0x505, 1), ...SPIN), [], 1, 'panic', 'the guest panicked'],
    ['halt for good', guest('halt', 0xfa, 0xf4, ...SPIN), [], 1, 'halted', 'every vCPU is halted'],
    ['spin', guest('spin', ...SPIN), ['--timeout', '1'], 124, 'timeout', 'timeout after 1 s'],
    ['debug exit', guest('exit', ...out(0xf4, 3), ...SPIN), [], 7, 'debug-exit', ''],
    [
      'write to nowhere',
      // mov dword [0xd0000000], eax; mov eax, [0xd0000000]; inc eax; jnz spin; exit with 0
      guest('nowhere', 0xa3, 0, 0, 0, 0xd0, 0xa1, 0, 0, 0, 0xd0, 0x40, 0x75, 0xfe, ...out(0xf4, 0), ...SPIN),
      ['--timeout', '20'],
      1,
      'debug-exit',
      '',
    ],
  ];
  test.each(cases)('%s', async (_, kernel, args, code, reason, line) => {
    const result = await softvt(['run', '--kernel', kernel, '--memory', '16M', '--json', ...args]);
    expect(reportOf(result).reason).toBe(reason);
    const lines = result.stderr.trimEnd().split('\n').slice(0, -1);
    expect(lines).toHaveLength(line === '' ? 0 : 1);
    expect(lines.join('\n')).toContain(line);
    expect(result.code).toBe(code);
  });

  test('SIGTERM ends a guest that spins', async () => {
    const { spawn } = await import('node:child_process');
    const args = ['src/cli/main.ts', 'run', '--kernel', guest('spin2', ...out(0x3fb, 3), ...out(0x3f8, 0x21), ...SPIN)];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    child.stdout.once('data', () => child.kill('SIGTERM'));
    const code = await new Promise((resolve) => child.on('close', resolve));
    expect(code).toBe(143);
  });

  test('--reboot starts again after a reset, until the guest ends itself', async () => {
    // The RTC's CMOS is fresh after each reset, guest memory is not looked at: the guest resets for ever.
    const kernel = guest('again', ...out(0x3fb, 3), ...out(0x3f8, 0x2e), ...out(0xcf9, 6), ...SPIN);
    const result = await softvt(['run', '--kernel', kernel, '--memory', '16M', '--reboot', '--timeout', '3']);
    expect(result.stdout.length).toBeGreaterThan(2);
    expect(result.code).toBe(124);
  });
});
