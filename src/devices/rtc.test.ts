import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ManualClock } from './manual-clock.ts';
import { Mc146818 } from './rtc.ts';
import { loadTime, nextAlarm, RTC, storeTime } from './rtc-time.ts';

const SECOND = 1_000_000_000;
/** 2024-02-29 23:59:58 UTC, a Thursday. */
const LEAP_EVENING = Date.UTC(2024, 1, 29, 23, 59, 58) / 1000;
const CALENDAR = [RTC.CENTURY, 9, 8, 7, 4, 2, 0];
const SET = 0x80;

function makeRtc(epochSeconds = LEAP_EVENING) {
  const clock = new ManualClock();
  const rises: number[] = [];
  let level = false;
  const rtc = new Mc146818({
    clock,
    irq: (on) => {
      level = on;
      if (on) rises.push(clock.now());
    },
    epochSeconds,
  });
  const read = (register: number) => {
    rtc.portWrite(0x70, 1, register);
    return rtc.portRead(0x71, 1);
  };
  const write = (register: number, value: number) => {
    rtc.portWrite(0x70, 1, register);
    rtc.portWrite(0x71, 1, value);
  };
  const calendar = () => CALENDAR.map((register) => read(register).toString(16)).join(' ');
  return { rtc, clock, rises, read, write, calendar, level: () => level };
}

describe('calendar', () => {
  test('starts at the time given, BCD and 24 hours, and follows the clock over a leap day', () => {
    const { clock, read, calendar } = makeRtc();
    expect(calendar()).toBe('20 24 2 29 23 59 58');
    expect(read(RTC.WEEKDAY)).toBe(5);
    clock.advance(2 * SECOND);
    expect(calendar()).toBe('20 24 3 1 0 0 0');
    expect(read(RTC.WEEKDAY)).toBe(6);
  });

  test.each([
    [0x06, 'binary, 24 hours', 23, 59],
    [0x04, 'binary, 12 hours', 0x80 | 11, 59],
    [0x00, 'BCD, 12 hours', 0x80 | 0x11, 0x59],
  ])('register B = %i: %s', (b, _name, hours, minutes) => {
    const { clock, read, write } = makeRtc(LEAP_EVENING - 1);
    write(RTC.B, SET | b);
    write(4, hours);
    write(2, minutes);
    write(0, b & 4 ? 58 : 0x58);
    write(7, b & 4 ? 29 : 0x29);
    write(8, 2);
    write(9, b & 4 ? 24 : 0x24);
    write(RTC.CENTURY, b & 4 ? 20 : 0x20);
    write(RTC.B, b);
    expect([read(4), read(2)]).toEqual([hours, minutes]);
    clock.advance(2 * SECOND);
    expect([read(4), read(2), read(8)]).toEqual([b & 2 ? 0 : b & 4 ? 12 : 0x12, 0, 3]);
  });

  test('SET holds it still, and the next update keeps its beat', () => {
    const { clock, read, write } = makeRtc();
    clock.advance(SECOND / 4);
    write(RTC.B, SET | 2);
    clock.advance(10 * SECOND);
    expect(read(0)).toBe(0x58);
    write(0, 0x10);
    write(RTC.B, 2);
    clock.advance(SECOND / 2);
    expect(read(0)).toBe(0x10);
    clock.advance(SECOND / 4);
    expect(read(0)).toBe(0x11);
  });

  test('after a divider reset the first update comes half a second later', () => {
    const { clock, read, write } = makeRtc();
    write(RTC.A, 0x70);
    clock.advance(10 * SECOND);
    expect(read(0)).toBe(0x58);
    write(RTC.A, 0x26);
    clock.advance(SECOND / 2 - 1);
    expect(read(0)).toBe(0x58);
    clock.advance(1);
    expect(read(0)).toBe(0x59);
  });

  test('update in progress announces each update by 244 µs', () => {
    const { clock, read, write } = makeRtc();
    clock.advance(SECOND - 244_001);
    expect(read(RTC.A)).toBe(0x26);
    clock.advance(1);
    expect(read(RTC.A)).toBe(0xa6);
    write(RTC.B, SET);
    expect(read(RTC.A)).toBe(0x26);
    write(RTC.B, 2);
    clock.advance(244_000);
    expect(read(RTC.A)).toBe(0x26);
  });

  test('any time survives the registers in any format', () => {
    const seconds = fc.integer({ min: 0, max: Date.UTC(9999, 0) / 1000 });
    fc.assert(
      fc.property(seconds, fc.constantFrom(0, 2, 4, 6), (time, b) => {
        const cmos = new Uint8Array(128);
        cmos[RTC.B] = b;
        storeTime(cmos, time);
        expect(loadTime(cmos)).toBe(time);
      }),
    );
  });
});

