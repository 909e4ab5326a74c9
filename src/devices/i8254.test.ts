import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { I8254, PIT_HZ } from './i8254.ts';
import { ManualClock } from './manual-clock.ts';
import { SystemControlPortB } from './port61.ts';
import { ticksToNs } from './ticks.ts';
import { TimerQueue } from './timer-queue.ts';

function makePit() {
  const clock = new ManualClock();
  const rises: number[] = [];
  const pit = new I8254({
    clock,
    output: (level) => {
      if (level) rises.push(clock.now());
    },
  });
  const write = (port: number, ...values: number[]) => {
    for (const value of values) pit.portWrite(port, 1, value);
  };
  const read = (port: number) => pit.portRead(port, 1);
  const word = (port: number) => read(port) | (read(port) << 8);
  const toTick = (tick: number) => clock.advanceTo(ticksToNs(tick, PIT_HZ));
  return { clock, pit, rises, write, read, word, toTick };
}

/** A counter simulated pulse by pulse, written from the data sheet's mode definitions. */
class PulseModel {
  out = false;
  gate = true;
  element = 0;
  size = 0x1_0000;
  #mode = 0;
  #register = 0;
  #written = false;
  #take = false;
  #live = false;
  #left = 0;
  #odd = false;
  rises = 0;

  control(mode: number, bcd: boolean): void {
    this.#mode = mode;
    this.size = bcd ? 10_000 : 0x1_0000;
    this.#written = this.#take = this.#live = false;
    this.#left = 0;
    this.#drive(mode !== 0);
  }

  count(count: number): void {
    this.#register = count;
    this.#written = true;
    if (this.#mode === 0) {
      this.#drive(false);
      this.#live = false;
      this.#left = 0;
    }
    const waits = this.#mode === 1 || this.#mode === 5;
    if (!waits && !(this.#live && (this.#mode === 2 || this.#mode === 3))) this.#take = true;
  }

  setGate(level: boolean): void {
    const rising = level && !this.gate;
    this.gate = level;
    if (this.#mode === 0 || this.#mode === 4) return;
    if (rising && this.#written) this.#take = true;
    if (!level && (this.#mode === 2 || this.#mode === 3)) this.#drive(true);
  }

  pulse(): void {
    const mode = this.#mode;
    if (mode >= 4) this.#drive(true);
    if (this.#take) {
      this.#take = false;
      this.#live = true;
      this.#reload();
      this.#left = this.#register;
      if (mode === 1) this.#drive(false);
      return;
    }
    if (!this.#live || (!this.gate && mode !== 1 && mode !== 5)) return;
    if (mode === 2) this.#pulseRate();
    else if (mode === 3) this.#pulseSquare();
    else this.#pulseOnce();
  }

  #reload(): void {
    this.element = this.#register;
    if (this.#mode === 3) {
      this.#odd = this.element % 2 === 1;
      this.element -= this.#odd ? 1 : 0;
    }
  }

  #pulseOnce(): void {
    this.element = this.element === 0 ? this.size - 1 : this.element - 1;
    if (this.#left > 0 && --this.#left === 0) this.#drive(this.#mode < 4);
  }

  #pulseRate(): void {
    if (this.element === 1) this.#reload();
    else this.element--;
    this.#drive(this.element !== 1);
  }

  #pulseSquare(): void {
    const last = this.out && this.#odd ? 0 : 2;
    if (this.element > last) {
      this.element -= 2;
      return;
    }
    this.#drive(!this.out);
    this.#reload();
  }

  #drive(level: boolean): void {
    if (level && !this.out) this.rises++;
    this.out = level;
  }
}

describe('counters in closed form equal counters pulse by pulse', () => {
  const step = fc.oneof(
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('control' as const), n: fc.nat(11) }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('count' as const), n: fc.nat(20) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('gate' as const), n: fc.nat(1) }) },
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('run' as const), n: fc.nat(60) }) },
  );
  test.each([0, 1, 2, 3, 4, 5])('mode %i', (mode) => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const { pit, rises, write, toTick } = makePit();
        const model = new PulseModel();
        let tick = 0;
        let bcd = false;
        const control = (n: number) => {
          bcd = n % 3 === 0;
          // Counter 0 with 16-bit access; modes 2 and 3 also by their second codes.
          const code = mode >= 2 && mode <= 3 && n % 2 === 1 ? mode + 4 : mode;
          write(0x43, 0x30 | (code << 1) | (bcd ? 1 : 0));
          model.control(mode, bcd);
        };
        control(1);
        for (const { kind, n } of steps) {
          if (kind === 'control') control(n);
          else if (kind === 'gate') {
            pit.setGate(0, n === 1);
            model.setGate(n === 1);
          } else if (kind === 'run') {
            for (let i = 0; i < n; i++) model.pulse();
            tick += n;
            toTick(tick);
          } else {
            // Small counts, and now and then the largest one.
            const count = n === 0 ? model.size : n + 1;
            const raw = bcd ? Number.parseInt(String(count % model.size), 16) : count & 0xffff;
            write(0x40, raw & 0xff, raw >> 8);
            model.count(count);
          }
          expect(pit.output(0)).toBe(model.out);
          const value = model.element % model.size;
          expect(pit.readCount(0)).toBe(bcd ? Number.parseInt(String(value), 16) : value);
          expect(rises.length).toBe(model.rises);
        }
      }),
      { numRuns: 150 },
    );
  });
});

