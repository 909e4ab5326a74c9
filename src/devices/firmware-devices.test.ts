import { describe, expect, test } from 'vitest';
import { PortBus } from './bus.ts';
import { DebugConsole } from './debug-console.ts';
import { FirmwareConfig } from './fw-cfg.ts';
import { hostBridge, ideController, PciBus } from './pci.ts';
import { ResetControl } from './reset.ts';

test('the debug port is found by reading it, and takes text', () => {
  const bus = new PortBus();
  let text = '';
  new DebugConsole({ transmit: (byte) => (text += String.fromCharCode(byte)) }).attach(bus);
  expect(bus.read(0x402, 1)).toBe(0xe9);
  for (const byte of [0x68, 0x69]) bus.write(0x402, 1, byte);
  expect(text).toBe('hi');
});

describe('firmware configuration', () => {
  function make() {
    const bus = new PortBus();
    const config = new FirmwareConfig();
    config.number(5, 4, 2);
    config.file('etc/one', Uint8Array.of(1, 2, 3));
    config.numberFile('etc/two', 0x3f8);
    config.attach(bus);
    const item = (number: number, length: number): number[] => {
      bus.write(0x510, 2, number);
      return Array.from({ length }, () => bus.read(0x511, 1));
    };
    return { bus, item };
  }

  test('is found by its signature and says that it has two registers only', () => {
    const { item } = make();
    expect(item(0, 5)).toEqual([...'QEMU'].map((c) => c.charCodeAt(0)).concat(0));
    expect(item(1, 4)).toEqual([1, 0, 0, 0]);
  });

  test('items are read byte by byte from their start, and as zeros behind their end', () => {
    const { item } = make();
    expect(item(5, 4)).toEqual([4, 0, 0, 0]);
    expect(item(5, 1)).toEqual([4]);
    expect(item(0x7777, 2)).toEqual([0, 0]);
  });

  test('the directory names files with sizes and items, highest byte first', () => {
    const { item } = make();
    const directory = item(0x19, 4 + 2 * 64);
    expect(directory.slice(0, 4)).toEqual([0, 0, 0, 2]);
    expect(directory.slice(4, 12)).toEqual([0, 0, 0, 3, 0, 0x20, 0, 0]);
    expect(String.fromCharCode(...directory.slice(12, 20))).toBe('etc/one\0');
    expect(directory.slice(68, 76)).toEqual([0, 0, 0, 8, 0, 0x21, 0, 0]);
    expect(item(0x20, 4)).toEqual([1, 2, 3, 0]);
    expect(item(0x21, 8)).toEqual([0xf8, 3, 0, 0, 0, 0, 0, 0]);
  });
});

describe('PCI configuration', () => {
  function make() {
    const bus = new PortBus();
    const pci = new PciBus();
    pci.add(0, 0, hostBridge());
    pci.add(1, 0, ideController());
    pci.attach(bus);
    const resets: boolean[] = [];
    new ResetControl({ reset: (hard) => resets.push(hard) }).attach(bus);
    const select = (device: number, register: number, busNumber = 0): void =>
      bus.write(0xcf8, 4, (0x8000_0000 | (busNumber << 16) | (device << 11) | register) >>> 0);
    return { bus, resets, select, pci };
  }

  test('the address register can be read back, and only as a whole', () => {
    const { bus, select, resets } = make();
    select(1, 0x3c);
    expect(bus.read(0xcf8, 4)).toBe(0x8000_083c);
    bus.write(0xcf9, 1, 6);
    expect(resets).toEqual([true]);
    expect(bus.read(0xcf8, 4)).toBe(0x8000_083c);
  });

  test('functions say who they are; where none is, all ones', () => {
    const { bus, select } = make();
    select(0, 0);
    expect(bus.read(0xcfc, 4)).toBe(0x1237_8086);
    expect(bus.read(0xcfe, 2)).toBe(0x1237);
    select(0, 0x2c);
    expect(bus.read(0xcfc, 4)).toBe(0x1100_1af4);
    select(1, 8);
    expect(bus.read(0xcfc, 4)).toBe(0x0101_0000);
    for (const [device, number] of [
      [2, 0],
      [0, 1],
    ] as const) {
      select(device, 0, number);
      expect(bus.read(0xcfc, 4)).toBe(0xffff_ffff);
    }
    bus.write(0xcf8, 4, 0);
    expect(bus.read(0xcfc, 4)).toBe(0xffff_ffff);
  });

  test('software changes what is writable, and nothing else', () => {
    const { bus, select } = make();
    select(0, 0x58);
    bus.write(0xcfd, 1, 0x30);
    expect(bus.read(0xcfc, 4)).toBe(0x3000);
    select(1, 0x10);
    bus.write(0xcfc, 4, 0xffff_ffff);
    expect(bus.read(0xcfc, 4)).toBe(0);
    select(1, 4);
    bus.write(0xcfc, 2, 0xffff);
    expect(bus.read(0xcfc, 2)).toBe(5);
  });

  test('a second function makes the device one of several', () => {
    const { bus, select, pci } = make();
    pci.add(1, 1, ideController());
    select(1, 0x0c);
    expect(bus.read(0xcfe, 1)).toBe(0x80);
  });
});
