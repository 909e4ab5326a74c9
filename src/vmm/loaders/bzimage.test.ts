import { describe, expect, test } from 'vitest';
import { loadKernel } from './kernel.ts';
import { bootInput, MIB, makeBzImage } from './testing.ts';

const u32 = (bytes: Uint8Array, at = 0): number => new DataView(bytes.buffer).getUint32(at, true);

describe('bzImage', () => {
  test('xloadflags bit 0 tells of the 64-bit entry, 0x200 behind the loaded kernel, with boot_params in RSI', () => {
    const { memory, input } = bootInput(makeBzImage());
    const { format, entry } = loadKernel(memory, input);
    expect(format).toBe('bzImage');
    expect(entry).toMatchObject({ mode: 'long', rip: MIB + 0x200, rsi: 0x7000, cr3: 0x9000 });
    expect(entry.code).toMatchObject({ selector: 0x10, long: true, big: false });
    expect(memory.read(MIB, 2)).toEqual(Uint8Array.of(0x90, 0x90));
  });

  test.each([
    ['without it', (header: DataView) => header.setUint16(0x236, 0, true)],
    ['by a protocol that has none', (header: DataView) => header.setUint16(0x206, 0x20b, true)],
  ])('%s the kernel is entered at its beginning in 32-bit mode', (_, change) => {
    const { memory, input } = bootInput(makeBzImage(change));
    const { entry } = loadKernel(memory, input);
    expect(entry).toMatchObject({ mode: 'protected', rip: MIB, rsi: 0x7000, cr3: 0 });
    expect(entry.code).toMatchObject({ selector: 0x10, long: false, big: true });
  });

  test('the identity map of the 64-bit entry covers 4 GiB', () => {
    const { memory, input } = bootInput(makeBzImage());
    loadKernel(memory, input);
    expect(u32(memory.read(0x9000, 8))).toBe(0xa003);
    expect(u32(memory.read(0xa018, 8))).toBe(0xe003);
    expect(u32(memory.read(0xeff8, 8))).toBe(0xffe00083);
  });

  test('boot_params holds header, loader id, command line, E820 map and RSDP', () => {
    const { memory, input } = bootInput(makeBzImage());
    loadKernel(memory, input);
    const params = memory.read(0x7000, 0x1000);
    expect(u32(params, 0x202)).toBe(0x53726448);
    expect(params[0x210]).toBe(0xff);
    expect(u32(params, 0x214)).toBe(MIB);
    expect(u32(params, 0x228)).toBe(0x20000);
    expect(u32(params, 0x70)).toBe(0xe0000);
    expect(params[0x1e8]).toBe(5);
    expect(u32(params, 0x2d0 + 3 * 20)).toBe(MIB);
    expect(u32(params, 0x2d0 + 3 * 20 + 8)).toBe(63 * MIB);
    expect(new TextDecoder().decode(memory.read(0x20000, 14))).toBe('console=ttyS0\0');
  });

  test('the header is copied exactly as far as its jump says', () => {
    const { memory, input } = bootInput(makeBzImage((_, file) => file.fill(0x55, 0x26c, 0x400)));
    loadKernel(memory, input);
    expect(memory.read(0x7000 + 0x26c, 4)).toEqual(new Uint8Array(4));
  });

  test('the initrd lies page-aligned at the top of RAM, or below initrd_addr_max', () => {
    const initrd = new Uint8Array(5000).fill(7);
    const top = bootInput(makeBzImage(), { initrd });
    loadKernel(top.memory, top.input);
    const params = top.memory.read(0x7000, 0x1000);
    expect(u32(params, 0x218)).toBe(64 * MIB - 0x2000);
    expect(u32(params, 0x21c)).toBe(5000);
    expect(top.memory.read(64 * MIB - 0x2000, 5000)).toEqual(initrd);

    const limited = bootInput(
      makeBzImage((header) => header.setUint32(0x22c, 32 * MIB - 1, true)),
      { initrd },
    );
    loadKernel(limited.memory, limited.input);
    expect(u32(limited.memory.read(0x7000, 0x1000), 0x218)).toBe(32 * MIB - 0x2000);
  });
});

describe('a bzImage that cannot be a guest is refused in one line', () => {
  const refuse = (kernel: Uint8Array, extra = {}, size?: number) => {
    const { memory, input } = bootInput(kernel, extra, size);
    return () => loadKernel(memory, input);
  };
  test.each([
    ['empty', new Uint8Array(0), 'the kernel file is empty'],
    ['text', new TextEncoder().encode('#!/bin/sh\n'.repeat(100)), 'not a kernel'],
    ['cut off in its header', makeBzImage().subarray(0, 0x230), 'cut off inside its setup header'],
    ['truncated', makeBzImage().subarray(0, 0x700), 'the kernel is truncated'],
    ['of an old protocol', makeBzImage((h) => h.setUint16(0x206, 0x209, true)), 'not 2.10 or later'],
    ['a zImage', makeBzImage((h) => h.setUint8(0x211, 0)), 'zImage'],
    ['without known payload', makeBzImage((_, f) => f.fill(0, 0x500, 0x510)), 'the kernel is corrupt'],
    ['with a payload beyond its end', makeBzImage((h) => h.setUint32(0x24c, 1 << 20, true)), 'payload'],
  ])('%s', (_, kernel, message) => {
    expect(refuse(kernel)).toThrow(message);
    expect(refuse(kernel)).not.toThrow('\n');
  });

  test('too little memory, with the size that would do', () => {
    expect(refuse(makeBzImage(), {}, 16 * MIB)).toThrow('16M of memory is too little for this kernel');
    expect(refuse(makeBzImage(), {}, 16 * MIB)).toThrow(expect.objectContaining({ hint: '--memory 24M or more' }));
  });

  test('an initrd larger than memory', () => {
    expect(refuse(makeBzImage(), { initrd: new Uint8Array(48 * MIB) })).toThrow(
      '64M of memory is too little for an initrd of 48M',
    );
  });

  test('an initrd larger than the kernel can address', () => {
    const kernel = makeBzImage((header) => header.setUint32(0x22c, 25 * MIB - 1, true));
    expect(refuse(kernel, { initrd: new Uint8Array(4 * MIB) })).toThrow('larger than this kernel can take');
  });

  test('a command line longer than the kernel takes', () => {
    expect(refuse(makeBzImage(), { commandLine: 'x'.repeat(2048) })).toThrow('this kernel takes 2047');
    expect(refuse(makeBzImage(), { commandLine: 'x'.repeat(2047) })).not.toThrow();
  });
});
