import { describe, expect, test } from 'vitest';
import { loadKernel } from './kernel.ts';
import { bootInput, MIB, makeElf, makeMultiboot } from './testing.ts';

const u32 = (bytes: Uint8Array, at = 0): number => new DataView(bytes.buffer).getUint32(at, true);

describe('ELF with a PVH note', () => {
  const content = Uint8Array.of(1, 2, 3, 4);

  test.each([32, 64] as const)('%i-bit: segments at their physical addresses, entry by the note', (bits) => {
    const { memory, input } = bootInput(
      makeElf({ bits, content, address: 2 * MIB, memorySize: 64, pvhEntry: 2 * MIB + 1 }),
    );
    const { format, entry } = loadKernel(memory, input);
    expect(format).toBe('ELF/PVH');
    expect(entry).toMatchObject({ mode: 'protected', rip: 2 * MIB + 1, rbx: 0x7000 });
    expect(memory.read(2 * MIB, 5)).toEqual(Uint8Array.of(1, 2, 3, 4, 0));
  });

  test('hvm_start_info names command line, RSDP, initrd and memory map', () => {
    const initrd = new Uint8Array(100).fill(9);
    const { memory, input } = bootInput(makeElf({ content, pvhEntry: MIB }), { initrd });
    loadKernel(memory, input);
    const info = memory.read(0x7000, 56);
    expect([u32(info), u32(info, 4), u32(info, 12)]).toEqual([0x336ec578, 1, 1]);
    const modules = u32(info, 16);
    expect(u32(info, 24)).toBe(0x20000);
    expect(u32(info, 32)).toBe(0xe0000);
    const module = memory.read(modules, 32);
    expect(u32(module, 8)).toBe(100);
    expect(memory.read(u32(module), 100)).toEqual(initrd);
    const map = memory.read(u32(info, 40), 24 * u32(info, 48));
    expect(u32(info, 48)).toBe(5);
    expect([u32(map, 72), u32(map, 80), u32(map, 88)]).toEqual([MIB, 63 * MIB, 1]);
  });

  test.each([
    ['no note', makeElf(), 'has no PVH note'],
    ['another machine', makeElf({ machine: 183 }), 'another processor (machine 183)'],
    ['an object file', makeElf({ type: 1 }), 'an object file'],
    ['below 1 MiB', makeElf({ address: 0x8000, pvhEntry: 0x8000 }), 'below 1 MiB'],
    ['cut off', makeElf({ content, pvhEntry: MIB }).subarray(0, -2), 'truncated'],
    ['header only', makeElf({ pvhEntry: MIB }).subarray(0, 60), 'truncated'],
    ['larger in file than in memory', makeElf({ content, memorySize: 2, pvhEntry: MIB }), 'corrupt'],
    ['too large', makeElf({ memorySize: 80 * MIB, pvhEntry: MIB }), 'too little for this kernel'],
  ])('refused: %s', (_, kernel, message) => {
    const { memory, input } = bootInput(kernel);
    expect(() => loadKernel(memory, input)).toThrow(message);
  });
});

describe('Multiboot', () => {
  const code = Uint8Array.of(0xfa, 0xf4);

  test('an image with addresses in its header lies where it says, entered with the magic in EAX', () => {
    const { memory, input } = bootInput(makeMultiboot(code));
    const { format, entry } = loadKernel(memory, input);
    expect(format).toBe('Multiboot');
    expect(entry).toMatchObject({ mode: 'protected', rax: 0x2badb002, rbx: 0x7000 });
    expect(memory.read(entry.rip, 2)).toEqual(code);
  });

  test('a 32-bit ELF image is loaded by its segments', () => {
    const header = makeMultiboot(code, { flags: 3, padding: 0 });
    const { memory, input } = bootInput(makeElf({ bits: 32, machine: 3, content: header }));
    expect(loadKernel(memory, input).entry.rip).toBe(MIB);
    expect(memory.read(MIB, 4)).toEqual(header.slice(0, 4));
  });

  test('boot information holds memory sizes, command line, module and memory map', () => {
    const initrd = Uint8Array.of(5, 6, 7);
    const { memory, input } = bootInput(makeMultiboot(code), { initrd, initrdName: 'rd' });
    loadKernel(memory, input);
    const info = memory.read(0x7000, 116);
    expect(u32(info)).toBe(0x24d);
    expect([u32(info, 4), u32(info, 8)]).toEqual([639, 63 * 1024]);
    const text = (at: number, length: number) => new TextDecoder().decode(memory.read(at, length));
    expect(text(u32(info, 16), 22)).toBe('vmlinuz console=ttyS0\0');
    const module = memory.read(u32(info, 24), 16);
    expect(u32(info, 20)).toBe(1);
    expect(memory.read(u32(module), u32(module, 4) - u32(module))).toEqual(initrd);
    expect(text(u32(module, 8), 3)).toBe('rd\0');
    const map = memory.read(u32(info, 48), u32(info, 44));
    expect([u32(map), u32(map, 4), u32(map, 20)]).toEqual([20, 0, 1]);
    expect(text(u32(info, 64), 7)).toBe('softvt\0');
  });

  test('further modules lie behind the initrd, each with its text', () => {
    const initrd = Uint8Array.of(5, 6, 7);
    const modules = [
      { data: new Uint8Array(5000).fill(9), text: 'one a=b' },
      { data: Uint8Array.of(1), text: 'two' },
    ];
    const { memory, input } = bootInput(makeMultiboot(code), { initrd, modules });
    loadKernel(memory, input);
    const info = memory.read(0x7000, 116);
    expect(u32(info, 20)).toBe(3);
    const list = memory.read(u32(info, 24), 48);
    const entries = [0, 16, 32].map((at) => ({ from: u32(list, at), to: u32(list, at + 4), text: u32(list, at + 8) }));
    expect(entries.map(({ from }) => from % 4096)).toEqual([0, 0, 0]);
    expect(entries.map(({ from, to }) => memory.read(from, to - from))).toEqual([
      initrd,
      ...modules.map((m) => m.data),
    ]);
    const text = (at: number) => new TextDecoder().decode(memory.read(at, 8)).split('\0')[0];
    expect(entries.map((entry) => text(entry.text))).toEqual(['initrd', 'one a=b', 'two']);
    const map = memory.read(u32(info, 48), 24);
    expect([u32(map), u32(map, 20)]).toEqual([20, 1]);
  });

  test('modules of anything else are refused', () => {
    const { memory, input } = bootInput(makeElf({ content: code }), { modules: [{ data: code, text: 'm' }] });
    expect(() => loadKernel(memory, input)).toThrow('modules are for Multiboot images');
  });

  test.each([
    ['unknown demands', makeMultiboot(code, { flags: 0x10008 }), 'demands features'],
    ['below 1 MiB', makeMultiboot(code, { loadAddress: 0x1000 }), 'below 1 MiB'],
    ['neither ELF nor addresses', makeMultiboot(code, { flags: 3 }), 'neither ELF'],
    ['64-bit ELF', makeElf({ content: makeMultiboot(code, { flags: 3 }) }), '64-bit ELF'],
    ['header cut off', makeMultiboot(code, { padding: 0 }).subarray(0, 20), 'cut off'],
  ])('refused: %s', (_, kernel, message) => {
    const { memory, input } = bootInput(kernel);
    expect(() => loadKernel(memory, input)).toThrow(message);
  });
});
