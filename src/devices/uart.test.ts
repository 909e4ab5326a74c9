import { describe, expect, test } from 'vitest';
import { Uart16550 } from './uart.ts';

const BASE = 0x3f8;
const [DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR] = [0, 1, 2, 3, 4, 5, 6, 7];
const FCR = IIR;
const OUT2 = 8;
const LOOP = 0x10;

/** A port set up by software: 8 data bits, interrupts let through. */
function makeUart() {
  const sent: number[] = [];
  const edges: boolean[] = [];
  const breaks: boolean[] = [];
  let spaces = 0;
  const uart = new Uart16550({
    irq: (level) => edges.push(level),
    transmit: (byte) => sent.push(byte),
    onReceiveSpace: () => {
      spaces++;
    },
    setBreak: (on) => breaks.push(on),
  });
  const read = (register: number) => uart.portRead(BASE + register, 1);
  const write = (register: number, value: number) => uart.portWrite(BASE + register, 1, value);
  write(LCR, 3);
  write(MCR, OUT2 | 3);
  const line = () => edges.at(-1) ?? false;
  const give = (...bytes: number[]) => uart.receive(Uint8Array.from(bytes));
  return { uart, sent, edges, breaks, read, write, line, give, spaces: () => spaces };
}

describe('transmitter', () => {
  test('characters leave at once, cut to the word length', () => {
    const { sent, read, write } = makeUart();
    write(DATA, 0x41);
    write(LCR, 0);
    write(DATA, 0xff);
    expect(sent).toEqual([0x41, 0x1f]);
    expect(read(LSR)).toBe(0x60);
  });

  test('enabling its interrupt while empty asks for it; reading the identification ends it', () => {
    const { read, write, line } = makeUart();
    expect(read(IIR)).toBe(1);
    write(IER, 2);
    expect(line()).toBe(true);
    expect(read(IIR)).toBe(2);
    expect([line(), read(IIR)]).toEqual([false, 1]);
    write(IER, 2);
    expect(read(IIR)).toBe(1); // it was enabled already
    write(IER, 0);
    write(IER, 2);
    expect(read(IIR)).toBe(2);
  });

  test('each character sent ends the request and asks again', () => {
    const { edges, read, write } = makeUart();
    write(IER, 2);
    read(IIR);
    write(DATA, 1);
    expect(read(IIR)).toBe(2);
    write(DATA, 2);
    write(DATA, 3);
    write(IER, 0);
    expect(edges).toEqual([true, false, true, false, true, false, true, false]);
  });

  test('a break is told when it begins and ends', () => {
    const { breaks, write } = makeUart();
    for (const value of [0x43, 0x43, 0x03]) write(LCR, value);
    expect(breaks).toEqual([true, false]);
  });
});

describe('receiver', () => {
  test('without FIFO one character fits, and room is told when it is read', () => {
    const { read, write, line, give, spaces } = makeUart();
    write(IER, 1);
    expect(give(0x61, 0x62)).toBe(1);
    expect([line(), read(IIR), read(LSR)]).toEqual([true, 4, 0x61]);
    expect(read(DATA)).toBe(0x61);
    expect([line(), read(LSR), spaces()]).toEqual([false, 0x60, 1]);
    expect(read(DATA)).toBe(0);
  });

  test.each([
    [0x01, 1],
    [0x41, 4],
    [0x81, 8],
    [0xc1, 14],
  ])('FIFO control %i: received data from %i characters on, time-out below', (fcr, trigger) => {
    const { read, write, give } = makeUart();
    write(FCR, fcr);
    write(IER, 1);
    for (let i = 1; i < trigger; i++) {
      give(i);
      expect(read(IIR)).toBe(0xcc);
    }
    give(0x55);
    expect(read(IIR)).toBe(0xc4);
  });

  test('the FIFO takes sixteen and refuses more', () => {
    const { uart, read, write, give, spaces } = makeUart();
    write(FCR, 1);
    const before = spaces();
    expect(give(...Array.from({ length: 20 }, (_, i) => i))).toBe(16);
    expect(uart.receiveSpace).toBe(0);
    const got = Array.from({ length: 16 }, () => read(DATA));
    expect(got).toEqual(Array.from({ length: 16 }, (_, i) => i));
    expect(spaces() - before).toBe(1);
  });

  test('resetting or switching the FIFO empties it', () => {
    const { read, write, give } = makeUart();
    write(FCR, 1);
    give(1, 2);
    write(FCR, 3);
    expect(read(LSR) & 1).toBe(0);
    give(1, 2);
    write(FCR, 0);
    expect([read(LSR) & 1, read(IIR)]).toEqual([0, 1]);
  });

  test('a break is a zero character with its error, shown when it is the oldest', () => {
    const { uart, read, write, line, give } = makeUart();
    write(FCR, 1);
    write(IER, 4);
    give(0x41);
    uart.receiveBreak();
    expect([line(), read(LSR)]).toEqual([false, 0xe1]);
    read(DATA);
    expect([line(), read(IIR)]).toEqual([true, 0xc6]);
    expect([read(LSR), read(LSR)]).toEqual([0xf1, 0x61]);
    expect([line(), read(DATA)]).toEqual([false, 0]);
  });
});

