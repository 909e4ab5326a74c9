/**
 * The PC's real-time clock and configuration memory, an MC146818 at ports 70h and 71h.
 *
 * Time follows the clock it is given, from a starting point it is given; nothing comes from the host. Flags are found when
 * somebody looks, and the clock is asked for an alarm only while one would interrupt.
 *
 * Reference: Motorola MC146818 data sheet, "Registers", "Update Cycle" and "Periodic Interrupt Selection".
 */
import type { IrqLine, PortBus, PortDevice } from './bus.ts';
import { type Clock, Timer } from './clock.ts';
import { B_24_HOURS, loadTime, nextAlarm, RTC, storeTime } from './rtc-time.ts';
import { nsToTicks, ticksToNs } from './ticks.ts';

/** What the real-time clock is connected to. */
export interface RtcOptions {
  readonly clock: Clock;
  /** Interrupt 8. */
  readonly irq: IrqLine;
  /** UTC in seconds since 1970 when the clock shows 0. */
  readonly epochSeconds: number;
}

/** Everything it remembers. */
export interface RtcState {
  version: 1;
  /** 128 bytes of memory; the first ones are the registers. */
  cmos: Uint8Array;
  /** What was written to port 70h: register in bits 6:0, NMI mask in bit 7. */
  index: number;
  /** Time in the calendar registers, seconds since 1970. */
  seconds: number;
  /** When the last update happened, or would have (ns). */
  updatedAt: number;
  /** Periods of the periodic interrupt that have been told of. */
  periods: number;
}

const NS_PER_SECOND = 1_000_000_000;
const OSCILLATOR_HZ = 32_768;
/** The update-in-progress bit announces an update by this much. */
const UPDATE_WARNING_NS = 244_000;

const A_UPDATE_IN_PROGRESS = 0x80;
const A_DIVIDER = 0x70;
const A_DIVIDER_RUNNING = 0x20;
const B_SET = 0x80;
const PERIODIC = 0x40;
const ALARM = 0x20;
const UPDATE = 0x10;
const C_INTERRUPT = 0x80;
const D_POWER_GOOD = 0x80;

/** Registers whose writes set the time. */
const CALENDAR: readonly number[] = [RTC.SECONDS, RTC.MINUTES, RTC.HOURS, RTC.DAY, RTC.MONTH, RTC.YEAR, RTC.CENTURY];

/** The clock and its memory. */
export class Mc146818 implements PortDevice {
  readonly portWidth = 1;
  readonly state: RtcState;
  readonly #clock: Clock;
  readonly #irq: IrqLine;
  readonly #timer: Timer = new Timer(() => this.#settle());
  #level = false;

  constructor(options: RtcOptions) {
    this.#clock = options.clock;
    this.#irq = options.irq;
    const seconds = Math.floor(options.clock.now() / NS_PER_SECOND);
    this.state = {
      version: 1,
      cmos: new Uint8Array(128),
      index: 0,
      seconds: options.epochSeconds + seconds,
      updatedAt: seconds * NS_PER_SECOND,
      periods: 0,
    };
    const { cmos } = this.state;
    cmos[RTC.A] = A_DIVIDER_RUNNING | 6; // 1024 Hz
    cmos[RTC.B] = B_24_HOURS;
    cmos[RTC.D] = D_POWER_GOOD;
    cmos[0x14] = 0x02; // equipment: a floating-point unit
    storeTime(cmos, this.state.seconds);
    this.#settle();
  }

  /** Claims the two ports. */
  attach(bus: PortBus): void {
    bus.register(0x70, 2, this);
  }

  /** The RESET pin: interrupts off and flags clear; time and memory stay, as the battery keeps them. */
  reset(): void {
    this.#sync();
    const { cmos } = this.state;
    cmos[RTC.B] = (cmos[RTC.B] as number) & ~(PERIODIC | ALARM | UPDATE | 0x08);
    cmos[RTC.C] = 0;
    this.#settle();
  }

  /** Takes over a saved state, whose times count from the start of the same clock. */
  restore(state: RtcState): void {
    Object.assign(this.state, state);
    this.state.cmos = state.cmos.slice();
    this.#settle();
  }

  /** Whether software masks non-maskable interrupts by bit 7 of port 70h. */
  get nmiMasked(): boolean {
    return (this.state.index & 0x80) !== 0;
  }

  /** Tells memory sizes in bytes, below and above 4 GiB, where PC firmware looks for them. */
  setMemorySize(below4G: number, above4G: number): void {
    const extended = Math.min(0xffff, Math.max(0, Math.floor(below4G / 1024) - 1024));
    const above16M = Math.min(0xffff, Math.max(0, Math.floor(below4G / 0x1_0000) - 256));
    this.#poke(0x15, 640, 2);
    this.#poke(0x17, extended, 2);
    this.#poke(0x30, extended, 2);
    this.#poke(0x34, above16M, 2);
    this.#poke(0x5b, Math.floor(above4G / 0x1_0000), 3);
  }

  portRead(port: number, _size: number): number {
    // The index register cannot be read.
    if ((port & 1) === 0) return 0xff;
    const index = this.state.index & 0x7f;
    const { cmos } = this.state;
    this.#sync();
    if (index === RTC.A) return (cmos[RTC.A] as number) | this.#updateInProgress();
    const value = cmos[index] as number;
    if (index === RTC.C) {
      cmos[RTC.C] = 0;
      this.#settle();
    }
    return value;
  }

