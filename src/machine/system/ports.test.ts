import { describe, expect, test } from 'vitest';
import { PortBus, type PortDevice } from '../../devices/bus.ts';
import { CR4_DE, FLAG_DF } from '../processor.ts';
import { TestProcessor } from './test-processor.ts';

/** Answers with a counter and keeps what it is told. */
class Recorder implements PortDevice {
  readonly written: [port: number, size: number, value: number][] = [];
  next = 0x11223344;
  portRead(_port: number, size: number): number {
    const value = size === 4 ? this.next : this.next & (2 ** (8 * size) - 1);
    this.next++;
    return value;
  }
  portWrite(port: number, size: number, value: number): void {
    this.written.push([port, size, value]);
  }
}

const TSS = 0x8000;

function machine(): { t: TestProcessor; device: Recorder } {
  const t = new TestProcessor().longMode();
  const device = new Recorder();
  t.machine.ports = new PortBus();
  t.machine.ports.register(0, 0x10000, device);
  Object.assign(t.p.tr, { base: BigInt(TSS), limit: 0x2067, attributes: 0x8b });
  t.machine.memory.write16(TSS + 0x66, 0x68);
  return { t, device };
}

describe('IN and OUT', () => {
  test.each<[string, string, bigint]>([
    ['in al, 0x60', 'e4 60', 0xaaaa_aaaa_aaaa_aa44n],
    ['in ax, dx', '66 ed', 0xaaaa_aaaa_aaaa_3344n],
    ['in eax, dx', 'ed', 0x1122_3344n],
    ['in eax, dx with REX.W', '48 ed', 0x1122_3344n],
  ])('%s', (_name, code, rax) => {
    const { t } = machine();
    t.p.setGpr(0, 0xaaaa_aaaa_aaaa_aaaan);
    expect(t.outcome(code)).toBe('done');
    expect(t.p.gpr(0)).toBe(rax);
  });

  test.each<[string, string, [number, number, number]]>([
    ['out 0x80, al', 'e6 80', [0x80, 1, 0x44]],
    ['out dx, ax', '66 ef', [0xcf8, 2, 0x3344]],
    ['out dx, eax', 'ef', [0xcf8, 4, 0x92223344]],
  ])('%s', (_name, code, written) => {
    const { t, device } = machine();
    t.p.setGpr(0, 0xffff_ffff_9222_3344n);
    t.p.setGpr(2, 0x1_0cf8n);
    expect(t.outcome(code)).toBe('done');
    expect(device.written).toEqual([written]);
  });

  test('without a bus a port reads as all ones', () => {
    const { t } = machine();
    t.machine.ports = null;
    t.outcome('ed');
    expect(t.p.gpr(0)).toBe(0xffff_ffffn);
  });
});

describe('permission', () => {
  test('CPL within IOPL needs no bitmap', () => {
    const { t } = machine();
    t.cpl(3);
    t.p.flagsRest = 0x3000;
    t.p.tr.limit = 0;
    expect(t.outcome('ec')).toBe('done');
  });

  test('a set bit of any byte of the access forbids it', () => {
    const { t } = machine();
    t.cpl(3);
    t.p.setGpr(2, 0x61n);
    t.machine.memory.write8(TSS + 0x68 + 0xc, 0x10);
    expect(t.outcome('ec')).toBe('done');
    expect(t.outcome('ed')).toBe('#13(0)');
    t.p.setGpr(2, 0x64n);
    expect(t.outcome('ec')).toBe('#13(0)');
  });

  test('an access across a byte of the map reads the next one', () => {
    const { t } = machine();
    t.cpl(3);
    t.p.setGpr(2, 7n);
    t.machine.memory.write8(TSS + 0x69, 1);
    expect(t.outcome('ec')).toBe('done');
    expect(t.outcome('66 ed')).toBe('#13(0)');
  });

  test('a map that ends before the port, or no 32-bit TSS, forbids', () => {
    const { t } = machine();
    t.cpl(3);
    t.p.setGpr(2, 0x3f8n);
    t.p.tr.limit = 0x68 + 0x7f;
    expect(t.outcome('ec')).toBe('#13(0)');
    t.p.tr.limit = 0x68 + 0x80;
    expect(t.outcome('ec')).toBe('done');
    t.p.tr.attributes = 0x83;
    expect(t.outcome('ec')).toBe('#13(0)');
  });
});

describe('INS and OUTS', () => {
  test('REP INSB does one iteration at a time and is complete at the last', () => {
    const { t } = machine();
    t.p.setGpr(1, 2n);
    t.p.setGpr(7, 0x9000n);
    expect(t.outcome('f3 6c')).toBe('jumped');
    expect(t.outcome('f3 6c')).toBe('done');
    expect([t.p.gpr(1), t.p.gpr(7)]).toEqual([0n, 0x9002n]);
    expect(t.machine.memory.read16(0x9000)).toBe(0x4544);
    expect(t.outcome('f3 6c')).toBe('done');
    expect(t.p.gpr(7)).toBe(0x9002n);
  });

  test('OUTSD goes down with DF', () => {
    const { t, device } = machine();
    t.p.flagsRest = FLAG_DF;
    t.p.setGpr(6, 0x9004n);
    t.p.setGpr(2, 0x70n);
    t.machine.memory.write32(0x9004, 0xcafe);
    expect(t.outcome('6f')).toBe('done');
    expect(t.p.gpr(6)).toBe(0x9000n);
    expect(device.written).toEqual([[0x70, 4, 0xcafe]]);
  });

  test('a store that faults leaves the port alone', () => {
    const { t, device } = machine();
    t.p.setGpr(7, 0x4000_0000n);
    expect(t.outcome('6c')).toBe('#14(2)');
    expect(device.next).toBe(0x11223344);
  });
});

test('an I/O breakpoint makes #DB pending', () => {
  const { t } = machine();
  t.p.cr4 |= CR4_DE;
  t.p.dr[1] = 0x60n;
  t.p.dr7 = 0x400 | 0x4 | (2 << 20);
  expect(t.outcome('e4 61')).toBe('done');
  expect(t.p.pendingDebug).toBe(0);
  expect(t.outcome('e4 60')).toBe('done');
  expect(t.p.pendingDebug).toBe(2);
});
