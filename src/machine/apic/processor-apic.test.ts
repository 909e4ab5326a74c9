import { describe, expect, test } from 'vitest';
import { readMsr, writeMsr } from '../msr/msr.ts';
import { TestProcessor } from '../system/test-processor.ts';
import { ProcessorBus } from './processor-bus.ts';

const BASE = 0xfee00000;
const ICR = 0x300;
const ICR_HIGH = 0x310;
const SVR = 0xf0;
const ENABLED = 0x1ff;

function pair() {
  const { machine } = new TestProcessor('pc', 2).longMode();
  machine.memory.bus = new ProcessorBus(machine);
  const [a, b] = machine.processors as [(typeof machine.processors)[0], (typeof machine.processors)[0]];
  for (const p of [a, b]) p.apic.mmioWrite(SVR, 4, ENABLED);
  const send = (destination: number, command: number) => {
    machine.memory.write32(BASE + ICR_HIGH, destination << 24);
    machine.memory.write32(BASE + ICR, command);
  };
  return { machine, a, b, send };
}

describe('inter-processor interrupts', () => {
  test('a fixed interrupt goes to the processor with that APIC id', () => {
    const { a, b, send } = pair();
    send(1, 0x4041);
    expect(a.apic.interruptPending).toBe(false);
    expect(b.apic.interruptPending).toBe(true);
    expect(b.eventsPending).toBe(true);
    expect(b.apic.takeInterrupt()).toBe(0x41);
    expect(b.apic.interruptPending).toBe(false);
  });
  test('all excluding self by shorthand', () => {
    const { a, b, send } = pair();
    send(0, 0xc4000 | 0x50);
    expect([a, b].map((p) => p.apic.interruptPending)).toEqual([false, true]);
  });
  test('NMI, INIT and SIPI reach the processor', () => {
    const { b, send } = pair();
    send(1, 0x4400);
    expect(b.nmiPending).toBe(true);
    send(1, 0x4500);
    expect(b.initPending).toBe(true);
    send(1, 0x4699);
    expect(b.sipiPending).toBe(0x99);
  });
});

describe('the register page', () => {
  test('belongs to the processor that is running', () => {
    const { machine, b } = pair();
    expect(machine.memory.read32(BASE + 0x20)).toBe(0);
    machine.activate(b);
    expect(machine.memory.read32(BASE + 0x20)).toBe(1 << 24);
  });
  test('moves with IA32_APIC_BASE and disappears in x2APIC mode', () => {
    const { machine, a } = pair();
    expect(writeMsr(a, 0x1b, 0xd000_0900n)).toBe(true);
    expect(machine.memory.read32(0xd000_0030)).not.toBe(0xffff_ffff);
    expect(machine.memory.read32(BASE + 0x30)).toBe(0xffff_ffff);
    expect(writeMsr(a, 0x1b, 0xd000_0d00n)).toBe(true);
    expect(machine.memory.read32(0xd000_0030)).toBe(0xffff_ffff);
    expect(readMsr(a, 0x803)).toBeDefined();
  });
  test('other addresses are devices', () => {
    const { machine } = pair();
    const bus = machine.memory.bus as ProcessorBus;
    bus.devices.register(0xfec00000, 4096, { mmioRead: () => 0x1234, mmioWrite: () => {} });
    expect(machine.memory.read32(0xfec00000)).toBe(0x1234);
    expect(machine.memory.read8(0xe0000000)).toBe(0xff);
  });
});

describe('the 8259 through LINT0', () => {
  test('is acknowledged at the platform, and stays pending while its line is high', () => {
    const { machine, a } = pair();
    const vectors = [0x21, 0x24];
    machine.platform = {
      acknowledgeExtInt: () => {
        const vector = vectors.shift()!;
        if (vectors.length === 0) a.apic.setLint(0, false);
        return vector;
      },
      endOfInterrupt: () => {},
    };
    a.apic.mmioWrite(0x350, 4, 0x700);
    a.apic.setLint(0, true);
    expect(a.apic.interruptPending).toBe(true);
    expect(a.apic.takeInterrupt()).toBe(0x21);
    expect(a.apic.interruptPending).toBe(true);
    expect(a.apic.takeInterrupt()).toBe(0x24);
    expect(a.apic.interruptPending).toBe(false);
  });
});

test('EOI of a level-triggered interrupt tells the platform', () => {
  const { machine, a } = pair();
  const ended: [number, boolean][] = [];
  machine.platform = { acknowledgeExtInt: () => 0, endOfInterrupt: (...what) => ended.push(what) };
  machine.apicBus.deliver({
    destination: 0,
    logical: false,
    deliveryMode: 0,
    vector: 0x61,
    levelTriggered: true,
    asserted: true,
  });
  expect(a.apic.takeInterrupt()).toBe(0x61);
  machine.memory.write32(BASE + 0xb0, 0);
  expect(ended).toEqual([[0x61, true]]);
});

test('the timer counts crystal cycles: 25 MHz', () => {
  const { machine, a } = pair();
  a.apic.mmioWrite(0x320, 4, 0x30);
  a.apic.mmioWrite(0x3e0, 4, 0xb);
  a.apic.mmioWrite(0x380, 4, 100);
  machine.clock.retire(3999);
  machine.clock.runTimers();
  expect(a.apic.interruptPending).toBe(false);
  machine.clock.retire(1);
  machine.clock.runTimers();
  expect(a.apic.takeInterrupt()).toBe(0x30);
});

test('where x2APIC mode is locked it is on after reset and cannot be left', () => {
  const { p } = new TestProcessor('tdx-host');
  p.apic.reset();
  expect(readMsr(p, 0x1b)).toBe(0xfee00d00n);
  expect(readMsr(p, 0xbd)).toBe(1n);
  expect(writeMsr(p, 0x1b, 0xfee00100n)).toBe(false);
  expect(readMsr(new TestProcessor('pc').p, 0xbd)).toBeUndefined();
});
