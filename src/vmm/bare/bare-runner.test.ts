import { describe, expect, test } from 'vitest';
import type { GuestEnd } from '../guest-end.ts';
import type { GuestConfig } from '../guest-run.ts';
import { multibootCode, startBare } from './testing.ts';

const OFF = `
  mov dx, 0x604
  mov ax, 0x3400
  out dx, ax
  hlt`;

async function run(source: string, extra: Partial<GuestConfig> = {}) {
  const { guest, screen } = startBare({ kernel: multibootCode(source), ...extra });
  guest.endInput();
  const end = await guest.done;
  return { end, text: screen.text, statistics: guest.statistics(), hash: guest.stateHash() };
}

describe('a bare guest ends', () => {
  const cases: [string, string, GuestEnd][] = [
    ['by ACPI power-off', OFF, { reason: 'power-off' }],
    ['by port 0x92', 'mov al, 1\nout 0x92, al\nhlt', { reason: 'reset', by: 'port 0x92' }],
    [
      'by the keyboard controller',
      'mov al, 0xfe\nout 0x64, al\nhlt',
      { reason: 'reset', by: 'the keyboard controller' },
    ],
    ['by the debug-exit port', 'mov al, 5\nout 0xf4, al\nhlt', { reason: 'debug-exit', value: 5 }],
    ['by a triple fault', 'int3', { reason: 'triple-fault', vcpu: 0, rip: 0x100020n }],
    ['by waiting for nothing', 'cli\nhlt', { reason: 'halted' }],
  ];
  test.each(cases)('%s', async (_, source, end) => {
    expect((await run(source)).end).toEqual(end);
  });

  test('from outside', async () => {
    const { guest } = startBare({ kernel: multibootCode('self: jmp self') });
    setTimeout(() => guest.stop({ reason: 'quit' }), 20);
    expect(await guest.done).toEqual({ reason: 'quit' });
    expect(guest.statistics().instructions).toBeGreaterThan(1000);
  });
});

test('with --reboot a reset starts it again, and its cost adds up', async () => {
  // CMOS keeps nothing across machines: what tells the rounds apart is the host, which ends the third.
  const { guest } = startBare({ kernel: multibootCode('mov al, 1\nout 0x92, al\nhlt'), reboot: true });
  let rounds = 0;
  let before = 0;
  while (rounds < 3) {
    await new Promise((resolve) => setImmediate(resolve));
    const { instructions } = guest.statistics();
    if (instructions > before) rounds++;
    before = instructions;
  }
  guest.stop({ reason: 'quit' });
  await guest.done;
  expect(guest.statistics().instructions).toBeGreaterThanOrEqual(6);
});

test('bad input throws before anything runs', () => {
  expect(() => startBare({ kernel: new Uint8Array(3) })).toThrow('not a kernel');
});

/** Eight bits a byte on COM1. */
const LINE = `
  mov dx, 0x3fb
  mov al, 3
  out dx, al`;

/** Prints AL on COM1 and waits until it is out. */
const PRINT = `
  mov dx, 0x3f8
  out dx, al
  mov dx, 0x3fd
sent:
  in al, dx
  test al, 0x40
  jz sent`;

/** Echoes what comes in on COM1 until a newline. */
const ECHO = `
  ${LINE}
again:
  mov dx, 0x3fd
  in al, dx
  test al, 1
  jz again
  mov dx, 0x3f8
  in al, dx
  mov bl, al
  ${PRINT}
  cmp bl, 10
  jnz again
  ${OFF}`;

test('the console goes both ways', async () => {
  const { guest, screen } = startBare({ kernel: multibootCode(ECHO) });
  guest.input(new TextEncoder().encode('hello\n'));
  expect(await guest.done).toEqual({ reason: 'power-off' });
  expect(screen.text).toBe('hello\n');
});

/** The 8254 through the 8259 in virtual wire mode: prints a dot a tick, three times. */
const TICKS = `
  ${LINE}
  mov edi, 0x2000
  mov ecx, 256
fill:
  mov eax, handler
  mov [edi], ax
  mov word [edi + 2], 0x10
  mov word [edi + 4], 0x8e00
  shr eax, 16
  mov [edi + 6], ax
  add edi, 8
  loop fill
  mov word [0x1000], 0x7ff
  mov dword [0x1002], 0x2000
  lidt [0x1000]
  mov esp, 0x90000
  mov al, 0x11
  out 0x20, al
  mov al, 0x40
  out 0x21, al
  mov al, 4
  out 0x21, al
  mov al, 1
  out 0x21, al
  mov al, 0xfe
  out 0x21, al
  mov al, 0x34
  out 0x43, al
  mov al, 0
  out 0x40, al
  mov al, 0x10
  out 0x40, al
  xor ebx, ebx
  sti
wait:
  hlt
  cmp ebx, 3
  jb wait
  ${OFF}
handler:
  inc ebx
  mov al, 0x2e
  ${PRINT}
  mov al, 0x20
  out 0x20, al
  iretd`;

test('an interrupt ends the HLT behind an STI', async () => {
  // The first tick has been taken when the loop begins; nothing waits when it sets IF.
  const source = TICKS.replace('wait:\n  hlt', 'wait:\n  cli\n  nop\n  sti\n  hlt');
  const { end, text } = await run(source);
  expect(end).toEqual({ reason: 'power-off' });
  expect(text).toBe('...');
});

test('timer interrupts come through the 8259, and idle time is skipped', async () => {
  const { end, text, statistics } = await run(TICKS);
  expect(end).toEqual({ reason: 'power-off' });
  expect(text).toBe('...');
  expect(statistics.instructions).toBeLessThan(20_000);
  // Two periods of 4096 ticks at 1.193182 MHz lie between the first tick and the last.
  expect(statistics.virtualSeconds).toBeGreaterThan(0.0068);
});

/** The bootstrap processor starts the others by INIT and SIPI; each says its letter in turn, waiting with PAUSE. */
const SMP = `
  ${LINE}
  mov dword [0x7000], 0
  mov dword [0x7004], 0
  mov esi, trampoline
  mov edi, 0x8000
  mov ecx, 256
  rep movsb
  mov dword [0xfee00300], 0xc4500
  mov dword [0xfee00300], 0xc4608
wait:
  pause
  cmp dword [0x7000], 3
  jb wait
  ${OFF}
trampoline:
  bits 16
  xor ax, ax
  mov ds, ax
  mov al, 1
  lock xadd [0x7004], al
  mov bl, al
  mov bh, 0
turn:
  pause
  cmp [0x7000], bx
  jnz turn
  add al, 0x41
  ${PRINT}
  inc dword [0x7000]
stop:
  cli
  hlt
  jmp stop
  times 256 nop`;

test('processors start by INIT and SIPI, and those that PAUSE let the others run', async () => {
  const one = await run(SMP, { cpus: 4 });
  expect(one.end).toEqual({ reason: 'power-off' });
  expect(one.text).toBe('ABC');
  expect(one.statistics.instructions).toBeLessThan(10_000);
  expect(await run(SMP, { cpus: 4 })).toEqual(one);
});
