import { describe, expect, test } from 'vitest';
import { ProcessorBus } from './apic/processor-bus.ts';
import { assemble } from './isa/assembler/assemble.ts';
import { Machine } from './machine.ts';
import { reset } from './processor/reset.ts';
import { HLT } from './processor.ts';
import { runProcessor, STOP } from './run.ts';

const ROM_SIZE = 0x20000;
const ROM_BASE = 0x1_0000_0000 - ROM_SIZE;

/** A machine with code at the reset vector; `source` runs at F000:0000, i.e. FFFF0000h. */
function boot(source: string, translatorThreshold = 50): Machine {
  const rom = new Uint8Array(ROM_SIZE).fill(0xff);
  rom.set(assemble(source, 16, 0n).bytes, ROM_SIZE - 0x10000);
  rom.set([0xe9, 0x0d, 0x00], ROM_SIZE - 16); // jmp F000:0000
  const machine = new Machine({ processors: 1, ramSize: 0x100000, profile: 'pc', rom, translatorThreshold });
  machine.memory.bus = new ProcessorBus(machine);
  const p = machine.processors[0]!;
  machine.activate(p);
  reset(p);
  expect(runProcessor(p, 1e6)).toBe(STOP.idle);
  expect(p.activity).toBe(HLT);
  return machine;
}

describe('ROM', () => {
  test('is executed from the reset vector on', () => {
    const { processors } = boot('mov ax, 0x1234\nhlt');
    expect(processors[0]!.gpr(0)).toBe(0x1234n);
  });

  test.each([1, 60000])('loops in it run (threshold %i)', (threshold) => {
    const { processors } = boot('mov cx, 1000\nxor ax, ax\nagain: add ax, cx\nloop again\nhlt', threshold);
    expect(processors[0]!.gpr(0)).toBe(500500n & 0xffffn);
  });

  test('an instruction across two of its pages is executed', () => {
    const { processors } = boot('jmp 0xffd\ntimes 0xffa nop\nmov eax, 0x12345678\nhlt');
    expect(processors[0]!.gpr(0)).toBe(0x12345678n);
  });

  test('is read as data, and writes change nothing', () => {
    const machine = boot('mov dword [cs:0x100], 0\nmov eax, [cs:0x100]\nmov ebx, [cs:0x100]\nhlt\ntimes 256 db 0x5a');
    expect(machine.processors[0]!.gpr(0)).toBe(0x5a5a5a5an);
    expect(machine.processors[0]!.gpr(3)).toBe(0x5a5a5a5an);
    machine.memory.write32(ROM_BASE, 0);
    expect(machine.memory.read32(ROM_BASE)).toBe(0xffffffff);
    expect(machine.memory.read8(ROM_BASE + ROM_SIZE - 16)).toBe(0xe9);
  });

  test('lies nowhere else', () => {
    const { memory } = boot('hlt');
    expect(memory.read32(ROM_BASE - 4)).toBe(0xffffffff);
    expect(memory.isRam(memory.ramSize)).toBe(false);
    expect(memory.read16(memory.ramSize + ROM_SIZE - 16)).toBe(0xffff);
    expect([memory.backing(0x100000), memory.backing(ROM_BASE), memory.addressOf(memory.backing(ROM_BASE))]).toEqual([
      -1,
      0x100000,
      ROM_BASE,
    ]);
  });

  test('has a size that pages have', () => {
    expect(() => new Machine({ processors: 1, ramSize: 0x100000, profile: 'pc', rom: new Uint8Array(5) })).toThrow(
      'ROM size',
    );
  });
});
