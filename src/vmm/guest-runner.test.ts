import { describe, expect, test } from 'vitest';
import type { GuestEnd } from './guest-end.ts';
import type { GuestConfig } from './guest-run.ts';
import { GuestRunner } from './guest-runner.ts';
import { makeMultiboot } from './loaders/testing.ts';
import type { ConsoleSink } from './serial-console.ts';
import { FakeHost, type Script, TRIPLE_FAULT } from './testing.ts';

const config = (extra: Partial<GuestConfig> = {}): GuestConfig => ({
  kernel: makeMultiboot(Uint8Array.of(0xf4)),
  kernelName: 'kernel',
  commandLine: '',
  memorySize: 0x400000,
  cpus: 1,
  seed: 0,
  clock: 'virtual',
  epochSeconds: 0,
  reboot: false,
  ...extra,
});

class Screen implements ConsoleSink {
  text = '';
  ready: Promise<void> | undefined;
  write(bytes: Uint8Array): void {
    this.text += new TextDecoder().decode(bytes);
  }
}

function start(script: Script, extra: Partial<GuestConfig> = {}) {
  const fake = new FakeHost(script);
  const screen = new Screen();
  return { fake, screen, guest: new GuestRunner(fake, config(extra), screen) };
}

const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5));

describe('building a VM', () => {
  test('interrupt controllers come before vCPUs, RAM leaves the VGA window out', async () => {
    const { fake, guest } = start(function* () {}, { cpus: 2 });
    const [vm] = fake.vms;
    expect(vm!.calls).toEqual(['tss fffbd000', 'identity fffbc000', 'irqchip before 0 vcpus', 'pit']);
    expect(vm!.slots.map(({ guestPhysAddr, memorySize }) => [guestPhysAddr, memorySize])).toEqual([
      [0, 0xa0000],
      [0xc0000, 0x340000],
    ]);
    expect(vm!.vcpus.map(({ cpuid }) => cpuid[0]!.ebx >>> 24)).toEqual([0, 1]);
    guest.stop({ reason: 'quit' });
    await guest.done;
  });

  test('the first vCPU gets the entry state of the boot protocol, the others stay in reset', async () => {
    const { fake, guest } = start(function* () {}, { cpus: 2 });
    const [boot, other] = fake.vms[0]!.vcpus;
    expect(boot!.regs).toMatchObject({ rax: 0x2badb002n, rbx: 0x7000n, rflags: 2n });
    expect(boot!.sregs).toMatchObject({ cr0: 0x31n, efer: 0n, cs: { base: 0n, limit: 0xffffffff, db: 1, l: 0 } });
    expect(boot!.sregs!.apicBase).toBe(0xfee00900n);
    expect(other!.regs).toBeUndefined();
    guest.stop({ reason: 'quit' });
    await guest.done;
  });

  test('bad input throws before anything runs', () => {
    expect(() => start(function* () {}, { kernel: new Uint8Array(3) })).toThrow('not a kernel');
  });
});

describe('a guest ends', () => {
  const cases: [string, Script, GuestEnd][] = [
    [
      'by ACPI power-off',
      function* (cpu) {
        yield cpu.out(0x604, (5 << 10) | (1 << 13), 2);
      },
      { reason: 'power-off' },
    ],
    [
      'by port 0xcf9',
      function* (cpu) {
        yield cpu.out(0xcf9, 0x0e);
      },
      { reason: 'reset', by: 'port 0xcf9' },
    ],
    [
      'by port 0x92',
      function* (cpu) {
        yield cpu.out(0x92, 1);
      },
      { reason: 'reset', by: 'port 0x92' },
    ],
    [
      'by the keyboard controller',
      function* (cpu) {
        yield cpu.out(0x64, 0xfe);
      },
      { reason: 'reset', by: 'the keyboard controller' },
    ],
    [
      'by the debug-exit port',
      function* (cpu) {
        yield cpu.out(0xf4, 5);
      },
      { reason: 'debug-exit', value: 5 },
    ],
    [
      'by the panic device',
      function* (cpu) {
        yield cpu.out(0x505, 1);
      },
      { reason: 'panic' },
    ],
    [
      'by a triple fault',
      function* () {
        yield TRIPLE_FAULT;
      },
      { reason: 'triple-fault', vcpu: 0, rip: 0x100070n },
    ],
    [
      'by an error of KVM_RUN',
      function* () {
        yield -5;
      },
      { reason: 'kvm-error', message: 'KVM_RUN failed with errno 5' },
    ],
  ];
  test.each(cases.map(([name, script, end]) => ({ name, script, end })))('$name', async ({ script, end }) => {
    expect(await start(script).guest.done).toEqual(end);
  });

  test('an internal error of KVM names its suberror and RIP', async () => {
    const { guest } = start(function* ({ run }) {
      run.setInternalError(1, [0xdeadn]);
      yield run.exit;
    });
    expect(await guest.done).toEqual({
      reason: 'kvm-error',
      message: 'KVM internal error 1 at RIP 0x100070: 0xdead',
    });
  });

  test('interrupted and not-yet-started vCPUs run again', async () => {
    const { guest } = start(function* (cpu) {
      yield -4;
      yield -11;
      yield cpu.out(0xf4, 1);
    });
    expect(await guest.done).toEqual({ reason: 'debug-exit', value: 1 });
  });

  test('the first end counts, and all vCPUs stop', async () => {
    const { guest } = start(
      function* (cpu) {
        if (cpu.index === 1) yield cpu.out(0xf4, 1);
        yield pause();
        yield cpu.out(0xf4, 2);
      },
      { cpus: 3 },
    );
    expect(await guest.done).toEqual({ reason: 'debug-exit', value: 1 });
  });

  test('from outside', async () => {
    const { guest } = start(function* () {});
    guest.stop({ reason: 'timeout', seconds: 1 });
    guest.stop({ reason: 'quit' });
    expect(await guest.done).toEqual({ reason: 'timeout', seconds: 1 });
  });

  test('when everything is halted, but only if nobody can type any more', async () => {
    const { fake, guest } = start(function* () {});
    fake.host.sched.onStuck();
    await pause();
    guest.endInput();
    expect(await guest.done).toEqual({ reason: 'halted' });
    const other = start(function* () {});
    other.guest.endInput();
    await pause();
    other.fake.host.sched.onStuck();
    expect(await other.guest.done).toEqual({ reason: 'halted' });
  });
});

