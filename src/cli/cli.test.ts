import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SoftvtError } from '../util/errors.ts';
import { trace } from '../util/trace.ts';
import type { GuestEnd } from '../vmm/guest-end.ts';
import { runCli } from './cli.ts';
import { fakeWorld } from './testing.ts';

let directory: string;
let kernel: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'softvt-cli-'));
  kernel = join(directory, 'vmlinuz');
  writeFileSync(kernel, 'kernel');
});
afterAll(() => rmSync(directory, { recursive: true }));

describe('help', () => {
  test.each([[[]], [['--help']], [['-h']]])('%j prints the commands and exits with 0', async (args) => {
    const world = fakeWorld();
    expect(await runCli(args, world.environment)).toBe(0);
    for (const name of ['run', 'demo', 'images', 'measure', 'profile', 'doctor']) {
      expect(world.stdout.text).toContain(name);
    }
    expect(world.stderr.text).toBe('');
  });

  test('a command explains its options', async () => {
    const world = fakeWorld();
    expect(await runCli(['run', '--help'], world.environment)).toBe(0);
    for (const option of ['--kernel', '--append', '--memory', '--timeout', '--json']) {
      expect(world.stdout.text).toContain(option);
    }
  });

  test('--version prints the version alone', async () => {
    const world = fakeWorld();
    expect(await runCli(['--version'], world.environment)).toBe(0);
    expect(world.stdout.text).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe('usage mistakes are one line on stderr and exit code 2', () => {
  const cases: [string, string[], string][] = [
    ['unknown command', ['frobnicate'], "there is no command 'frobnicate'"],
    ['unknown option of softvt', ['--frob'], 'there is no option --frob'],
    ['unknown option of run', ['run', '--frob=1'], 'there is no option --frob'],
    ['short option', ['run', '-m', '1'], 'there is no option -m'],
    ['missing value', ['run', '--kernel'], '--kernel needs a value'],
    ['value of a flag', ['run', '--json=yes'], '--json takes no value'],
    ['stray word', ['run', 'vmlinuz'], "'vmlinuz' is one argument too many"],
    ['no kernel', ['run'], '--kernel FILE is missing'],
    ['no such kernel', ['run', '--kernel', '/nowhere/vmlinuz'], 'there is no such file'],
    ['a directory', ['run', '--kernel', '/'], 'it is a directory'],
    ['type', ['run', '--type', 'jail', '--kernel', 'x'], '--type is vm, td or bare'],
    ['too little memory for a TD', ['run', '--type', 'td', '--kernel', 'x', '--memory', '191M'], 'less than the 192M'],
    ['memory', ['run', '--kernel', 'x', '--memory', 'lots'], '--memory wants a size'],
    ['too much memory', ['run', '--kernel', 'x', '--memory', '3G'], 'more than the 2560M'],
    ['too little memory', ['run', '--kernel', 'x', '--memory', '1M'], 'less than the 2M'],
    ['odd memory', ['run', '--kernel', 'x', '--memory', '3001K'], 'multiple of 64K'],
    ['cpus', ['run', '--kernel', 'x', '--cpus', '0'], '--cpus wants a number from 1 to 64'],
    ['seed', ['run', '--kernel', 'x', '--seed', '-1'], '--seed wants a number'],
    ['timeout', ['run', '--kernel', 'x', '--timeout', 'soon'], '--timeout wants seconds'],
    ['clock', ['run', '--kernel', 'x', '--clock', 'wall'], '--clock is virtual or real'],
    ['module of a TD', ['run', '--type', 'td', '--kernel', 'x', '--module', 'm'], '--module needs a Multiboot image'],
    ['no such module', ['run', '--kernel', 'package.json', '--module', '/nowhere/m a'], 'module /nowhere/m'],
    ['disk of a VM', ['run', '--kernel', 'x', '--disk', 'd'], '--disk needs --type bare'],
    ['no such disk', ['run', '--type', 'bare', '--kernel', 'package.json', '--disk', '/nowhere/d'], 'disk /nowhere/d'],
    [
      'many disks',
      ['run', '--type', 'bare', '--kernel', 'x', ...'12345'.split('').map((d) => `--disk=${d}`)],
      'at most 4 disks',
    ],
    ['firmware of a VM', ['run', '--firmware', 'f'], '--firmware needs --type bare'],
    [
      'firmware and kernel',
      ['run', '--type', 'bare', '--firmware', 'f', '--kernel', 'k'],
      'takes the place of --kernel',
    ],
    ['no such firmware', ['run', '--type', 'bare', '--firmware', '/nowhere/f'], 'firmware /nowhere/f'],
    ['measure without a kernel', ['measure'], '--kernel FILE is missing'],
    ['measure with a kernel that is none', ['measure', '--kernel', 'package.json'], 'not a bzImage'],
    ['images command', ['images', 'eat'], "there is no command 'images eat'"],
  ];
  test.each(cases)('%s', async (_, args, message) => {
    const world = fakeWorld();
    expect(await runCli(args, world.environment)).toBe(2);
    expect(world.stderr.text).toContain(message);
    expect(world.stderr.text).toMatch(/^softvt: [^\n]*\n$/);
    expect(world.stdout.text).toBe('');
    expect(world.guests).toEqual([]);
  });
});

describe('run', () => {
  test('hands kernel, initrd and options to the guest', async () => {
    const initrd = join(directory, 'initrd');
    writeFileSync(initrd, 'initrd');
    const world = fakeWorld();
    const args = ['run', '--type', 'vm', '--kernel', kernel, '--initrd', initrd, '--append', 'console=ttyS0 -x'];
    const more = ['--memory', '128M', '--cpus', '4', '--seed', '7', '--reboot', '--clock=virtual'];
    expect(await runCli([...args, ...more], world.environment)).toBe(0);
    const [guest] = world.guests;
    expect(guest!.config).toMatchObject({
      kernelName: 'vmlinuz',
      initrdName: 'initrd',
      commandLine: 'console=ttyS0 -x',
      memorySize: 128 << 20,
      cpus: 4,
      seed: 7,
      clock: 'virtual',
      reboot: true,
    });
    expect(new TextDecoder().decode(guest!.config.initrd)).toBe('initrd');
    expect(guest!.config.modules).toBeUndefined();
  });

  test('hands modules with what stands behind their names to the guest, in order', async () => {
    const world = fakeWorld();
    const modules = ['--module', `${kernel} a=b  c`, `--module=${kernel}`];
    expect(await runCli(['run', '--type', 'bare', '--kernel', kernel, ...modules], world.environment)).toBe(0);
    expect(world.guests[0]!.config.modules?.map(({ text }) => text)).toEqual(['vmlinuz a=b  c', 'vmlinuz']);
    expect(world.guests[0]!.config.modules?.[1]?.data).toEqual(world.guests[0]!.config.kernel);
  });

  test('--type td runs a TD, and --json has what TDX did and measured', async () => {
    const world = fakeWorld();
    expect(await runCli(['run', '--type', 'td', '--kernel', kernel, '--json'], world.environment)).toBe(0);
    expect(world.guests[0]!.config.type).toBe('td');
    expect(JSON.parse(world.stderr.text)).toMatchObject({
      seamcalls: { 'TDH.VP.ENTER': 9 },
      tdcalls: { 'TDG.VP.VMCALL': 7 },
      mrtd: 'ab'.repeat(48),
      rtmr: [],
    });
  });

  test('the clock is real when somebody sits at a terminal, virtual otherwise', async () => {
    for (const terminal of [false, true]) {
      const world = fakeWorld(undefined, { terminal });
      await runCli(['run', '--kernel', kernel], world.environment);
      expect(world.guests[0]!.config.clock).toBe(terminal ? 'real' : 'virtual');
    }
  });

  const ends: [GuestEnd, number, string][] = [
    [{ reason: 'power-off' }, 0, ''],
    [{ reason: 'quit' }, 0, ''],
    [{ reason: 'reset', by: 'port 0xcf9' }, 1, 'the guest reset itself by port 0xcf9'],
    [{ reason: 'triple-fault', vcpu: 0, rip: 0x10n }, 1, 'triple fault on vCPU 0 at RIP 0x10'],
    [{ reason: 'triple-fault', vcpu: 1, rip: undefined }, 1, 'triple fault on vCPU 1 of a TD'],
    [{ reason: 'td-fatal', code: 2, message: 'oh no' }, 1, 'the TD reported a fatal error, code 2: oh no'],
    [{ reason: 'panic' }, 1, 'the guest panicked'],
    [{ reason: 'halted' }, 1, 'every vCPU is halted'],
    [{ reason: 'kvm-error', message: 'no' }, 1, 'cannot go on: no'],
    [{ reason: 'debug-exit', value: 5 }, 11, ''],
    [{ reason: 'timeout', seconds: 3 }, 124, 'timeout after 3 s'],
    [{ reason: 'signal', name: 'SIGTERM', number: 15 }, 143, 'stopped by SIGTERM'],
  ];
  test.each(ends.map(([end, code, line]) => ({ end, code, line })))('$end.reason', async ({ end, code, line }) => {
    const world = fakeWorld((guest) => guest.stop(end));
    expect(await runCli(['run', '--kernel', kernel], world.environment)).toBe(code);
    if (line === '') expect(world.stderr.text).toBe('');
    else expect(world.stderr.text).toMatch(/^softvt: [^\n]*\n$/);
    expect(world.stderr.text).toContain(line);
  });

  test('the guest’s console is stdout', async () => {
    const world = fakeWorld((guest) => {
      guest.sink.write(new TextEncoder().encode('hello\r\n'));
      guest.stop({ reason: 'power-off' });
    });
    await runCli(['run', '--kernel', kernel], world.environment);
    expect(world.stdout.text).toBe('hello\r\n');
  });

  test('--json is one object as the last line of stderr', async () => {
    const world = fakeWorld((guest) => guest.stop({ reason: 'panic' }));
    expect(await runCli(['run', '--kernel', kernel, '--json'], world.environment)).toBe(1);
    const lines = world.stderr.text.trimEnd().split('\n');
    expect(lines).toHaveLength(2);
    expect(JSON.parse(lines[1]!)).toEqual({
      reason: 'panic',
      detail: 'the guest panicked',
      instructions: 3_000_000,
      virtualSeconds: 0.5,
      wallSeconds: 0.5,
      stateHash: '0123456789abcdef',
      exits: { CPUID: 2, IO_INSTRUCTION: 40 },
      seamcalls: {},
      tdcalls: {},
    });
  });

  test('--timeout ends a guest that spins, with 124', async () => {
    const world = fakeWorld(() => {});
    expect(await runCli(['run', '--kernel', kernel, '--timeout', '0.01'], world.environment)).toBe(124);
  });

  test('a kernel that cannot be a guest is one line and exit code 2', async () => {
    const startGuest = () => Promise.reject(new SoftvtError('ERR_SOFTVT_BAD_KERNEL', 'vmlinuz: not a kernel'));
    const world = fakeWorld(undefined, { startGuest });
    expect(await runCli(['run', '--kernel', kernel], world.environment)).toBe(2);
    expect(world.stderr.text).toBe('softvt: vmlinuz: not a kernel\n');
  });

  test('a defect of softvt is one line and exit code 3; only with debugging there is a stack', async () => {
    const startGuest = () => Promise.reject(new TypeError('undefined is not a machine\n  at secret place'));
    const quiet = fakeWorld(undefined, { startGuest });
    expect(await runCli(['run', '--kernel', kernel], quiet.environment)).toBe(3);
    expect(quiet.stderr.text).toMatch(/^softvt: internal error: undefined is not a machine[^\n]*\n$/);
    const loud = fakeWorld(undefined, { startGuest, debug: true });
    await runCli(['run', '--kernel', kernel], loud.environment);
    expect(loud.stderr.text).toContain('cli.test.ts');
  });

  test('--trace writes events as text, or as Chrome JSON into a .json file', async () => {
    const live = (guest: { stop(end: GuestEnd): void }) => {
      trace.kvm_entry?.(0, 0x1000n);
      trace.kvm_exit?.(0, 10, 0x1002n, 0n, 0, 0, 0);
      guest.stop({ reason: 'power-off' });
    };
    const text = join(directory, 'trace.txt');
    await runCli(['run', '--kernel', kernel, '--trace', text], fakeWorld(live).environment);
    expect(readFileSync(text, 'utf8')).toContain('kvm_exit: vcpu 0 reason CPUID rip 0x1002');
    const json = join(directory, 'trace.json');
    await runCli(['run', '--kernel', kernel, '--trace', json], fakeWorld(live).environment);
    expect(JSON.parse(readFileSync(json, 'utf8'))).toMatchObject([{ name: 'CPUID', ph: 'X', tid: 0 }]);
    expect(trace.kvm_exit).toBeUndefined();
  });

  test('a trace file that cannot be written is one line and exit code 2', async () => {
    const world = fakeWorld();
    expect(await runCli(['run', '--kernel', kernel, '--trace', '/nowhere/t'], world.environment)).toBe(2);
    expect(world.stderr.text).toMatch(/^softvt: trace \/nowhere\/t: [^\n]*\n$/);
  });
});

describe('the terminal is given back on every way out', () => {
  test.each(['SIGINT', 'SIGTERM', 'SIGHUP'])('%s', async (name) => {
    const world = fakeWorld(() => world.signals.emit(name), { terminal: true });
    expect(await runCli(['run', '--kernel', kernel], world.environment)).toBeGreaterThan(128);
    expect(world.stdin.raw).toBe(false);
    expect(world.stdin.paused).toBe(true);
  });

  test('exit of the process in the middle of a run', async () => {
    const world = fakeWorld(() => {}, { terminal: true });
    const run = runCli(['run', '--kernel', kernel], world.environment);
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(world.stdin.raw).toBe(true);
    world.signals.emit('exit');
    expect(world.stdin.raw).toBe(false);
    world.guests[0]!.stop({ reason: 'quit' });
    await run;
  });

  test('no listener stays behind', async () => {
    const world = fakeWorld(undefined, { terminal: true });
    await runCli(['run', '--kernel', kernel], world.environment);
    expect(world.signals.listenerCount + world.stdin.listenerCount + world.stdout.listenerCount).toBe(0);
  });

  test('nobody reads the console any more', async () => {
    const world = fakeWorld(() => world.stdout.emit('error'));
    expect(await runCli(['run', '--kernel', kernel], world.environment)).toBe(141);
  });
});

describe('demo', () => {
  const images = async () => ({ kernel: Uint8Array.of(1), kernelName: 'vmlinuz-6.12' });

  test('boots the images as a VM and as a TD on one host, and says what tells them apart', async () => {
    const world = fakeWorld(undefined, { demoImages: images });
    expect(await runCli(['demo'], world.environment)).toBe(0);
    const [vm, td] = world.guests;
    expect(vm!.config).toMatchObject({ type: 'vm', kernelName: 'vmlinuz-6.12', memorySize: 256 << 20 });
    expect(td!.config).toMatchObject({ ...vm!.config, type: 'td' });
    const lines = world.stderr.text;
    expect(lines).toContain('booting vmlinuz-6.12');
    for (const name of ['vm', 'td']) {
      expect(lines).toContain(`softvt: ${name}: the guest powered off after`);
      expect(lines).toContain(`softvt: ${name}: exits 42: IO_INSTRUCTION 40, CPUID 2\n`);
    }
    expect(lines).toContain('softvt: td: SEAMCALLs 9: TDH.VP.ENTER 9\n');
    expect(lines).toContain('softvt: td: TDCALLs 7: TDG.VP.VMCALL 7\n');
    expect(lines).toContain(`softvt: td: MRTD ${'ab'.repeat(48)}\n`);
    expect(lines).toContain('vm: host reads guest page 0x7000 at offset 0x202: 90 90 ');
    expect(lines).toContain('td: host reads guest page 0x7000 at offset 0x202: 00 00 ');
  });

  test('both consoles are on stdout, in whole lines with their names', async () => {
    const world = fakeWorld(
      (guest) => {
        const { type } = guest.config;
        for (const text of ['one', '\r\ntw', 'o\r\n', 'end']) guest.sink.write(new TextEncoder().encode(text));
        guest.stop(type === 'vm' ? { reason: 'power-off' } : { reason: 'panic' });
      },
      { demoImages: images },
    );
    expect(await runCli(['demo'], world.environment)).toBe(1);
    const lines = world.stdout.text.split('\n').sort();
    expect(lines).toEqual(['', 'td| end', 'td| one\r', 'td| two\r', 'vm| end', 'vm| one\r', 'vm| two\r']);
    expect(world.signals.listenerCount + world.stdout.listenerCount).toBe(0);
  });

  test('a signal ends both', async () => {
    const world = fakeWorld(() => world.signals.emit('SIGINT'), { demoImages: images });
    expect(await runCli(['demo'], world.environment)).toBe(130);
  });

  test('on a terminal a line shows that the guest works, until it prints', async () => {
    const world = fakeWorld(
      (guest) =>
        setTimeout(() => {
          guest.sink.write(new TextEncoder().encode('hello\n'));
          guest.stop({ reason: 'power-off' });
        }, 600),
      { demoImages: images },
    );
    world.stderr.isTTY = true;
    expect(await runCli(['demo'], world.environment)).toBe(0);
    const [, ...updates] = world.stderr.text.split('\r\x1b[K');
    expect(updates.length).toBeGreaterThanOrEqual(2);
    expect(updates[0]).toBe('softvt: 3 million instructions, nothing printed yet');
    expect(updates.at(-1)).toContain('the guest powered off');
  });

  test('without images it says so in one line and runs the built-in guest', async () => {
    const unreachable = () => Promise.reject(new SoftvtError('ERR_SOFTVT_DOWNLOAD', 'the mirror is not reachable'));
    const world = fakeWorld(undefined, { demoImages: unreachable });
    expect(await runCli(['demo'], world.environment)).toBe(0);
    expect(world.stderr.text.split('\n')[0]).toBe(
      'softvt: no kernel to boot: the mirror is not reachable; running the built-in guest as a VM instead',
    );
    expect(world.guests[0]!.config.kernelName).toBe('the built-in guest');
  });
});

test('doctor lists what there is', async () => {
  const lines: string[] = [];
  const log = console.log;
  console.log = (line: string) => lines.push(line);
  try {
    expect(await runCli(['doctor'], fakeWorld().environment)).toBe(0);
  } finally {
    console.log = log;
  }
  expect(lines.join('\n')).toMatch(/ok +Node: \d+/);
  expect(lines.join('\n')).toContain('WebAssembly SIMD: yes');
  expect(lines.join('\n')).toContain('WebAssembly tail calls: yes');
});