describe('interrupts', () => {
  test('flags rise without being enabled, and reading register C clears them', () => {
    const { clock, read, rises } = makeRtc();
    clock.advance(SECOND);
    expect([read(RTC.C), read(RTC.C), rises]).toEqual([0x50, 0, []]);
    expect(clock.queue.size).toBe(0);
  });

  test('update-ended interrupts at each second, once until register C is read', () => {
    const { clock, read, write, rises, level } = makeRtc();
    clock.advance(SECOND / 2);
    read(RTC.C);
    write(RTC.B, 0x12);
    clock.advance(2 * SECOND);
    expect([rises, level()]).toEqual([[SECOND], true]);
    expect(read(RTC.C) & 0x90).toBe(0x90);
    expect(level()).toBe(false);
    clock.advance(SECOND);
    expect(rises).toEqual([SECOND, 3 * SECOND]);
  });

  test.each([
    [6, 1024],
    [15, 2],
    [1, 256],
    [3, 8192],
  ])('rate %i interrupts at %i Hz', (rate, hz) => {
    const { clock, read, write, rises } = makeRtc();
    write(RTC.A, 0x20 | rate);
    read(RTC.C);
    write(RTC.B, 0x42);
    for (let i = 1; i <= 4; i++) {
      clock.advanceTo(Math.ceil((i * SECOND) / hz));
      expect(rises.length).toBe(i);
      read(RTC.C);
    }
    write(RTC.A, 0x20);
    clock.advance(SECOND);
    expect(rises.length).toBe(4);
  });

  test('the alarm interrupts when the time matches', () => {
    const { clock, read, write, rises } = makeRtc();
    write(RTC.HOURS_ALARM, 0);
    write(RTC.MINUTES_ALARM, 0xff);
    write(RTC.SECONDS_ALARM, 0x05);
    read(RTC.C);
    write(RTC.B, 0x22);
    clock.advance(6 * SECOND);
    expect(rises).toEqual([]);
    clock.advance(SECOND);
    expect([rises, read(RTC.C) & 0xa0]).toEqual([[7 * SECOND], 0xa0]);
    clock.advance(60 * SECOND);
    expect(rises.length).toBe(2);
  });

  test('SET going high ends update interrupts, reset all of them', () => {
    const { rtc, read, write } = makeRtc();
    write(RTC.B, SET | 0x72);
    expect(read(RTC.B)).toBe(SET | 0x62);
    rtc.reset();
    expect(read(RTC.B)).toBe(SET | 0x02);
  });

  test('the next alarm equals a search second by second', () => {
    const field = (max: number) => fc.oneof(fc.nat(max), fc.constant(0xff));
    fc.assert(
      fc.property(fc.nat(200_000), field(24), field(60), field(60), (from, hour, minute, second) => {
        const cmos = new Uint8Array(128);
        cmos[RTC.B] = 6;
        cmos.set([second], RTC.SECONDS_ALARM);
        cmos.set([minute], RTC.MINUTES_ALARM);
        cmos.set([hour], RTC.HOURS_ALARM);
        const matches = (t: number) =>
          (hour === 0xff || Math.floor(t / 3600) % 24 === hour) &&
          (minute === 0xff || Math.floor(t / 60) % 60 === minute) &&
          (second === 0xff || t % 60 === second);
        let expected = from + 1;
        while (expected <= from + 86_400 && !matches(expected)) expected++;
        const found = expected <= from + 86_400 ? expected : Number.POSITIVE_INFINITY;
        expect(nextAlarm(cmos, from)).toBe(found);
      }),
      { numRuns: 60 },
    );
  });
});

describe('memory', () => {
  test('tells memory sizes where firmware looks', () => {
    const { rtc, read } = makeRtc();
    rtc.setMemorySize(256 << 20, 2 ** 32);
    expect([read(0x15), read(0x16)]).toEqual([0x80, 0x02]);
    expect([read(0x17), read(0x18), read(0x30), read(0x31)]).toEqual([0xff, 0xff, 0xff, 0xff]);
    expect([read(0x34), read(0x35)]).toEqual([0x00, 0x0f]);
    expect([read(0x5b), read(0x5c), read(0x5d)]).toEqual([0, 0, 1]);
  });

  test('keeps bytes, and bit 7 of the index masks NMIs', () => {
    const { rtc, read, write } = makeRtc();
    write(0x80 | 0x7f, 0xa5);
    expect([rtc.nmiMasked, read(0x7f), rtc.nmiMasked]).toEqual([true, 0xa5, false]);
    write(RTC.D, 0);
    expect([read(RTC.D), rtc.portRead(0x70, 1)]).toEqual([0x80, 0xff]);
  });
});

test('a restored clock shows the same time and interrupts', () => {
  const first = makeRtc();
  first.write(RTC.B, 0x12);
  first.clock.advance(SECOND + 5);
  const second = makeRtc(0);
  second.rtc.restore(structuredClone(first.rtc.state));
  expect([second.level(), second.calendar()]).toEqual([true, first.calendar()]);
});
