import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { I8259Pair } from './i8259.ts';

/** A pair initialised as a PC firmware does: vectors 30h and 38h, 8086 mode. */
function makePair(options: { icw4?: number; hold?: boolean } = {}) {
  const acks: number[] = [];
  let line = false;
  const pair = new I8259Pair({
    output: (level) => {
      line = level;
    },
    onAck: (irq) => acks.push(irq),
    edgeNeedsHold: options.hold ?? false,
  });
  const write = (port: number, ...values: number[]) => {
    for (const value of values) pair.portWrite(port, 1, value);
  };
  const read = (port: number) => pair.portRead(port, 1);
  for (const [port, base, icw3] of [
    [0x20, 0x30, 4],
    [0xa0, 0x38, 2],
  ] as const) {
    write(port, 0x11);
    write(port + 1, base, icw3, options.icw4 ?? 1);
  }
  const pulse = (irq: number) => {
    pair.setIrq(irq, true);
    pair.setIrq(irq, false);
  };
  return { pair, acks, write, read, pulse, line: () => line };
}

const READ_IRR = 0x0a;
const READ_ISR = 0x0b;
const EOI = 0x20;

describe('requests and INTA', () => {
  test('an edge asks once, INTA moves it in service, EOI ends it', () => {
    const { pair, acks, write, read, line } = makePair();
    expect(pair.setIrq(3, true)).toBe(1);
    expect(pair.setIrq(3, true)).toBe(0);
    expect(line()).toBe(true);
    expect(pair.acknowledge()).toBe(0x33);
    expect(line()).toBe(false);
    expect(read(0x20)).toBe(0);
    write(0x20, READ_ISR);
    expect(read(0x20)).toBe(8);
    write(0x20, EOI);
    expect(read(0x20)).toBe(0);
    expect(acks).toEqual([3]);
    expect(line()).toBe(false);
  });

  test('lower inputs have priority and interrupt higher ones in service', () => {
    const { pair, write, pulse, line } = makePair();
    pulse(4);
    expect(pair.acknowledge()).toBe(0x34);
    pulse(5);
    expect(line()).toBe(false);
    pulse(1);
    expect(pair.acknowledge()).toBe(0x31);
    write(0x20, EOI);
    expect(line()).toBe(false);
    write(0x20, EOI);
    expect(pair.acknowledge()).toBe(0x35);
  });

  test('a masked input is remembered and asks when unmasked', () => {
    const { pair, write, line } = makePair();
    write(0x21, 0x08);
    expect(pair.setIrq(3, true)).toBe(-1);
    pair.setIrq(3, false);
    expect(line()).toBe(false);
    write(0x21, 0);
    expect(line()).toBe(true);
  });

  test('a slave interrupt comes through the cascade with the slave vector', () => {
    const { pair, acks, write, line } = makePair();
    pair.setIrq(12, true);
    expect(pair.acknowledge()).toBe(0x3c);
    pair.setIrq(9, true);
    expect(line()).toBe(false); // IR2 is in service on the master
    write(0xa0, EOI);
    write(0x20, EOI);
    expect(acks).toEqual([12, 2]);
    expect(pair.acknowledge()).toBe(0x39);
  });

  test('without a request INTA gives input 7 of the addressed chip and sets nothing in service', () => {
    const { pair, write, read, pulse } = makePair();
    expect(pair.acknowledge()).toBe(0x37);
    write(0x20, READ_ISR);
    expect(read(0x20)).toBe(0);
    pulse(10);
    write(0xa1, 0xff);
    expect(pair.acknowledge()).toBe(0x3f);
    expect(read(0x20)).toBe(4);
    write(0xa0, READ_ISR);
    expect(read(0xa0)).toBe(0);
  });

  test('with the data sheet rule an edge that falls before INTA is gone', () => {
    const { pair, pulse, line } = makePair({ hold: true });
    pulse(5);
    expect(line()).toBe(false);
    pair.setIrq(5, true);
    expect(pair.acknowledge()).toBe(0x35);
  });
});

describe('level-triggered inputs', () => {
  test('ELCR offers only inputs that are not the board’s own', () => {
    const { write, read } = makePair();
    write(0x4d0, 0xff);
    write(0x4d1, 0xff);
    expect([read(0x4d0), read(0x4d1)]).toEqual([0xf8, 0xde]);
  });

  test('a level asks again after EOI until its source lets go', () => {
    const { pair, write, line } = makePair();
    write(0x4d1, 0x04);
    pair.setIrq(10, true);
    expect(pair.acknowledge()).toBe(0x3a);
    write(0xa0, EOI);
    write(0x20, EOI);
    expect(pair.acknowledge()).toBe(0x3a);
    pair.setIrq(10, false);
    write(0xa0, EOI);
    write(0x20, EOI);
    expect(line()).toBe(false);
  });
});

