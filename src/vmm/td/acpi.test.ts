import { describe, expect, test } from 'vitest';
import { tdAcpiTables, tdMadtBody } from './acpi.ts';

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** The structures after the MADT's fixed part. */
function structures(body: Uint8Array): number[][] {
  const list: number[][] = [];
  for (let at = 8; at < body.length; at += body[at + 1]!) list.push([...body.subarray(at, at + body[at + 1]!)]);
  return list;
}

describe('a TD’s MADT', () => {
  test('has no 8259s, a local APIC for each processor, one I/O APIC, an edge for the SCI, and the mailbox', () => {
    const body = tdMadtBody(2, 0xffff7000, 0xffffffe0);
    expect(viewOf(body).getUint32(4, true)).toBe(0);
    expect(structures(body)).toEqual([
      [0, 8, 0, 0, 1, 0, 0, 0],
      [0, 8, 1, 1, 1, 0, 0, 0],
      [1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0],
      [2, 10, 0, 9, 9, 0, 0, 0, 5, 0],
      [0x10, 24, 1, 0, 0, 0, 0, 0, 0, 0x70, 0xff, 0xff, 0, 0, 0, 0, 0xe0, 0xff, 0xff, 0xff, 0, 0, 0, 0],
    ]);
  });

  test('names processors beyond id 254 by x2APIC structures', () => {
    const kinds = structures(tdMadtBody(257, 0, 0)).map(([type]) => type);
    expect(kinds.filter((type) => type === 9)).toHaveLength(2);
  });
});

test('the tables are found from the RSDP, with correct checksums', () => {
  const base = 0xe0000;
  const bytes = tdAcpiTables(base, 1, 0xffff7000, 0xffffffe0);
  const view = viewOf(bytes);
  const sum = (at: number, length: number) =>
    bytes.subarray(at, at + length).reduce((total, b) => (total + b) & 255, 0);
  const name = (at: number) => Buffer.from(bytes.subarray(at, at + 4)).toString();
  expect([sum(0, 20), sum(0, 36)]).toEqual([0, 0]);
  const xsdt = Number(view.getBigUint64(24, true)) - base;
  const found = [xsdt + 36, xsdt + 44].map((at) => Number(view.getBigUint64(at, true)) - base);
  const dsdt = Number(view.getBigUint64(found[0]! + 140, true)) - base;
  expect([xsdt, ...found, dsdt].map(name)).toEqual(['XSDT', 'FACP', 'APIC', 'DSDT']);
  const facs = Number(view.getBigUint64(found[0]! + 132, true)) - base;
  expect([name(facs), facs % 64]).toEqual(['FACS', 0]);
  for (const at of [xsdt, ...found, dsdt]) expect(sum(at, view.getUint32(at + 4, true))).toBe(0);
});
