import { describe, expect, test } from 'vitest';
import { PortBus } from '../../devices/bus.ts';
import { tdAcpiTables, tdFadtBody, tdMadtBody } from './acpi.ts';
import { SleepControl } from './sleep-control.ts';

const HEADER = 36;
const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** The structures after the MADT's fixed part. */
function structures(body: Uint8Array): number[][] {
  const list: number[][] = [];
  for (let at = 8; at < body.length; at += body[at + 1]!) list.push([...body.subarray(at, at + body[at + 1]!)]);
  return list;
}

describe('a TD’s MADT', () => {
  test('has no 8259s, a local APIC for each processor, one I/O APIC and the mailbox', () => {
    const body = tdMadtBody(2, 0xffff8000);
    expect(viewOf(body).getUint32(4, true)).toBe(0);
    expect(structures(body)).toEqual([
      [0, 8, 0, 0, 1, 0, 0, 0],
      [0, 8, 1, 1, 1, 0, 0, 0],
      [1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0],
      [0x10, 16, 0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0xff, 0, 0, 0, 0],
    ]);
  });

  test('names processors beyond id 254 by x2APIC structures', () => {
    const kinds = structures(tdMadtBody(257, 0)).map(([type]) => type);
    expect(kinds.filter((type) => type === 9)).toHaveLength(2);
  });
});

describe('a TD’s FADT', () => {
  const fadt = viewOf(new Uint8Array([...new Uint8Array(HEADER), ...tdFadtBody(0x1000)]));

  test('is of the hardware-reduced kind: no SCI, no SMI command, no PM blocks', () => {
    expect(fadt.byteLength).toBe(276);
    expect(fadt.getUint32(112, true) & (1 << 20)).not.toBe(0);
    expect(fadt.getUint16(46, true)).toBe(0);
    for (let at = 48; at < 96; at += 4) expect(fadt.getUint32(at, true)).toBe(0);
    for (let at = 148; at < 244; at += 4) expect(fadt.getUint32(at, true)).toBe(0);
  });

  test('names reset register, sleep control and sleep status as ports', () => {
    const register = (at: number) => [fadt.getUint8(at), Number(fadt.getBigUint64(at + 4, true))];
    expect(register(116)).toEqual([1, 0xcf9]);
    expect(fadt.getUint8(128)).toBe(0x0e);
    expect(register(244)).toEqual([1, 0x600]);
    expect(register(256)).toEqual([1, 0x601]);
    expect(fadt.getBigUint64(140, true)).toBe(0x1000n);
  });
});

test('the tables are found from the RSDP, with correct checksums', () => {
  const base = 0xe0000;
  const bytes = tdAcpiTables(base, 1, 0xffff8000);
  const view = viewOf(bytes);
  const sum = (at: number, length: number) =>
    bytes.subarray(at, at + length).reduce((total, b) => (total + b) & 255, 0);
  const name = (at: number) => Buffer.from(bytes.subarray(at, at + 4)).toString();
  expect([sum(0, 20), sum(0, 36)]).toEqual([0, 0]);
  const xsdt = Number(view.getBigUint64(24, true)) - base;
  const found = [xsdt + 36, xsdt + 44].map((at) => Number(view.getBigUint64(at, true)) - base);
  const dsdt = Number(view.getBigUint64(found[0]! + 140, true)) - base;
  expect([xsdt, ...found, dsdt].map(name)).toEqual(['XSDT', 'FACP', 'APIC', 'DSDT']);
  for (const at of [xsdt, ...found, dsdt]) expect(sum(at, view.getUint32(at + 4, true))).toBe(0);
});

test('the sleep control register puts the machine to sleep when SLP_EN is written, with the type beside it', () => {
  const ports = new PortBus();
  const types: number[] = [];
  new SleepControl({ sleep: (type) => types.push(type) }).attach(ports);
  ports.write(0x601, 1, 0x80);
  ports.write(0x600, 1, 5 << 2);
  expect(types).toEqual([]);
  ports.write(0x600, 1, (5 << 2) | 0x20);
  expect(types).toEqual([5]);
  expect(ports.read(0x601, 1)).toBe(0);
});
