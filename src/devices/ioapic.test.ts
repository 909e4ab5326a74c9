import { describe, expect, test } from 'vitest';
import { BROADCAST, type InterruptMessage, msiToMessage } from './interrupt-message.ts';
import { IoApic } from './ioapic.ts';

function makeIoApic(options: { hardwareVersion?: 0x11 | 0x20; refuse?: boolean } = {}) {
  const sent: InterruptMessage[] = [];
  const ended: number[] = [];
  const ioapic = new IoApic({
    deliver: (message) => {
      sent.push(message);
      return !options.refuse;
    },
    onEoi: (pin) => ended.push(pin),
    hardwareVersion: options.hardwareVersion ?? 0x11,
  });
  const read = (index: number) => {
    ioapic.mmioWrite(0, 4, index);
    return ioapic.mmioRead(0x10, 4);
  };
  const write = (index: number, value: number) => {
    ioapic.mmioWrite(0, 4, index);
    ioapic.mmioWrite(0x10, 4, value);
  };
  const route = (pin: number, low: number, high = 0) => {
    write(0x11 + 2 * pin, high);
    write(0x10 + 2 * pin, low);
  };
  const vectors = () => sent.map((message) => message.vector);
  return { ioapic, sent, ended, read, write, route, vectors };
}

const LEVEL = 0x8000;
const MASK = 0x1_0000;
const REMOTE_IRR = 0x4000;

describe('registers', () => {
  test('version, identifier and arbitration identifier', () => {
    const { read, write } = makeIoApic();
    expect(read(1)).toBe(0x0017_0011);
    write(0, 0xff00_0000);
    expect([read(0), read(2)]).toEqual([0x0f00_0000, 0x0f00_0000]);
    write(1, 0);
    expect(read(1)).toBe(0x0017_0011);
  });

  test('entries are masked at power-on and keep only their writable bits', () => {
    const { read, write } = makeIoApic();
    expect(read(0x10)).toBe(MASK);
    write(0x3e, 0xffff_ffff);
    write(0x3f, 0xffff_ffff);
    expect(read(0x3e)).toBe(0x1_afff);
    expect(read(0x3f)).toBe(0xff00_0000);
    expect(read(0x40)).toBe(0);
  });

  test('narrow reads give the bytes at their place', () => {
    const { ioapic, read } = makeIoApic();
    read(1);
    expect(ioapic.mmioRead(0x12, 1)).toBe(0x17);
    expect(ioapic.mmioRead(0x10, 2)).toBe(0x11);
    expect(ioapic.mmioRead(0x00, 1)).toBe(1);
  });
});

describe('edge pins', () => {
  test('a rising edge sends the entry’s message once', () => {
    const { ioapic, sent, route } = makeIoApic();
    route(4, 0x0800 | 0x100 | 0x34, 0x0300_0000);
    expect(ioapic.setIrq(4, true)).toBe(1);
    expect(ioapic.setIrq(4, true)).toBe(0);
    expect(sent).toEqual([
      {
        destination: 3,
        logical: true,
        deliveryMode: 1,
        vector: 0x34,
        levelTriggered: false,
        asserted: true,
      },
    ]);
    ioapic.setIrq(4, false);
    ioapic.setIrq(4, true);
    expect(sent.length).toBe(2);
  });

  test('an edge on a masked pin is lost', () => {
    const { ioapic, sent, route } = makeIoApic();
    route(4, MASK | 0x34);
    expect(ioapic.setIrq(4, true)).toBe(-1);
    route(4, 0x34);
    expect(sent).toEqual([]);
  });

  test('destination FFh is a broadcast', () => {
    const { ioapic, sent, route } = makeIoApic();
    route(0, 0x30, 0xff00_0000);
    ioapic.setIrq(0, true);
    expect(sent[0]?.destination).toBe(BROADCAST);
  });
});

