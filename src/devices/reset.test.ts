import { describe, expect, test } from 'vitest';
import { PortBus } from './bus.ts';
import { I8042 } from './i8042.ts';
import { DebugExit, ResetControl, SystemControlPortA } from './reset.ts';

describe('keyboard controller with nothing plugged in', () => {
  function makeController() {
    const log: string[] = [];
    const bus = new PortBus();
    const controller = new I8042({
      reset: () => log.push('reset'),
      a20: (on) => log.push(`a20 ${on}`),
      irq: (on) => log.push(`irq ${on}`),
    });
    controller.attach(bus);
    const command = (value: number, ...data: number[]) => {
      bus.write(0x64, 1, value);
      for (const byte of data) bus.write(0x60, 1, byte);
    };
    const status = () => bus.read(0x64, 1);
    const answer = () => {
      expect(status() & 1).toBe(1);
      return bus.read(0x60, 1);
    };
    return { controller, log, command, status, answer, write: (v: number) => bus.write(0x60, 1, v) };
  }

  test('is idle, unlocked and empty after power-on', () => {
    expect(makeController().status()).toBe(0x1c);
  });

  test.each([
    ['self test', 0xaa, 0x55],
    ['keyboard interface', 0xab, 0x02],
    ['mouse interface', 0xa9, 0x02],
    ['command byte', 0x20, 0x04],
    ['input port', 0xc0, 0x80],
    ['output port', 0xd0, 0xdf],
  ])('%s', (_name, code, expected) => {
    const { command, answer, status } = makeController();
    command(code);
    expect(answer()).toBe(expected);
    expect(status() & 1).toBe(0);
  });

  test('the command byte can be written, disabling the interfaces shows in it', () => {
    const { command, answer } = makeController();
    command(0x60, 0x43);
    for (const code of [0xad, 0xa7]) command(code);
    command(0x20);
    expect(answer()).toBe(0x73);
    for (const code of [0xae, 0xa8]) command(code);
    command(0x20);
    expect(answer()).toBe(0x43);
    command(0x65, 0x99);
    command(0x25);
    expect(answer()).toBe(0x99);
  });

  test('a byte for the keyboard is answered by a time-out, with an interrupt if enabled', () => {
    const { log, command, status, answer, write } = makeController();
    command(0x60, 0x01);
    write(0xf2);
    expect(log).toEqual(['irq true']);
    expect(status() & 0x61).toBe(0x41);
    expect(answer()).toBe(0xfe);
    expect(log).toEqual(['irq true', 'irq false']);
    command(0xd4, 0xf2);
    expect(answer()).toBe(0xfe);
  });

  test('the mouse loop test comes back as a keyboard byte', () => {
    const { command, status, answer } = makeController();
    command(0xd3, 0x5a);
    expect(status() & 0x20).toBe(0);
    expect(answer()).toBe(0x5a);
  });

  test('pulsing output line 0, or driving it low, resets', () => {
    const { log, command } = makeController();
    command(0xff);
    expect(log).toEqual([]);
    command(0xfe);
    command(0xd1, 0xdd);
    command(0xd1, 0xde);
    expect(log).toEqual(['reset', 'a20 false', 'a20 true', 'reset']);
  });

  test('state is restored with its interrupt', () => {
    const first = makeController();
    first.command(0x60, 0x01);
    first.command(0xaa);
    const second = makeController();
    second.controller.restore(structuredClone(first.controller.state));
    expect(second.log).toEqual(['irq true']);
    expect(second.answer()).toBe(0x55);
    second.controller.reset();
    expect(second.status()).toBe(0x1c);
  });
});

test('port 92h resets on the rising edge of bit 0 and gates address line 20', () => {
  const log: string[] = [];
  const bus = new PortBus();
  const port = new SystemControlPortA({
    reset: () => log.push('reset'),
    a20: (on) => log.push(`a20 ${on}`),
  });
  port.attach(bus);
  for (const value of [2, 0, 2, 3, 3]) bus.write(0x92, 1, value);
  expect(log).toEqual(['a20 false', 'a20 true', 'reset']);
  expect(bus.read(0x92, 1)).toBe(3);
  port.reset();
  expect(bus.read(0x92, 1)).toBe(2);
});

test('port CF9h resets when bit 2 rises, hard or soft by bits 1 and 3', () => {
  const resets: boolean[] = [];
  const bus = new PortBus();
  const control = new ResetControl({ reset: (hard) => resets.push(hard) });
  control.attach(bus);
  for (const value of [0x02, 0x06, 0x06]) bus.write(0xcf9, 1, value);
  expect([resets, bus.read(0xcf9, 1)]).toEqual([[true], 6]);
  control.reset();
  bus.write(0xcf9, 1, 4);
  expect(resets).toEqual([true, false]);
});

test('the debug-exit port gives its value whole', () => {
  const values: number[] = [];
  const bus = new PortBus();
  new DebugExit({ exit: (value) => values.push(value) }).attach(bus);
  bus.write(0xf4, 4, 0xdead_beef);
  bus.write(0xf4, 1, 0x10);
  expect([values, bus.read(0xf4, 1)]).toEqual([[0xdead_beef, 0x10], 0]);
});
