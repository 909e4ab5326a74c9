import { describe, expect, test } from 'vitest';
import { AtaChannel, SECTOR_SIZE } from './ata.ts';
import { PortBus } from './bus.ts';

const SECTORS = 0x500;

function make(disks = [Uint8Array.from({ length: SECTORS * SECTOR_SIZE }, (_, n) => (n >>> 9) ^ n)]) {
  const bus = new PortBus();
  let level = false;
  let edges = 0;
  const channel = new AtaChannel({
    disks,
    irq: (now) => {
      if (now && !level) edges++;
      level = now;
    },
  });
  channel.attach(bus, 0x1f0, 0x3f6);
  const registers = (...values: number[]): void => {
    for (const [n, value] of values.entries()) bus.write(0x1f2 + n, 1, value);
  };
  const command = (value: number): number => {
    bus.write(0x1f7, 1, value);
    return bus.read(0x1f7, 1);
  };
  const data = (words: number): Uint8Array => {
    const bytes = new Uint8Array(2 * words);
    for (let n = 0; n < words; n++) new DataView(bytes.buffer).setUint16(2 * n, bus.read(0x1f0, 2), true);
    return bytes;
  };
  return { bus, disk: disks[0]!, registers, command, data, edges: () => edges };
}

const READY = 0x50;
const REQUEST = 0x58;
const FAILED = 0x51;

describe('an ATA disk', () => {
  test('names itself, with the size in 28 and in 48 bits', () => {
    const { command, data, registers } = make();
    registers(0, 0, 0, 0, 0xa0);
    expect(command(0xec)).toBe(REQUEST);
    const identity = new DataView(data(256).buffer);
    expect(identity.getUint32(120, true)).toBe(SECTORS);
    expect(identity.getUint32(200, true)).toBe(SECTORS);
    expect(identity.getUint16(54, true)).toBe(0x534f); // "SO"
  });

  test('gives sectors by LBA, with an interrupt for each', () => {
    const { command, data, registers, disk, edges, bus } = make();
    registers(2, 0x34, 0x02, 0, 0xe0);
    expect(command(0x20)).toBe(REQUEST);
    expect(data(256)).toEqual(disk.slice(0x234 * 512, 0x235 * 512));
    expect(bus.read(0x1f7, 1)).toBe(REQUEST);
    expect(data(256)).toEqual(disk.slice(0x235 * 512, 0x236 * 512));
    expect(bus.read(0x1f7, 1)).toBe(READY);
    expect(edges()).toBe(2);
  });

  test('gives sectors by cylinder, head and sector, and by 48-bit LBA', () => {
    const { command, data, registers, disk, bus } = make();
    registers(1, 2, 1, 0, 0xa0 | 3);
    command(0x20);
    const at = (1 * 16 + 3) * 63 + 1;
    expect(data(256)).toEqual(disk.slice(at * 512, (at + 1) * 512));
    for (const [low, count] of [
      [0, 0],
      [0x10, 1],
    ] as const) {
      registers(count, low, 0, 0, 0xe0);
    }
    expect(command(0x24)).toBe(REQUEST);
    expect(bus.read(0x1f0, 4)).toBe(new DataView(disk.buffer).getUint32(0x10 * 512, true));
  });

  test('takes sectors', () => {
    const { command, registers, disk, bus, edges } = make();
    registers(1, 7, 0, 0, 0xe0);
    expect(command(0x30)).toBe(REQUEST);
    expect(edges()).toBe(0);
    for (let n = 0; n < 256; n++) bus.write(0x1f0, 2, n);
    expect(edges()).toBe(1);
    expect(bus.read(0x1f7, 1)).toBe(READY);
    expect([...disk.slice(7 * 512, 7 * 512 + 4)]).toEqual([0, 0, 1, 0]);
    expect(disk[8 * 512]).toBe(8);
  });

  test('hands over several sectors at a time once that is set', () => {
    const { command, registers, data, edges } = make();
    registers(4, 0, 0, 0, 0xe0);
    expect(command(0xc4)).toBe(FAILED);
    expect(command(0xc6)).toBe(READY);
    const before = edges();
    expect(command(0xc4)).toBe(REQUEST);
    data(4 * 256);
    expect(edges() - before).toBe(1);
  });

  test('refuses sectors that it does not have, and commands', () => {
    const { command, registers, bus } = make();
    registers(2, 0xff, 4, 0, 0xe0);
    expect(command(0x20)).toBe(FAILED);
    expect(bus.read(0x1f1, 1)).toBe(0x10);
    expect(command(0xa1)).toBe(FAILED);
    expect(bus.read(0x1f1, 1)).toBe(4);
  });

  test('is alone: the second one does not answer', () => {
    const { registers, command, bus } = make();
    registers(0, 0, 0, 0, 0xb0);
    expect(command(0xec)).toBe(0);
    expect(bus.read(0x3f6, 1)).toBe(0);
  });

  test('shows its signature after a reset, and interrupts can be turned off', () => {
    const { registers, command, bus, edges } = make();
    registers(5, 5, 5, 5, 0xe0);
    bus.write(0x3f6, 1, 4);
    bus.write(0x3f6, 1, 2);
    expect([0x1f2, 0x1f3, 0x1f4, 0x1f5].map((port) => bus.read(port, 1))).toEqual([1, 1, 0, 0]);
    expect(command(0xe7)).toBe(READY);
    expect(edges()).toBe(0);
  });
});
