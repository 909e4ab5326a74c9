import { describe, expect, test } from 'vitest';
import { AcpiPm, PM_TIMER_HZ, PM1 } from './acpi-pm.ts';
import { PortBus } from './bus.ts';
import { ManualClock } from './manual-clock.ts';
import { ticksToNs } from './ticks.ts';

const EVENT = 0x600;
const CONTROL = 0x604;
const TIMER = 0x608;

function makePm() {
  const clock = new ManualClock();
  const bus = new PortBus();
  const log: string[] = [];
  const pm = new AcpiPm({
    clock,
    sci: (level) => log.push(`sci ${level}`),
    sleep: (type) => log.push(`sleep ${type}`),
    eventBase: EVENT,
    controlBase: CONTROL,
    timerBase: TIMER,
  });
  pm.attach(bus);
  return { clock, bus, log, pm };
}

describe('PM1', () => {
  test('an enabled button raises the SCI until its status is cleared by writing 1', () => {
    const { bus, log, pm } = makePm();
    pm.pressPowerButton();
    expect(log).toEqual([]);
    bus.write(EVENT + 2, 2, 0xffff);
    expect([log, bus.read(EVENT + 2, 2)]).toEqual([['sci true'], 0x0721]);
    bus.write(EVENT, 2, PM1.SLEEP_BUTTON);
    expect(bus.read(EVENT, 2)).toBe(PM1.POWER_BUTTON);
    bus.write(EVENT, 2, PM1.POWER_BUTTON);
    expect([log.at(-1), bus.read(EVENT, 2)]).toEqual(['sci false', 0]);
    pm.pressSleepButton();
    expect([log.at(-1), bus.read(EVENT, 4)]).toEqual(['sci true', 0x0721_0200]);
  });

  test('SLP_EN enters the sleep state of SLP_TYP and reads as 0; SCI_EN is always set', () => {
    const { bus, log } = makePm();
    expect(bus.read(CONTROL, 2)).toBe(1);
    bus.write(CONTROL, 2, 5 << 10);
    expect(log).toEqual([]);
    bus.write(CONTROL, 2, (5 << 10) | 0x2000);
    expect([log, bus.read(CONTROL, 2)]).toEqual([['sleep 5'], (5 << 10) | 1]);
    bus.write(CONTROL + 1, 1, 0x20 | (3 << 2));
    expect(log).toEqual(['sleep 5', 'sleep 3']);
  });
});

describe('PM timer', () => {
  test('counts at 3.579545 MHz in 32 bits, in any width', () => {
    const { clock, bus } = makePm();
    clock.advanceTo(ticksToNs(0x1_2345_6789, PM_TIMER_HZ));
    expect(bus.read(TIMER, 4)).toBe(0x2345_6789);
    expect([bus.read(TIMER, 2), bus.read(TIMER + 3, 1)]).toEqual([0x6789, 0x23]);
    bus.write(TIMER, 4, 0);
    expect(bus.read(TIMER, 4)).toBe(0x2345_6789);
  });

  test('sets its status when the top bit toggles, and interrupts if enabled', () => {
    const { clock, bus, log } = makePm();
    const half = ticksToNs(2 ** 31, PM_TIMER_HZ);
    clock.advanceTo(half - 1);
    expect([bus.read(EVENT, 2), clock.queue.size]).toEqual([0, 0]);
    clock.advance(1);
    expect(bus.read(EVENT, 2)).toBe(PM1.TIMER);
    bus.write(EVENT, 2, PM1.TIMER);
    bus.write(EVENT + 2, 2, PM1.TIMER);
    clock.advanceTo(ticksToNs(2 ** 32, PM_TIMER_HZ));
    expect(log).toEqual(['sci true']);
    bus.write(EVENT + 2, 2, 0);
    expect(clock.queue.size).toBe(0);
  });
});

test('a restored block drives the SCI as before', () => {
  const first = makePm();
  first.bus.write(EVENT + 2, 2, PM1.POWER_BUTTON);
  first.pm.pressPowerButton();
  const second = makePm();
  second.pm.restore(structuredClone(first.pm.state));
  expect(second.log).toEqual(['sci true']);
  second.pm.reset();
  expect([second.log.at(-1), second.bus.read(EVENT, 4)]).toEqual(['sci false', 0]);
});
