/** Guests that do what they should not: the run ends with the contract's exit code and one line, never with a stack. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { makeMultiboot } from '../../src/vmm/loaders/testing.ts';
import { reportOf, softvt } from '../guests/softvt.ts';

const directory = mkdtempSync(join(tmpdir(), 'softvt-guests-'));
afterAll(() => rmSync(directory, { recursive: true }));

function guest(name: string, ...code: number[]): string {
  const path = join(directory, name);
  writeFileSync(path, makeMultiboot(Uint8Array.from(code)));
  return path;
}

const u32 = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);
const NOWHERE = 0xd000_0000;
/** out 0xf4, al: exit code 1 if AL is 0. */
const EXIT = [0xb0, 0, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd];

const cases: [string, string, string[], number, string, string][] = [
  // in al, dx reads ones where nobody answers; inc al; jnz self
  [
    'unknown ports',
    guest('ports', 0x66, 0xba, 0, 0x5e, 0xee, 0x66, 0xef, 0xef, 0xec, 0xfe, 0xc0, 0x75, 0xfe, ...EXIT),
    [],
    1,
    'debug-exit',
    '',
  ],
  // push [nowhere]; pop [nowhere]; rep movsb from nowhere to RAM
  [
    'unbacked memory, by push, pop and string moves',
    guest(
      'unbacked',
      ...[0xbc, ...u32(0x200000), 0xff, 0x35, ...u32(NOWHERE), 0x8f, 0x05, ...u32(NOWHERE)],
      ...[0xbe, ...u32(NOWHERE), 0xbf, ...u32(0x300000), 0xb9, ...u32(64), 0xf3, 0xa4],
      ...EXIT,
    ),
    [],
    1,
    'debug-exit',
    '',
  ],
  // jmp nowhere: KVM cannot emulate what it fetches from there.
  ['a jump to nowhere', guest('jump', 0xb8, ...u32(NOWHERE), 0xff, 0xe0), [], 1, 'kvm-error', 'the guest cannot go on'],
  // fxsave [nowhere]
  [
    'an instruction on unbacked memory that KVM does not emulate',
    guest('fxsave', 0x0f, 0xae, 0x05, ...u32(NOWHERE)),
    [],
    1,
    'kvm-error',
    'the guest cannot go on',
  ],
  // mov cr3, nowhere; CR4.PAE stays 0; paging on
  [
    'page tables nowhere',
    guest('tables', 0xb8, ...u32(NOWHERE), 0x0f, 0x22, 0xd8, 0xb8, ...u32(0x80000001), 0x0f, 0x22, 0xc0, ...EXIT),
    [],
    1,
    'triple-fault',
    'triple fault',
  ],
  // A guest whose every instruction is an exit must not keep --timeout waiting: out dx, al; jmp
  [
    'exits without end',
    guest('exits', 0x66, 0xba, 0xe0, 2, 0xee, 0xeb, 0xfd),
    ['--timeout', '1'],
    124,
    'timeout',
    'timeout',
  ],
  // cpuid; jmp
  [
    'CPUID without end',
    guest('cpuid', 0x31, 0xc0, 0x0f, 0xa2, 0xeb, 0xfa),
    ['--timeout', '1'],
    124,
    'timeout',
    'timeout',
  ],
  // rep movsb over all there is: nothing ends a REP but faults, exits and time
  [
    'a REP without end',
    guest('rep', 0xb9, ...u32(0xffffffff), 0x31, 0xf6, 0x31, 0xff, 0xf3, 0xac, 0xeb, 0xf3),
    ['--timeout', '1'],
    124,
    'timeout',
    'timeout',
  ],
];

test.each(cases)('%s', async (_, kernel, args, code, reason, line) => {
  const started = performance.now();
  const result = await softvt(['run', '--kernel', kernel, '--memory', '16M', '--json', '--timeout', '30', ...args]);
  const lines = result.stderr.trimEnd().split('\n').slice(0, -1);
  expect(lines.join('\n')).toContain(line);
  expect(lines).toHaveLength(line === '' ? 0 : 1);
  expect(reportOf(result).reason).toBe(reason);
  expect(result.code).toBe(code);
  expect(performance.now() - started).toBeLessThan(30_000);
});