describe('resets', () => {
  test('with --reboot the guest starts again in a fresh VM', async () => {
    let round = 0;
    const { fake, guest } = start(
      function* (cpu) {
        yield round++ < 2 ? cpu.out(0xcf9, 6) : cpu.out(0xf4, 0);
      },
      { reboot: true },
    );
    expect(await guest.done).toEqual({ reason: 'debug-exit', value: 0 });
    expect(fake.vms.map(({ closed }) => closed)).toEqual([true, true, false]);
    expect(guest.statistics()).toMatchObject({ instructions: 42, exits: { EXTERNAL_INTERRUPT: 3 } });
  });
});

describe('accesses', () => {
  test('ports that nobody has read as all ones, and MMIO does too', async () => {
    const seen: number[] = [];
    const { guest } = start(function* (cpu) {
      for (const size of [1, 2, 4] as const) {
        yield cpu.in(0x2f8, size);
        seen.push(cpu.lastInput & (size === 4 ? -1 : (1 << (8 * size)) - 1));
      }
      const { mmio } = cpu.run;
      Object.assign(mmio, { physAddr: 0xd0000000, len: 4, isWrite: false });
      yield mmio;
      seen.push(new DataView(mmio.data.buffer).getInt32(0, true));
      Object.assign(mmio, { isWrite: true });
      yield mmio;
      yield cpu.out(0xf4, 0);
    });
    await guest.done;
    expect(seen).toEqual([0xff, 0xffff, -1, -1]);
  });
});

describe('console', () => {
  test('what the guest writes to COM1 is complete when the guest is over', async () => {
    const { screen, guest } = start(function* (cpu) {
      yield cpu.out(0x3fb, 3);
      for (const char of 'hello') yield cpu.out(0x3f8, char.charCodeAt(0));
      yield cpu.out(0xf4, 0);
    });
    await guest.done;
    expect(screen.text).toBe('hello');
  });

  test('a slow reader holds guest and time', async () => {
    let drain = (): void => {};
    const { fake, screen, guest } = start(function* (cpu) {
      yield cpu.out(0x3f8, 0x61);
      screen.ready = new Promise((resolve) => {
        drain = () => {
          screen.ready = undefined;
          resolve();
        };
      });
      yield cpu.out(0x3f8, 0x62);
      yield cpu.out(0xf4, 0);
    });
    await pause();
    expect(fake.holds).toBe(1);
    drain();
    expect(await guest.done).toEqual({ reason: 'debug-exit', value: 0 });
    expect(fake.holds).toBe(0);
  });

  test('a paste comes in at the speed of the line, whole and in order', async () => {
    const text = 'abcdefghijklmnopqrstuvwxyz'.repeat(200);
    let received = '';
    const reader = start(function* (cpu) {
      while (received.length < text.length) {
        yield cpu.in(0x3fd);
        if ((cpu.lastInput & 1) === 0) {
          reader.fake.clock.advance(50_000);
          continue;
        }
        yield cpu.in(0x3f8);
        received += String.fromCharCode(cpu.lastInput & 0xff);
      }
      yield cpu.out(0xf4, 0);
    });
    let drained = false;
    reader.guest.input(new TextEncoder().encode(text));
    reader.guest.onInputDrained(() => {
      drained = true;
    });
    await reader.guest.done;
    expect(received).toBe(text);
    expect(drained).toBe(true);
    // 115200 baud, ten bits a byte.
    expect(reader.fake.clock.now()).toBeGreaterThan((text.length - 32) * 86_800);
  });

  test('more than 64 KiB of unread input asks the source to wait', () => {
    const { guest } = start(function* () {});
    expect(guest.input(new Uint8Array(60_000))).toBe(true);
    expect(guest.input(new Uint8Array(6_000))).toBe(false);
    guest.stop({ reason: 'quit' });
  });
});

describe('stateHash', () => {
  test('is the same for the same state and another for another', async () => {
    const hashOf = async (commandLine: string) => {
      const { guest } = start(
        function* (cpu) {
          yield cpu.out(0xf4, 0);
        },
        { commandLine },
      );
      await guest.done;
      return guest.stateHash();
    };
    expect(await hashOf('a')).toBe(await hashOf('a'));
    expect(await hashOf('a')).not.toBe(await hashOf('b'));
  });
});
