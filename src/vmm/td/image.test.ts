import { describe, expect, test } from 'vitest';
import { MIB, makeBzImage, makeElf } from '../loaders/testing.ts';
import { buildTdImage, type TdImage, type TdInput } from './image.ts';
import { LEAST_TD_MEMORY, MAILBOX_ADDRESS, SHIM_ADDRESS, SHIM_END, TD_HOB_ADDRESS } from './layout.ts';

const input = (extra: Partial<TdInput> = {}): TdInput => ({
  kernel: makeBzImage(),
  kernelName: 'vmlinuz',
  commandLine: 'console=ttyS0',
  memorySize: LEAST_TD_MEMORY,
  cpus: 2,
  ...extra,
});

const region = (image: TdImage, name: string) => {
  const found = image.regions.find((candidate) => candidate.name === name);
  if (found === undefined) throw new Error(`no region ${name}`);
  return found;
};
const view = (image: TdImage, name: string): DataView => new DataView(region(image, name).data.buffer);

/** The HOB list as [type, view of the HOB]. */
function hobs(image: TdImage): [number, DataView][] {
  const { data } = region(image, 'TD HOB');
  const list: [number, DataView][] = [];
  for (let at = 0; ; ) {
    const header = new DataView(data.buffer, at);
    const [type, length] = [header.getUint16(0, true), header.getUint16(2, true)];
    list.push([type, new DataView(data.buffer, at, length)]);
    if (type === 0xffff) return list;
    at += length;
  }
}

describe('a TD’s initial memory', () => {
  const initrd = new Uint8Array(5000).fill(7);
  const image = buildTdImage(input({ initrd }));

  test('is whole pages in ascending order without overlap, all measured', () => {
    expect(image.regions.map(({ name }) => name)).toEqual([
      'boot_params',
      'TD HOB',
      'command line',
      'ACPI tables',
      'kernel',
      'initrd',
      'td-shim',
    ]);
    let next = 0;
    for (const { gpa, data, measured } of image.regions) {
      expect(gpa % 4096).toBe(0);
      expect(data.length % 4096).toBe(0);
      expect(gpa).toBeGreaterThanOrEqual(next);
      expect(measured).toBe(true);
      next = gpa + data.length;
    }
  });

  test('ends with the shim, whose last 16 bytes are the reset vector at 4 GiB - 16', () => {
    const { gpa, data } = region(image, 'td-shim');
    expect([gpa, gpa + data.length]).toEqual([SHIM_ADDRESS, SHIM_END]);
    // A near jump backwards.
    expect(data[data.length - 16]).toBe(0xe9);
    expect(new DataView(data.buffer).getInt32(data.length - 15, true)).toBeLessThan(0);
  });

  test('is the same bytes for the same input, and other bytes for another command line', () => {
    expect(buildTdImage(input({ initrd }))).toEqual(image);
    expect(buildTdImage(input({ initrd, commandLine: 'quiet' }))).not.toEqual(image);
  });

  test('boot_params point at command line, initrd and RSDP', () => {
    const params = view(image, 'boot_params');
    expect(params.getUint32(0x228, true)).toBe(region(image, 'command line').gpa);
    expect(params.getUint32(0x218, true)).toBe(region(image, 'initrd').gpa);
    expect(params.getUint32(0x21c, true)).toBe(initrd.length);
    const rsdp = Number(params.getBigUint64(0x70, true));
    expect(rsdp).toBe(region(image, 'ACPI tables').gpa);
    expect(Buffer.from(region(image, 'ACPI tables').data.subarray(0, 8)).toString()).toBe('RSD PTR ');
  });

  test('e820: RAM, ACPI tables as type 3, the shim with its mailbox as type 4, nothing of type 2', () => {
    const params = view(image, 'boot_params');
    const map = Array.from({ length: params.getUint8(0x1e8) }, (_, n) => {
      const at = 0x2d0 + 20 * n;
      return [params.getBigUint64(at, true), params.getBigUint64(at + 8, true), params.getUint32(at + 16, true)];
    });
    expect(map).toEqual([
      [0n, 0xa0000n, 1],
      [0xe0000n, 0x20000n, 3],
      [0x100000n, BigInt(LEAST_TD_MEMORY - MIB), 1],
      [BigInt(SHIM_ADDRESS), 0x9000n, 4],
    ]);
    expect(MAILBOX_ADDRESS).toBeGreaterThanOrEqual(SHIM_ADDRESS);
  });

  test('the HOBs cover all RAM once: what was added as system memory, the rest as unaccepted', () => {
    let next = 0;
    for (const [type, hob] of hobs(image)) {
      if (type !== 3) continue;
      const [start, length] = [Number(hob.getBigUint64(32, true)), Number(hob.getBigUint64(40, true))];
      expect(start).toBe(next);
      next = start + length;
      const added = hob.getUint32(24, true) === 0;
      const inside = image.regions.filter(({ gpa }) => gpa >= start && gpa < next);
      expect(inside.length > 0).toBe(added);
      const bytes = inside.reduce((sum, { data }) => sum + data.length, 0);
      expect(bytes).toBe(added ? length : 0);
    }
    expect(next).toBe(LEAST_TD_MEMORY);
  });

  test('the HOB list begins with the hand-off HOB, which says where it ends', () => {
    const list = hobs(image);
    const size = list.reduce((sum, [, hob]) => sum + hob.byteLength, 0);
    expect(list[0]![0]).toBe(1);
    expect(Number(list[0]![1].getBigUint64(32, true))).toBe(TD_HOB_ADDRESS + size);
    expect(image.hob).toBe(TD_HOB_ADDRESS);
  });
});

describe('what cannot be a TD', () => {
  test.each<[string, Partial<TdInput>, string]>([
    ['an empty kernel', { kernel: new Uint8Array(0) }, 'ERR_SOFTVT_BAD_KERNEL'],
    ['an ELF kernel', { kernel: makeElf({ pvhEntry: MIB }) }, 'ERR_SOFTVT_BAD_KERNEL'],
    ['too little memory', { memorySize: LEAST_TD_MEMORY - MIB }, 'ERR_SOFTVT_TOO_LITTLE_MEMORY'],
    ['an initrd that does not fit', { initrd: new Uint8Array(LEAST_TD_MEMORY) }, 'ERR_SOFTVT_TOO_LITTLE_MEMORY'],
  ])('%s', (_, extra, code) => {
    expect(() => buildTdImage(input(extra))).toThrow(expect.objectContaining({ code }));
  });
});
