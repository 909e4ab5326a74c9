/**
 * The calendar registers of an MC146818: from and to seconds since 1970, and when an alarm matches next.
 *
 * Reference: Motorola MC146818 data sheet, "Time, Calendar, and Alarm Locations".
 */

/** Registers of the clock's memory. The century has no place in the data sheet; 32h is where PCs keep it. */
export const RTC: {
  readonly SECONDS: 0;
  readonly SECONDS_ALARM: 1;
  readonly MINUTES: 2;
  readonly MINUTES_ALARM: 3;
  readonly HOURS: 4;
  readonly HOURS_ALARM: 5;
  readonly WEEKDAY: 6;
  readonly DAY: 7;
  readonly MONTH: 8;
  readonly YEAR: 9;
  readonly A: 10;
  readonly B: 11;
  readonly C: 12;
  readonly D: 13;
  readonly CENTURY: 0x32;
} = {
  SECONDS: 0,
  SECONDS_ALARM: 1,
  MINUTES: 2,
  MINUTES_ALARM: 3,
  HOURS: 4,
  HOURS_ALARM: 5,
  WEEKDAY: 6,
  DAY: 7,
  MONTH: 8,
  YEAR: 9,
  A: 10,
  B: 11,
  C: 12,
  D: 13,
  CENTURY: 0x32,
};

/** Register B: hours run from 0 to 23. */
export const B_24_HOURS = 0x02;
/** Register B: numbers are binary, else BCD. */
export const B_BINARY = 0x04;

const PM = 0x80;

function encode(value: number, b: number): number {
  return b & B_BINARY ? value : (Math.floor(value / 10) << 4) | (value % 10);
}

function decode(raw: number, b: number): number {
  return b & B_BINARY ? raw : (raw >> 4) * 10 + (raw & 15);
}

function encodeHour(hour: number, b: number): number {
  if (b & B_24_HOURS) return encode(hour, b);
  return encode(hour % 12 || 12, b) | (hour >= 12 ? PM : 0);
}

function decodeHour(raw: number, b: number): number {
  if (b & B_24_HOURS) return decode(raw, b);
  return (decode(raw & 0x7f, b) % 12) + (raw & PM ? 12 : 0);
}

/** Writes the calendar registers for a time in seconds since 1970. */
export function storeTime(cmos: Uint8Array, seconds: number): void {
  const b = cmos[RTC.B] as number;
  const date = new Date(seconds * 1000);
  const year = date.getUTCFullYear();
  cmos[RTC.SECONDS] = encode(date.getUTCSeconds(), b);
  cmos[RTC.MINUTES] = encode(date.getUTCMinutes(), b);
  cmos[RTC.HOURS] = encodeHour(date.getUTCHours(), b);
  cmos[RTC.WEEKDAY] = encode(date.getUTCDay() + 1, b);
  cmos[RTC.DAY] = encode(date.getUTCDate(), b);
  cmos[RTC.MONTH] = encode(date.getUTCMonth() + 1, b);
  cmos[RTC.YEAR] = encode(year % 100, b);
  cmos[RTC.CENTURY] = encode(Math.floor(year / 100) % 100, b);
}

/** Reads the calendar registers as seconds since 1970. Values out of range carry over into the next unit. */
export function loadTime(cmos: Uint8Array): number {
  const b = cmos[RTC.B] as number;
  const field = (register: number): number => decode(cmos[register] as number, b);
  const date = new Date(0);
  date.setUTCFullYear(100 * field(RTC.CENTURY) + field(RTC.YEAR), field(RTC.MONTH) - 1, field(RTC.DAY));
  date.setUTCHours(decodeHour(cmos[RTC.HOURS] as number, b), field(RTC.MINUTES), field(RTC.SECONDS));
  return Math.floor(date.getTime() / 1000);
}

/** The first time after `seconds` at which the alarm registers match; Infinity if they never do. */
export function nextAlarm(cmos: Uint8Array, seconds: number): number {
  const b = cmos[RTC.B] as number;
  const wanted = (register: number, decoder: (raw: number, b: number) => number): number => {
    const raw = cmos[register] as number;
    return raw >= 0xc0 ? -1 : decoder(raw, b); // two set top bits match anything
  };
  const second = wanted(RTC.SECONDS_ALARM, decode);
  const minute = wanted(RTC.MINUTES_ALARM, decode);
  const hour = wanted(RTC.HOURS_ALARM, decodeHour);
  if (second > 59 || minute > 59 || hour > 23) return Number.POSITIVE_INFINITY;
  let time = seconds + 1;
  // Skips whole hours, then minutes, then seconds, until all three match; a day holds every combination.
  if (hour >= 0 && hourOf(time) !== hour) {
    time = Math.ceil(time / 3600) * 3600;
    time += ((hour - hourOf(time) + 24) % 24) * 3600;
  }
  if (minute >= 0 && minuteOf(time) !== minute) {
    const before = time;
    time = Math.ceil(time / 60) * 60;
    time += ((minute - minuteOf(time) + 60) % 60) * 60;
    if (hour >= 0 && hourOf(time) !== hour) return nextAlarm(cmos, endOfHour(before));
  }
  if (second >= 0 && time % 60 !== second) {
    const before = time;
    time += (second - (time % 60) + 60) % 60;
    if (minute >= 0 && minuteOf(time) !== minute) return nextAlarm(cmos, endOfMinute(before));
    if (hour >= 0 && hourOf(time) !== hour) return nextAlarm(cmos, endOfHour(before));
  }
  return time;
}

function hourOf(time: number): number {
  return Math.floor(time / 3600) % 24;
}

function minuteOf(time: number): number {
  return Math.floor(time / 60) % 60;
}

function endOfHour(time: number): number {
  return Math.floor(time / 3600) * 3600 + 3599;
}

function endOfMinute(time: number): number {
  return Math.floor(time / 60) * 60 + 59;
}