describe('level pins', () => {
  test('remote IRR holds the pin back until EOI, then it asks again while asserted', () => {
    const { ioapic, ended, read, route, vectors } = makeIoApic();
    route(9, LEVEL | 0x41);
    ioapic.setIrq(9, true);
    expect(read(0x22) & REMOTE_IRR).toBe(REMOTE_IRR);
    expect(ioapic.setIrq(9, true)).toBe(0);
    ioapic.eoi(0x40);
    ioapic.eoi(0x41);
    expect(vectors()).toEqual([0x41, 0x41]);
    ioapic.setIrq(9, false);
    ioapic.eoi(0x41);
    expect(vectors().length).toBe(2);
    expect(read(0x22) & REMOTE_IRR).toBe(0);
    expect(ended).toEqual([9, 9]);
  });

  test('an asserted level goes out when the pin is unmasked', () => {
    const { ioapic, route, vectors } = makeIoApic();
    route(9, MASK | LEVEL | 0x41);
    ioapic.setIrq(9, true);
    expect(vectors()).toEqual([]);
    route(9, LEVEL | 0x41);
    expect(vectors()).toEqual([0x41]);
  });

  test('lowering the wire in the EOI notification keeps it from interrupting again', () => {
    const sent: number[] = [];
    const ioapic: IoApic = new IoApic({
      deliver: (message) => sent.push(message.vector) > 0,
      onEoi: (pin) => ioapic.setIrq(pin, false),
    });
    ioapic.mmioWrite(0, 4, 0x10);
    ioapic.mmioWrite(0x10, 4, LEVEL | 0x50);
    ioapic.setIrq(0, true);
    ioapic.eoi(0x50);
    expect(sent).toEqual([0x50]);
  });

  test('switching to edge clears a stuck remote IRR', () => {
    const { ioapic, read, route, vectors } = makeIoApic();
    route(9, LEVEL | 0x41);
    ioapic.setIrq(9, true);
    route(9, MASK | 0x41);
    route(9, MASK | LEVEL | 0x41);
    expect(read(0x22) & REMOTE_IRR).toBe(0);
    route(9, LEVEL | 0x41);
    expect(vectors()).toEqual([0x41, 0x41]);
  });

  test('a message nobody takes, or one without EOI, leaves remote IRR clear', () => {
    const refused = makeIoApic({ refuse: true });
    refused.route(9, LEVEL | 0x41);
    expect(refused.ioapic.setIrq(9, true)).toBe(-1);
    expect(refused.read(0x22) & REMOTE_IRR).toBe(0);
    const nmi = makeIoApic();
    nmi.route(9, LEVEL | 0x400);
    nmi.ioapic.setIrq(9, true);
    expect(nmi.read(0x22) & REMOTE_IRR).toBe(0);
  });

  test('an EOI of an interrupt taken as an edge is told but does not rearm a level pin', () => {
    const { ioapic, ended, read, route } = makeIoApic();
    route(9, LEVEL | 0x41);
    ioapic.setIrq(9, true);
    ioapic.eoi(0x41, false);
    expect(ended).toEqual([9]);
    expect(read(0x22) & REMOTE_IRR).toBe(REMOTE_IRR);
  });

  test('the EOI register exists in version 20h only', () => {
    for (const [hardwareVersion, count] of [
      [0x11, 1],
      [0x20, 2],
    ] as const) {
      const { ioapic, route, vectors } = makeIoApic({ hardwareVersion });
      route(9, LEVEL | 0x41);
      ioapic.setIrq(9, true);
      ioapic.mmioWrite(0x40, 4, 0x41);
      expect(vectors().length).toBe(count);
    }
  });
});

test('a restored I/O APIC knows what is in flight', () => {
  const first = makeIoApic();
  first.route(9, LEVEL | 0x41);
  first.ioapic.setIrq(9, true);
  const second = makeIoApic();
  second.ioapic.restore(first.ioapic.state);
  second.ioapic.eoi(0x41);
  expect(second.vectors()).toEqual([0x41]);
  second.ioapic.reset();
  expect(second.read(0x22)).toBe(MASK);
});

test('a message-signalled interrupt names destination, mode, vector and trigger', () => {
  expect(msiToMessage(0xfee0_5004, 0, 0x4131)).toEqual({
    destination: 5,
    logical: true,
    deliveryMode: 1,
    vector: 0x31,
    levelTriggered: false,
    asserted: true,
  });
  expect(msiToMessage(0xfeef_f000, 0, 0).destination).toBe(BROADCAST);
  expect(msiToMessage(0xfeef_f000, 0x100, 0, true).destination).toBe(0x1ff);
  expect(msiToMessage(0xfee0_0000, 0, 0x8000).asserted).toBe(false);
});