describe('operation command words', () => {
  test('specific EOI clears the named input only', () => {
    const { pair, write, read, pulse } = makePair();
    pulse(5);
    pair.acknowledge();
    pulse(2 + 1);
    pair.acknowledge();
    write(0x20, READ_ISR, 0x60 | 5);
    expect(read(0x20)).toBe(8);
  });

  test('rotate on non-specific EOI puts the served input last', () => {
    const { pair, write } = makePair();
    for (const irq of [4, 6]) pair.setIrq(irq, true);
    expect(pair.acknowledge()).toBe(0x34);
    write(0x20, 0xa0);
    pair.setIrq(4, false);
    pair.setIrq(4, true);
    expect(pair.acknowledge()).toBe(0x36);
  });

  test('set priority names the input that becomes last', () => {
    const { pair, write } = makePair();
    write(0x20, 0xc0 | 5);
    for (const irq of [0, 6]) pair.setIrq(irq, true);
    expect(pair.acknowledge()).toBe(0x36);
  });

  test('automatic EOI leaves nothing in service and can rotate', () => {
    const { pair, acks, write, read } = makePair({ icw4: 3 });
    write(0x20, 0x80);
    for (const irq of [0, 1]) pair.setIrq(irq, true);
    expect(pair.acknowledge()).toBe(0x30);
    write(0x20, READ_ISR);
    expect(read(0x20)).toBe(0);
    pair.setIrq(0, false);
    pair.setIrq(0, true);
    expect(pair.acknowledge()).toBe(0x31);
    expect(acks).toEqual([0, 1]);
  });

  test('automatic EOI on the slave loses no second slave request', () => {
    const { pair } = makePair({ icw4: 3 });
    for (const irq of [8, 9]) pair.setIrq(irq, true);
    expect(pair.acknowledge()).toBe(0x38);
    expect(pair.acknowledge()).toBe(0x39);
    expect(pair.interruptPending).toBe(false);
  });

  test('special mask mode lets everything else through a masked input in service', () => {
    const { pair, write, read, pulse, line } = makePair();
    pulse(1);
    pair.acknowledge();
    write(0x20, 0x68);
    write(0x21, 1 << 1);
    pulse(6);
    expect(line()).toBe(true);
    expect(pair.acknowledge()).toBe(0x36);
    write(0x20, EOI, EOI, READ_ISR);
    expect(read(0x20)).toBe(2); // a non-specific EOI spares what is masked
    write(0x20, 0x48);
    pulse(6);
    expect(line()).toBe(false);
  });

  test('special fully nested mode lets the slave interrupt itself', () => {
    const { pair, pulse, line } = makePair({ icw4: 0x11 });
    pulse(12);
    expect(pair.acknowledge()).toBe(0x3c);
    pulse(14);
    expect(line()).toBe(false);
    pulse(9);
    expect(line()).toBe(true);
    expect(pair.acknowledge()).toBe(0x39);
  });

  test('a poll acknowledges like INTA and says which input', () => {
    const { pair, write, read, line } = makePair();
    write(0x20, 0x0c);
    expect(read(0x20)).toBe(0);
    pair.setIrq(11, true);
    write(0x20, 0x0c);
    expect(read(0x20)).toBe(0x82);
    expect(line()).toBe(false);
    write(0xa0, 0x0c);
    expect(read(0xa0)).toBe(0x83);
    write(0xa0, READ_ISR);
    expect(read(0xa0)).toBe(8);
  });

  test('ICW1 clears mask and edges; ICW4 is asked for only when announced', () => {
    const { pair, write, read, line } = makePair();
    pair.setIrq(3, true);
    write(0x21, 0xff);
    write(0x20, 0x10);
    write(0x21, 0x48, 0x04);
    expect(read(0x21)).toBe(0);
    expect(line()).toBe(false); // the wire is still high, but there was no edge
    write(0x20, READ_IRR);
    expect(read(0x20)).toBe(0);
    pair.setIrq(3, false);
    pair.setIrq(3, true);
    expect(pair.acknowledge()).toBe(0x4b);
    write(0x20, 0x12); // single: neither ICW3 nor ICW4
    write(0x21, 0x50, 0xaa);
    expect(read(0x21)).toBe(0xaa);
  });
});

test('a restored pair goes on where the saved one was', () => {
  const first = makePair();
  first.pair.setIrq(3, true);
  first.pair.acknowledge();
  first.pair.setIrq(1, true);
  const second = makePair();
  second.pair.restore(structuredClone(first.pair.state));
  expect(second.line()).toBe(true);
  expect(second.pair.acknowledge()).toBe(0x31);
  second.pair.reset();
  expect(second.line()).toBe(false);
});

test('the resolver picks what a naive priority list picks', () => {
  const byte = fc.nat(255);
  fc.assert(
    fc.property(byte, byte, byte, fc.nat(7), fc.boolean(), (irr, imr, isr, first, special) => {
      const { pair } = makePair();
      const state = structuredClone(pair.state);
      Object.assign(state.chips[0], { irr: irr & ~4, lastIrr: irr & ~4, imr, isr });
      Object.assign(state.chips[0], { priorityAdd: first, specialMask: special ? 1 : 0 });
      pair.restore(state);
      const order = Array.from({ length: 8 }, (_, i) => (first + i) % 8);
      let winner = -1;
      for (const input of order) {
        const bit = 1 << input;
        if (isr & bit && !(special && imr & bit)) break;
        if (irr & ~4 & ~imr & bit) {
          winner = input;
          break;
        }
      }
      expect(pair.interruptPending).toBe(winner >= 0);
      expect(pair.acknowledge()).toBe(0x30 + (winner >= 0 ? winner : 7));
    }),
  );
});