describe('loopback', () => {
  test('what is sent comes back and nothing leaves', () => {
    const { uart, sent, read, write, give } = makeUart();
    write(MCR, LOOP | OUT2);
    write(DATA, 0x5a);
    expect([read(DATA), sent]).toEqual([0x5a, []]);
    expect([uart.receiveSpace, give(1)]).toEqual([0, 0]);
  });

  test('modem control outputs are the modem status inputs', () => {
    const { read, write } = makeUart();
    for (const [mcr, msr] of [
      [0x0a, 0x90],
      [0x05, 0x60],
      [0x00, 0x00],
      [0x0f, 0xf0],
    ] as const) {
      write(MCR, LOOP | mcr);
      expect(read(MSR) & 0xf0).toBe(msr);
    }
  });

  test('a full FIFO overruns and keeps its characters, a single register keeps the last', () => {
    const { read, write } = makeUart();
    write(MCR, LOOP);
    write(FCR, 1);
    for (let i = 0; i < 20; i++) write(DATA, i);
    expect([read(LSR) & 2, read(LSR) & 2]).toEqual([2, 0]);
    expect(Array.from({ length: 17 }, () => read(DATA)).at(-2)).toBe(15);
    write(FCR, 0);
    write(DATA, 1);
    write(DATA, 2);
    expect([read(LSR) & 2, read(DATA)]).toEqual([2, 2]);
  });

  test('a break comes back as one', () => {
    const { breaks, read, write } = makeUart();
    write(MCR, LOOP);
    write(LCR, 0x43);
    expect([read(LSR) & 0x11, breaks]).toEqual([0x11, []]);
  });
});

describe('modem', () => {
  test('changes set deltas and interrupt; of the ring indicator only its end', () => {
    const { uart, read, write, line } = makeUart();
    expect(read(MSR)).toBe(0xb0);
    write(IER, 8);
    uart.setModemLines(0xf0);
    expect([line(), read(MSR)]).toEqual([false, 0xf0]);
    uart.setModemLines(0x20);
    expect([line(), read(IIR)]).toEqual([true, 0]);
    expect([read(MSR), read(MSR), line()]).toEqual([0x2d, 0x20, false]);
  });

  test('OUT2 gates the interrupt wire, not the identification', () => {
    const { read, write, line } = makeUart();
    write(IER, 2);
    write(MCR, 3);
    expect([line(), read(IIR)]).toEqual([false, 2]);
  });
});

describe('registers', () => {
  test('DLAB shows the divisor in place of data and interrupt enable', () => {
    const { sent, read, write } = makeUart();
    write(LCR, 0x83);
    write(DATA, 1);
    write(IER, 2);
    expect([read(DATA), read(IER), sent]).toEqual([1, 2, []]);
    write(LCR, 3);
    expect(read(IER)).toBe(0);
  });

  test('scratch keeps a byte; enable and control keep the bits that exist', () => {
    const { read, write } = makeUart();
    write(SCR, 0xa5);
    write(IER, 0xff);
    write(MCR, 0xff);
    expect([read(SCR), read(IER), read(MCR)]).toEqual([0xa5, 0x0f, 0x1f]);
  });

  test('interrupts are identified by priority', () => {
    const { uart, read, write, give } = makeUart();
    write(FCR, 1);
    write(IER, 0x0f);
    uart.setModemLines(0);
    uart.receiveBreak();
    give(0x41);
    expect(read(IIR)).toBe(0xc6);
    read(LSR);
    expect(read(IIR)).toBe(0xc4);
    read(DATA);
    read(DATA);
    expect([read(IIR), read(IIR)]).toEqual([0xc2, 0xc0]);
    read(MSR);
    expect(read(IIR)).toBe(0xc1);
  });
});

test('a restored port drives its interrupt and has its characters', () => {
  const first = makeUart();
  first.write(FCR, 1);
  first.write(IER, 1);
  first.give(1, 2);
  const second = makeUart();
  second.uart.restore(structuredClone(first.uart.state));
  expect([second.line(), second.read(DATA), second.read(DATA)]).toEqual([true, 1, 2]);
  second.uart.reset();
  expect([second.line(), second.read(MCR)]).toEqual([false, 0]);
});
