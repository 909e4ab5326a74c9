import { describe, expect, test } from 'vitest';
import { MmioBus, PortBus, type PortDevice } from './bus.ts';

function recorder(portWidth?: 1 | 2 | 4): PortDevice & { log: string[] } {
  const log: string[] = [];
  const device = {
    log,
    portRead(port: number, size: number): number {
      log.push(`r${size}@${port.toString(16)}`);
      return size === 1 ? port & 0xff : 0x1234_5678;
    },
    portWrite(port: number, size: number, value: number): void {
      log.push(`w${size}@${port.toString(16)}=${value.toString(16)}`);
    },
  };
  return portWidth === undefined ? device : Object.assign(device, { portWidth });
}

describe('port bus', () => {
  test('unclaimed ports read as all ones of the size asked for', () => {
    const bus = new PortBus();
    bus.write(0x80, 4, 1);
    expect([1, 2, 4].map((size) => bus.read(0x80, size))).toEqual([0xff, 0xffff, 0xffff_ffff]);
  });

  test('a byte-wide device sees a wide access as bytes at rising ports', () => {
    const bus = new PortBus();
    const device = recorder(1);
    bus.register(0x20, 2, device);
    expect(bus.read(0x20, 2)).toBe(0x2120);
    expect(bus.read(0x20, 4)).toBe(0xffff_2120);
    bus.write(0x21, 2, 0xabcd);
    expect(device.log.slice(-1)).toEqual(['w1@21=cd']);
  });

  test('a wide device gets the access whole', () => {
    const bus = new PortBus();
    const device = recorder();
    bus.register(0xcf8, 4, device);
    expect(bus.read(0xcf8, 4)).toBe(0x1234_5678);
    bus.write(0xcf8, 4, 0x8000_0000);
    expect(device.log).toEqual(['r4@cf8', 'w4@cf8=80000000']);
  });

  test('an overlapping claim is refused, a freed one is not', () => {
    const bus = new PortBus();
    bus.register(0x3f8, 8, recorder());
    expect(() => bus.register(0x3ff, 1, recorder())).toThrow(RangeError);
    expect(() => bus.register(0xffff, 2, recorder())).toThrow(RangeError);
    bus.unregister(0x3f8, 8);
    bus.register(0x3ff, 1, recorder());
    expect(bus.find(0x3f8)).toBeUndefined();
  });
});

describe('MMIO bus', () => {
  test('routes by address, and everything else floats', () => {
    const bus = new MmioBus();
    const writes: unknown[] = [];
    const device = (id: number) => ({
      mmioRead: (offset: number) => id + offset,
      mmioWrite: (offset: number, size: number, value: number | bigint) => void writes.push([id, offset, size, value]),
    });
    bus.register(0xfee0_0000, 0x1000, device(0x1000));
    bus.register(0xfec0_0000, 0x1000, device(0x2000));
    bus.register(2 ** 40, 0x10, device(0x3000));
    expect(bus.read(0xfec0_0010, 4)).toBe(0x2010);
    expect(bus.read(0xfee0_0020, 4)).toBe(0x1020);
    expect(bus.read(2 ** 40 + 8, 8)).toBe(0x3008n);
    expect(bus.read(2 ** 40 + 16, 8)).toBe(0xffff_ffff_ffff_ffffn);
    expect(bus.read(0xfec0_1000, 2)).toBe(0xffff);
    bus.write(0xfee0_00b0, 4, 7);
    bus.write(0xfebf_ffff, 1, 7);
    expect(writes).toEqual([[0x1000, 0xb0, 4, 7]]);
    expect(() => bus.register(0xfee0_0fff, 2, device(0))).toThrow(RangeError);
    bus.unregister(0xfee0_0000);
    expect(bus.find(0xfee0_0020)).toBeUndefined();
  });
});