describe('output of counter 0', () => {
  test('mode 2 raises the interrupt once per period at the exact nanosecond', () => {
    const { rises, write, toTick } = makePit();
    write(0x43, 0x34);
    rises.length = 0;
    write(0x40, 0xa9, 0x04); // 1193: about a millisecond
    toTick(3 * 1193 + 1);
    expect(rises).toEqual([1, 2, 3].map((n) => ticksToNs(n * 1193 + 1, PIT_HZ)));
  });

  test('mode 0 raises it count + 1 ticks after the write, once', () => {
    const { rises, write, toTick } = makePit();
    write(0x43, 0x30);
    write(0x40, 100, 0);
    toTick(70_000);
    expect(rises).toEqual([ticksToNs(101, PIT_HZ)]);
  });

  test('nothing is scheduled while nobody wants the output', () => {
    const { clock, pit, rises, write, toTick } = makePit();
    pit.setOutputWanted(false);
    write(0x43, 0x34);
    write(0x40, 100, 0);
    rises.length = 0;
    expect(clock.queue.size).toBe(0);
    toTick(1000);
    expect(rises).toEqual([]);
    pit.setOutputWanted(true);
    toTick(1002);
    expect(rises).toEqual([ticksToNs(1001, PIT_HZ)]);
  });

  test('edges missed by a late clock become one', () => {
    const queue = new TimerQueue();
    let now = 0;
    let rises = 0;
    const pit = new I8254({
      clock: { now: () => now, setTimer: (t, at) => queue.set(t, at), cancel: (t) => queue.cancel(t) },
      output: (level) => {
        rises += level ? 1 : 0;
      },
    });
    for (const [port, value] of [
      [0x43, 0x34],
      [0x40, 10],
      [0x40, 0],
    ] as const) {
      pit.portWrite(port, 1, value);
    }
    rises = 0;
    now = ticksToNs(95, PIT_HZ);
    expect(queue.runExpired(now)).toBe(1);
    expect(rises).toBe(1);
    expect(queue.nextDeadline).toBe(ticksToNs(101, PIT_HZ));
  });
});

