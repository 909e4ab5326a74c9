import { describe, expect, test } from 'vitest';
import { ArrayGuestMemory } from '../guest-memory.ts';
import { eisaId, integer, packageOf, resources } from './aml.ts';
import { dsdtAml } from './dsdt.ts';
import { writeAcpiTables } from './tables.ts';

const MIB = 0x100000;

/** Reads the tables as an operating system does: from a scan of the BIOS area, knowing nothing else. */
function scan(memory: ArrayGuestMemory) {
  const view = new DataView(memory.bytes.buffer);
  const text = (at: number, length: number) => String.fromCharCode(...memory.bytes.subarray(at, at + length));
  const sum = (at: number, length: number) =>
    memory.bytes.subarray(at, at + length).reduce((total, byte) => (total + byte) & 0xff, 0);
  let rsdp = 0xe0000;
  while (rsdp < 0x100000 && text(rsdp, 8) !== 'RSD PTR ') rsdp += 16;
  expect(sum(rsdp, 20)).toBe(0);
  expect(sum(rsdp, view.getUint32(rsdp + 20, true))).toBe(0);
  const xsdt = Number(view.getBigUint64(rsdp + 24, true));
  const rsdt = view.getUint32(rsdp + 16, true);
  const tables = new Map<string, DataView>();
  const add = (address: number) => {
    const length = view.getUint32(address + 4, true);
    expect(sum(address, length)).toBe(0);
    tables.set(text(address, 4), new DataView(memory.bytes.buffer, address, length));
  };
  const entries = (view.getUint32(xsdt + 4, true) - 36) / 8;
  for (let n = 0; n < entries; n++) {
    const address = Number(view.getBigUint64(xsdt + 36 + n * 8, true));
    expect(view.getUint32(rsdt + 36 + n * 4, true)).toBe(address);
    add(address);
  }
  add(xsdt);
  add(rsdt);
  add(view.getUint32(tables.get('FACP')!.byteOffset + 40, true));
  return { rsdp, tables, facs: view.getUint32(tables.get('FACP')!.byteOffset + 36, true) };
}

describe('ACPI tables', () => {
  const memory = new ArrayGuestMemory(2 * MIB);
  const address = writeAcpiTables(memory, 3);
  const { rsdp, tables, facs } = scan(memory);

  test('the RSDP is found by scan where boot_params says it is', () => {
    expect(rsdp).toBe(address);
  });

  test('all tables are there, with correct checksums, within the firmware area', () => {
    expect([...tables.keys()].sort()).toEqual(['APIC', 'DSDT', 'FACP', 'RSDT', 'XSDT']);
    for (const { byteOffset, byteLength } of tables.values()) {
      expect(byteOffset).toBeGreaterThanOrEqual(0xe0000);
      expect(byteOffset + byteLength).toBeLessThan(0x100000);
    }
  });

  test('the FADT of revision 6.0 has PM1a, the PM timer, the reset register and no SMI command', () => {
    const fadt = tables.get('FACP')!;
    expect(fadt.byteLength).toBe(276);
    expect(fadt.getUint8(8)).toBe(6);
    expect(fadt.getUint32(48, true)).toBe(0);
    expect(fadt.getUint32(56, true)).toBe(0x600);
    expect(fadt.getUint32(64, true)).toBe(0x604);
    expect(fadt.getUint32(76, true)).toBe(0x608);
    expect([fadt.getUint8(88), fadt.getUint8(89), fadt.getUint8(91)]).toEqual([4, 2, 4]);
    expect(fadt.getUint32(112, true) & (1 << 10)).not.toBe(0);
    expect([fadt.getUint8(116), fadt.getUint8(117), fadt.getUint8(128)]).toEqual([1, 8, 0x0e]);
    expect(fadt.getBigUint64(120, true)).toBe(0xcf9n);
    expect(fadt.getBigUint64(152, true)).toBe(0x600n);
    expect(fadt.getBigUint64(176, true)).toBe(0x604n);
    expect(fadt.getBigUint64(212, true)).toBe(0x608n);
    expect(fadt.getBigUint64(140, true)).toBe(BigInt(tables.get('DSDT')!.byteOffset));
  });

  test('the FACS is aligned to 64 bytes and marked', () => {
    expect(facs % 64).toBe(0);
    expect(memory.read(facs, 8)).toEqual(Uint8Array.of(0x46, 0x41, 0x43, 0x53, 64, 0, 0, 0));
  });

  test('the MADT lists every processor, the IOAPIC and the overrides of timer and SCI', () => {
    const madt = tables.get('APIC')!;
    const found: Record<number, number[][]> = {};
    for (let at = 44; at < madt.byteLength; at += madt.getUint8(at + 1)) {
      const bytes = [...memory.read(madt.byteOffset + at, madt.getUint8(at + 1))];
      found[bytes[0]!] = [...(found[bytes[0]!] ?? []), bytes];
    }
    expect(madt.getUint32(36, true)).toBe(0xfee00000);
    expect(found[0]).toEqual([0, 1, 2].map((id) => [0, 8, id, id, 1, 0, 0, 0]));
    expect(found[1]).toEqual([[1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]]);
    expect(found[2]).toEqual([
      [2, 10, 0, 0, 2, 0, 0, 0, 0, 0],
      [2, 10, 0, 9, 9, 0, 0, 0, 0xd, 0],
    ]);
    expect(found[4]).toEqual([[4, 6, 0xff, 0, 0, 1]]);
  });

  test('processors beyond id 254 get x2APIC structures', () => {
    const many = new ArrayGuestMemory(2 * MIB);
    writeAcpiTables(many, 300);
    const madt = scan(many).tables.get('APIC')!;
    const kinds: number[] = [];
    for (let at = 44; at < madt.byteLength; at += madt.getUint8(at + 1)) kinds.push(madt.getUint8(at));
    expect(kinds.filter((kind) => kind === 0)).toHaveLength(255);
    expect(kinds.filter((kind) => kind === 9)).toHaveLength(45);
  });
});

describe('AML', () => {
  test('\\_S5 is a package that begins with the sleep type', () => {
    const start = [0x08, 0x5c, 0x5f, 0x53, 0x35, 0x5f, 0x12, 0x08, 0x04, 0x0a, 5, 0x0a, 5, 0, 0];
    expect([...dsdtAml().subarray(0, start.length)]).toEqual(start);
  });

  test('integers take the shortest form', () => {
    expect([...integer(1)]).toEqual([1]);
    expect([...integer(0x80)]).toEqual([0x0a, 0x80]);
    expect([...integer(0x1234)]).toEqual([0x0b, 0x34, 0x12]);
    expect([...integer(0x12345678)]).toEqual([0x0c, 0x78, 0x56, 0x34, 0x12]);
    expect([...integer(2 ** 40)]).toEqual([0x0e, 0, 0, 0, 0, 0, 1, 0, 0]);
  });

  test('EISA ids are compressed big-endian', () => {
    expect([...eisaId('PNP0501')]).toEqual([0x0c, 0x41, 0xd0, 0x05, 0x01]);
  });

  test('package lengths count themselves, in one byte below 64 and in two above', () => {
    expect([...packageOf(integer(0))]).toEqual([0x12, 3, 1, 0]);
    const long = packageOf(...Array.from({ length: 70 }, () => integer(0)));
    expect([...long.subarray(0, 4)]).toEqual([0x12, 0x40 | (73 & 0xf), 73 >> 4, 70]);
  });

  test('resource templates end in an end tag', () => {
    expect([...resources()]).toEqual([0x11, 5, 0x0a, 2, 0x79, 0]);
  });
});
