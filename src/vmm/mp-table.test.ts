import { expect, test } from 'vitest';
import { ArrayGuestMemory } from './guest-memory.ts';
import { writeMpTable } from './mp-table.ts';

const SIZES = [20, 8, 8, 8, 8];

test('the MP table is found by scan, with correct checksums, and lists what there is', () => {
  const memory = new ArrayGuestMemory(0x100000);
  writeMpTable(memory, 3);
  const { bytes } = memory;
  const view = new DataView(bytes.buffer);
  const sum = (at: number, length: number) => bytes.subarray(at, at + length).reduce((a, b) => (a + b) & 0xff, 0);
  const text = (at: number, length: number) => String.fromCharCode(...bytes.subarray(at, at + length));
  let pointer = 0xf0000;
  while (pointer < 0x100000 && text(pointer, 4) !== '_MP_') pointer += 16;
  expect(sum(pointer, 16)).toBe(0);
  const table = view.getUint32(pointer + 4, true);
  expect(text(table, 4)).toBe('PCMP');
  expect(sum(table, view.getUint16(table + 4, true))).toBe(0);
  expect(view.getUint32(table + 36, true)).toBe(0xfee00000);

  const entries: number[][] = [];
  let at = table + 44;
  for (let n = 0; n < view.getUint16(table + 34, true); n++) {
    const size = SIZES[bytes[at]!]!;
    entries.push([...bytes.subarray(at, at + size)]);
    at += size;
  }
  expect(at).toBe(table + view.getUint16(table + 4, true));
  const ofType = (type: number) => entries.filter(([first]) => first === type);
  expect(ofType(0).map(([, id, , flags]) => [id, flags])).toEqual([
    [0, 3],
    [1, 1],
    [2, 1],
  ]);
  expect(ofType(2)).toEqual([[2, 3, 0x11, 1, 0, 0, 0xc0, 0xfe]]);
  const interrupts = ofType(3);
  expect(interrupts).toHaveLength(15);
  expect(interrupts[0]!.slice(4)).toEqual([0, 0, 3, 2]);
  expect(
    interrupts.every(
      ([, type, , , bus, irq, ioapic, pin]) =>
        type === 0 && bus === 0 && ioapic === 3 && (irq === 0 ? pin === 2 : pin === irq),
    ),
  ).toBe(true);
  expect(ofType(4).map((entry) => [entry[1], entry[6], entry[7]])).toEqual([
    [3, 0, 0],
    [1, 0xff, 1],
  ]);
});
