import { describe, expect, test } from 'vitest';
import { assemble } from '../../machine/isa/assembler/assemble.ts';
import { startBare } from './testing.ts';

const ROM_SIZE = 0x40000;

/** An image whose last 64 KiB begin with `source`, which runs in real mode at F000:0000. */
function image(source: string): Uint8Array {
  const rom = new Uint8Array(ROM_SIZE).fill(0xff);
  rom.set(assemble(source, 16).bytes, ROM_SIZE - 0x10000);
  rom.set([0xe9, 0x0d, 0x00], ROM_SIZE - 16); // jmp to offset 0
  return rom;
}

const OFF = `
  mov dx, 0x604
  mov ax, 0x3400
  out dx, ax
  hlt`;

async function run(source: string, extra = {}) {
  const { guest, screen } = startBare({ firmware: image(source), firmwareName: 'bios.bin', ...extra });
  guest.endInput();
  return { end: await guest.done, text: screen.text, guest };
}

describe('firmware', () => {
  test('runs from the reset vector, and its end lies below 1 MiB too, where it can be written', async () => {
    const { end, guest } = await run(`
      jmp 0xf000:below
    below:
      mov ax, cs
      mov ds, ax
      mov byte [mark], 0x77
      ${OFF}
    mark: db 0`);
    expect(end).toEqual({ reason: 'power-off' });
    expect(guest.hostView(0xf0000)!.includes(0x77)).toBe(true);
    expect(guest.hostView(0xe0000)![0]).toBe(0xff);
    expect(guest.hostView(0xd0000)![0]).toBe(0);
  });

  test('finds the number of processors, memory and a display on COM1 at the configuration device', async () => {
    // Sends item 5 and the size in CMOS to the debug-exit port.
    const { end } = await run(
      `
      mov dx, 0x510
      mov ax, 5
      out dx, ax
      inc dx
      in al, dx
      mov bl, al
      mov al, 0x34
      out 0x70, al
      in al, 0x71
      add al, bl
      out 0xf4, al
      hlt`,
      { cpus: 3, memorySize: 0x1100000 },
    );
    expect(end).toEqual({ reason: 'debug-exit', value: 0x10 + 3 });
  });

  test('reads a sector of the first disk', async () => {
    const disk = new Uint8Array(0x100000);
    disk[512] = 42;
    const { end } = await run(
      `
      mov dx, 0x1f2
      mov al, 1
      out dx, al
      inc dx
      out dx, al
      mov dx, 0x1f6
      mov al, 0xe0
      out dx, al
      inc dx
      mov al, 0x20
      out dx, al
      mov dx, 0x1f0
      in ax, dx
      out 0xf4, al
      hlt`,
      { disks: [disk] },
    );
    expect(end).toEqual({ reason: 'debug-exit', value: 42 });
  });

  test('waits a microsecond for each byte that goes over the bus', async () => {
    const { guest } = await run(`mov cx, 1000\nagain: in al, 0x80\nloop again\n${OFF}`);
    expect(guest.statistics().virtualSeconds).toBeGreaterThan(0.001);
    expect(guest.statistics().virtualSeconds).toBeLessThan(0.0011);
  });

  test.each([
    ['nothing', new Uint8Array(0), 'multiple of 4K'],
    ['an odd size', new Uint8Array(0x1001), 'bios.bin: a firmware image is a multiple of 4K, this one has 4097 bytes'],
    ['too much', new Uint8Array(0x1100000), 'at most 16M'],
  ])('is refused if it is %s', (_, firmware, message) => {
    expect(() => startBare({ firmware, firmwareName: 'bios.bin' })).toThrow(message);
  });
});