  portWrite(port: number, _size: number, value: number): void {
    if ((port & 1) === 0) {
      this.state.index = value;
      return;
    }
    const index = this.state.index & 0x7f;
    if (index === RTC.C || index === RTC.D) return;
    this.#sync();
    if (index === RTC.A) this.#writeA(value);
    else if (index === RTC.B) this.#writeB(value);
    else {
      this.state.cmos[index] = value;
      if (CALENDAR.includes(index)) this.state.seconds = loadTime(this.state.cmos);
    }
    this.#settle();
  }

  #writeA(value: number): void {
    const { cmos } = this.state;
    const stopped = !this.#dividing();
    cmos[RTC.A] = value & 0x7f;
    // The first update comes half a second after the divider is let go.
    if (stopped && this.#dividing()) this.state.updatedAt = this.#clock.now() - NS_PER_SECOND / 2;
    this.state.periods = this.#periodsNow();
  }

  #writeB(value: number): void {
    const { cmos } = this.state;
    cmos[RTC.B] = value & B_SET ? value & ~UPDATE : value;
    // The registers keep their bits when their format changes, so that they mean another time.
    this.state.seconds = loadTime(cmos);
  }

  #dividing(): boolean {
    return ((this.state.cmos[RTC.A] as number) & A_DIVIDER) === A_DIVIDER_RUNNING;
  }

  #updateInProgress(): number {
    const set = (this.state.cmos[RTC.B] as number) & B_SET;
    if (set || !this.#dividing()) return 0;
    const elapsed = this.#clock.now() - this.state.updatedAt;
    return elapsed >= NS_PER_SECOND - UPDATE_WARNING_NS ? A_UPDATE_IN_PROGRESS : 0;
  }

  /** Ticks of the oscillator per periodic interrupt, 0 for none. */
  #periodTicks(): number {
    const rate = (this.state.cmos[RTC.A] as number) & 15;
    if (rate === 0 || !this.#dividing()) return 0;
    return 2 ** ((rate < 3 ? rate + 7 : rate) - 1);
  }

  #periodsNow(): number {
    const ticks = this.#periodTicks();
    return ticks === 0 ? 0 : Math.floor(nsToTicks(this.#clock.now(), OSCILLATOR_HZ) / ticks);
  }

  /** Brings calendar and flags up to the present. */
  #sync(): void {
    const s = this.state;
    const { cmos } = s;
    if (!this.#dividing()) return;
    let flags = cmos[RTC.C] as number;
    const periods = this.#periodsNow();
    if (periods !== s.periods) flags |= PERIODIC;
    s.periods = periods;
    const updates = Math.floor((this.#clock.now() - s.updatedAt) / NS_PER_SECOND);
    if (updates > 0) {
      s.updatedAt += updates * NS_PER_SECOND;
      // SET holds the calendar still, while the divider goes on.
      if (!((cmos[RTC.B] as number) & B_SET)) {
        if (nextAlarm(cmos, s.seconds) <= s.seconds + updates) flags |= ALARM;
        flags |= UPDATE;
        s.seconds += updates;
        storeTime(cmos, s.seconds);
      }
    }
    cmos[RTC.C] = flags;
  }

  /** After any change: flags, the interrupt wire, and the next alarm. */
  #settle(): void {
    this.#sync();
    const { cmos } = this.state;
    const pending = (cmos[RTC.C] as number) & (cmos[RTC.B] as number) & (PERIODIC | ALARM | UPDATE);
    const flags = (cmos[RTC.C] as number) & ~C_INTERRUPT;
    cmos[RTC.C] = pending ? flags | C_INTERRUPT : flags;
    const next = pending ? Number.POSITIVE_INFINITY : this.#nextInterrupt();
    if (next === Number.POSITIVE_INFINITY) this.#clock.cancel(this.#timer);
    else this.#clock.setTimer(this.#timer, next);
    const level = pending !== 0;
    if (level === this.#level) return;
    this.#level = level;
    this.#irq(level);
  }

  /** When the next flag rises whose interrupt is enabled. */
  #nextInterrupt(): number {
    const s = this.state;
    const enabled = s.cmos[RTC.B] as number;
    let next = Number.POSITIVE_INFINITY;
    if (!this.#dividing()) return next;
    const ticks = this.#periodTicks();
    if (enabled & PERIODIC && ticks > 0) {
      next = ticksToNs((s.periods + 1) * ticks, OSCILLATOR_HZ);
    }
    if (enabled & B_SET) return next;
    if (enabled & UPDATE) next = Math.min(next, s.updatedAt + NS_PER_SECOND);
    if (enabled & ALARM) {
      const wait = nextAlarm(s.cmos, s.seconds) - s.seconds;
      next = Math.min(next, s.updatedAt + wait * NS_PER_SECOND);
    }
    return next;
  }

  #poke(index: number, value: number, bytes: number): void {
    for (let i = 0; i < bytes; i++) {
      this.state.cmos[index + i] = Math.floor(value / 2 ** (8 * i)) & 0xff;
    }
  }
}