describe('reading', () => {
  test('a latched count stays until it is read, and a second latch is ignored', () => {
    const { write, word, toTick } = makePit();
    write(0x43, 0x34);
    write(0x40, 0x00, 0x10);
    toTick(1);
    write(0x43, 0x00);
    toTick(50);
    write(0x43, 0x00);
    expect(word(0x40)).toBe(0x1000);
    expect(word(0x40)).toBe(0x1000 - 49);
  });

  test('least or most significant byte only', () => {
    const { write, read, toTick } = makePit();
    write(0x43, 0x90); // counter 2, LSB, mode 0
    write(0x42, 0x80);
    toTick(1);
    expect([read(0x42), read(0x42)]).toEqual([0x80, 0x80]);
    write(0x43, 0x60); // counter 1, MSB, mode 0
    write(0x41, 0x12);
    toTick(3);
    expect([read(0x41), read(0x41)]).toEqual([0x11, 0x11]);
  });

  test('read-back latches status and count of several counters, status is read first', () => {
    const { write, read, word, toTick } = makePit();
    write(0x43, 0x36);
    write(0x40, 10, 0);
    write(0x43, 0x70);
    write(0x41, 20, 0);
    toTick(2);
    write(0x43, 0xc0 | (2 << 0) | (2 << 1));
    toTick(9);
    expect(read(0x40)).toBe(0x80 | 0x36);
    expect(word(0x40)).toBe(8);
    expect(read(0x41)).toBe(0x30);
    expect(word(0x41)).toBe(19);
  });

  test('null count is set by control word and count until the element is loaded', () => {
    const { write, read, toTick } = makePit();
    const nullCount = () => {
      write(0x43, 0xe2);
      return (read(0x40) & 0x40) !== 0;
    };
    write(0x43, 0x34);
    expect(nullCount()).toBe(true);
    write(0x40, 5, 0);
    expect(nullCount()).toBe(true);
    toTick(1);
    expect(nullCount()).toBe(false);
    write(0x40, 9, 0);
    expect(nullCount()).toBe(true);
    toTick(6);
    expect(nullCount()).toBe(false);
  });

  test('the first byte of a count stops mode 0 and lowers OUT', () => {
    const { pit, write, toTick } = makePit();
    write(0x43, 0x30);
    write(0x40, 4, 0);
    toTick(10);
    expect(pit.output(0)).toBe(true);
    write(0x40, 4);
    expect(pit.output(0)).toBe(false);
    const stopped = pit.readCount(0);
    toTick(20);
    expect(pit.readCount(0)).toBe(stopped);
  });
});

describe('state', () => {
  test('a restored timer goes on with the same edges', () => {
    const first = makePit();
    first.write(0x43, 0x36);
    first.write(0x40, 100, 0);
    first.toTick(130);
    const rises: number[] = [];
    const second = new I8254({
      clock: first.clock,
      output: (level) => {
        if (level) rises.push(first.clock.now());
      },
    });
    second.restore(structuredClone(first.pit.state));
    rises.length = 0;
    first.rises.length = 0;
    first.toTick(1000);
    expect(rises).toEqual(first.rises);
    expect(rises.length).toBe(8);
    second.reset();
    expect(second.output(0)).toBe(false);
  });

  test('a count started in the past is where it would be', () => {
    const { pit, write, toTick } = makePit();
    toTick(1000);
    write(0x43, 0x34);
    pit.startCount(0, 0x1_0000, ticksToNs(900, PIT_HZ));
    expect(pit.readCount(0)).toBe(0xffff - 99);
    expect(pit.countStart(0)).toBe(ticksToNs(900, PIT_HZ));
    toTick(900 + 0x1_0000 + 5);
    expect(pit.readCount(0)).toBe(0xffff - 4);
    expect(pit.countStart(0)).toBe(ticksToNs(900 + 0x1_0000, PIT_HZ));
  });
});

describe('system control port B', () => {
  test('gates counter 2, shows its output and the refresh toggle', () => {
    const { clock, pit, write, read, word, toTick } = makePit();
    const port = new SystemControlPortB({ pit, clock });
    const status = () => port.portRead(0x61, 1);
    write(0x43, 0xb0);
    write(0x42, 100, 0);
    toTick(50);
    expect(word(0x42)).toBe(100);
    port.portWrite(0x61, 1, 0xfd);
    expect(status() & 0x2f).toBe(0x0d);
    toTick(149);
    expect(status() & 0x20).toBe(0);
    toTick(150);
    expect(status() & 0x20).toBe(0x20);
    const toggles = [0, 18, 36, 54].map((ticks) => {
      toTick(180 + ticks);
      return status() & 0x10;
    });
    expect(toggles).toEqual([0, 0x10, 0, 0x10]);
    expect(read(0x43)).toBe(0xff);
  });
});
