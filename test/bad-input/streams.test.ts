/** Files and streams that are not what they should be: one clear line, the contract's exit code, and no hang. */

import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { makeBzImage, makeMultiboot } from '../../src/vmm/loaders/testing.ts';
import { type CommandResult, softvt } from '../guests/softvt.ts';

const directory = mkdtempSync(join(tmpdir(), 'softvt-streams-'));
afterAll(() => rmSync(directory, { recursive: true }));

function file(name: string, bytes: Uint8Array | string): string {
  const path = join(directory, name);
  writeFileSync(path, bytes);
  return path;
}

/** 8N1, then `!` on COM1, then power off by ACPI. */
const POLITE = Uint8Array.from(
  [0x66, 0xba, 0xfb, 3, 0xb0, 3, 0xee, 0x66, 0xba, 0xf8, 3, 0xb0, 0x21, 0xee].concat(
    // mov dx, 0x604; mov ax, S5 | SLP_EN; out dx, ax; hlt; jmp
    [0x66, 0xba, 4, 6, 0x66, 0xb8, 0, 0x34, 0x66, 0xef, 0xf4, 0xeb, 0xfd],
  ),
);
const polite = file('polite', makeMultiboot(POLITE));
/** Prints for ever. */
const chatty = file(
  'chatty',
  makeMultiboot(Uint8Array.of(0x66, 0xba, 0xfb, 3, 0xb0, 3, 0xee, 0x66, 0xba, 0xf8, 3, 0xb0, 0x21, 0xee, 0xeb, 0xfd)),
);

describe('inputs are refused in one line with exit code 2', () => {
  const only32Bit = makeBzImage((header) => header.setUint16(0x236, 0, true));
  const cases: [string, string[], string][] = [
    ['32-bit-only kernel for a TD', ['--type', 'td', '--kernel', file('i386', only32Bit)], '32-bit only'],
    ['too much memory', ['--kernel', polite, '--memory', '2561M'], 'more than the 2560M'],
    ['an endless device as kernel', ['--kernel', '/dev/zero'], 'a device, not a file'],
    ['a missing initrd', ['--kernel', polite, '--initrd', join(directory, 'none')], 'there is no such file'],
    ['a directory as initrd', ['--kernel', polite, '--initrd', directory], 'a directory'],
    ['an unknown option', ['--kernel', polite, '--gpu', 'all'], 'there is no option --gpu'],
    ['a bad value', ['--kernel', polite, '--cpus', 'many'], '--cpus wants a number'],
    ['a trace nowhere', ['--kernel', polite, '--trace', join(directory, 'no', 'trace')], 'cannot be written'],
  ];
  test.each(cases)('%s', async (_, args, message) => {
    const { code, stdout, stderr } = await softvt(['run', ...args]);
    expect(stderr).toMatch(/^softvt: [^\n]*\n$/);
    expect(stderr).toContain(message);
    expect(stdout).toBe('');
    expect(code).toBe(2);
  });
});

test('a trace on a full disk is said when the guest is over, whom it does not disturb', async () => {
  if (!existsSync('/dev/full')) return expect(process.platform).not.toBe('linux');
  const { code, stdout, stderr } = await softvt(['run', '--kernel', polite, '--trace', '/dev/full']);
  expect(stdout).toBe('!');
  expect(stderr).toMatch(/^softvt: trace \/dev\/full: no space left[^\n]*\n$/);
  expect(code).toBe(2);
});

/** Runs the command with streams as given; a stream that is piped is read. */
function withStreams(
  args: readonly string[],
  stdio: ('pipe' | 'ignore' | number)[],
  onStart: (child: ReturnType<typeof spawn>) => void = () => {},
): Promise<CommandResult> {
  const child = spawn(process.execPath, ['src/cli/main.ts', 'run', ...args], { stdio });
  let stdout = '';
  let stderr = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    stdout += chunk.toString('latin1');
  });
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  onStart(child);
  return new Promise((resolve) => {
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}

describe('streams', () => {
  test('without stdin the guest runs to its end', async () => {
    const result = await withStreams(['--kernel', polite], ['ignore', 'pipe', 'pipe']);
    expect(result).toMatchObject({ code: 0, stdout: '!', stderr: '' });
  });

  test('stdin that breaks off does not disturb the guest', async () => {
    const result = await withStreams(['--kernel', polite], ['pipe', 'pipe', 'pipe'], ({ stdin }) => stdin?.destroy());
    expect(result).toMatchObject({ code: 0, stdout: '!', stderr: '' });
  });

  test('a guest that nobody reads any more ends as by SIGPIPE', async () => {
    const result = await withStreams(['--kernel', chatty, '--timeout', '60'], ['ignore', 'pipe', 'pipe'], (child) => {
      child.stdout?.once('data', () => child.stdout?.destroy());
    });
    expect(result.stderr).toBe('softvt: stopped by SIGPIPE\n');
    expect(result.code).toBe(141);
  });

  test('a console on a full disk ends the guest in one line', async () => {
    if (!existsSync('/dev/full')) return expect(process.platform).not.toBe('linux');
    const result = await withStreams(
      ['--kernel', chatty, '--timeout', '60'],
      ['ignore', openSync('/dev/full', 'w'), 'pipe'],
    );
    expect(result.stderr).toMatch(/^softvt: [^\n]*\n$/);
    expect(result.code).not.toBe(124);
    expect(result.code).not.toBe(0);
  });
});
