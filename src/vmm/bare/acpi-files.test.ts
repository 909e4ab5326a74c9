import { expect, test } from 'vitest';
import { FirmwareConfig } from '../../devices/fw-cfg.ts';
import { addAcpiFiles } from './acpi-files.ts';

const PLACES: Readonly<Record<string, number>> = { 'etc/acpi/rsdp': 0xf0000, 'etc/acpi/tables': 0x3f0000 };

class Files extends FirmwareConfig {
  readonly files: Record<string, Uint8Array> = {};
  override file(name: string, content: Uint8Array): void {
    this.files[name] = content;
  }
}

const sum = (bytes: Uint8Array): number => bytes.reduce((total, byte) => (total + byte) & 0xff, 0);

test('firmware that follows the script has tables whose pointers and checksums are right', () => {
  const config = new Files();
  addAcpiFiles(config, 3);
  const files = config.files;
  const script = files['etc/table-loader']!;
  const view = new DataView(script.buffer, script.byteOffset);
  const name = (at: number): string => String.fromCharCode(...script.subarray(at, script.indexOf(0, at)));
  for (let at = 0; at < script.length; at += 128) {
    const file = files[name(at + 4)]!;
    const bytes = new DataView(file.buffer, file.byteOffset);
    if (view.getUint32(at, true) === 2) {
      const offset = view.getUint32(at + 116, true);
      bytes.setUint32(offset, bytes.getUint32(offset, true) + PLACES[name(at + 60)]!, true);
    } else if (view.getUint32(at, true) === 3) {
      const [where, start, length] = [60, 64, 68].map((n) => view.getUint32(at + n, true)) as [number, number, number];
      file[where] = -sum(file.subarray(start, start + length)) & 0xff;
    }
  }
  const rsdp = files['etc/acpi/rsdp']!;
  const tables = files['etc/acpi/tables']!;
  const all = new DataView(tables.buffer, tables.byteOffset);
  const root = new DataView(rsdp.buffer, rsdp.byteOffset);
  expect([sum(rsdp.subarray(0, 20)), sum(rsdp)]).toEqual([0, 0]);
  const table = (address: number): string => {
    const at = address - PLACES['etc/acpi/tables']!;
    const signature = String.fromCharCode(...tables.subarray(at, at + 4));
    expect(sum(tables.subarray(at, at + all.getUint32(at + 4, true))), signature).toBe(
      signature === 'FACS' ? expect.anything() : 0,
    );
    return signature;
  };
  expect([table(root.getUint32(16, true)), table(root.getUint32(24, true))]).toEqual(['RSDT', 'XSDT']);
  const rsdt = root.getUint32(16, true) - PLACES['etc/acpi/tables']!;
  expect([36, 40].map((n) => table(all.getUint32(rsdt + n, true)))).toEqual(['FACP', 'APIC']);
  const fadt = all.getUint32(rsdt + 36, true) - PLACES['etc/acpi/tables']!;
  expect(table(all.getUint32(fadt + 40, true))).toBe('DSDT');
  expect(all.getBigUint64(fadt + 140, true)).toBe(BigInt(all.getUint32(fadt + 40, true)));
});
