/**
 * The local APIC's timer: one-shot and periodic countdown, and TSC-deadline mode.
 *
 * The count is computed when somebody looks; the clock is asked for an alarm only while an expiry would interrupt.
 *
 * Reference: Intel SDM volume 3, "APIC Timer" and "TSC-Deadline Mode".
 */
import { type Clock, Timer } from './clock.ts';
import { APIC, LVT_MASKED, TIMER_PERIODIC, TIMER_TSC_DEADLINE, timerDivisor } from './lapic-registers.ts';

/** What the timer remembers besides the registers of the page. */
export interface LapicTimerState {
  /** Whether a countdown is under way. */
  running: boolean;
  /** When it began, or would have begun at the initial count (ns). */
  start: number;
  /** IA32_TSC_DEADLINE, 0 while disarmed. */
  tscDeadline: bigint;
}

/** How the timer is connected. */
export interface LapicTimerOptions {
  readonly clock: Clock;
  readonly registers: Uint32Array;
  /** Called at each expiry that the LVT entry does not mask. */
  readonly expired: () => void;
  /** See LocalApicOwner.timeOfTsc. */
  readonly timeOfTsc: (tsc: bigint) => number;
  /** Nanoseconds per cycle of the timer's input clock. */
  readonly busCycleNs: number;
  /** Shortest period (ns) of periodic mode, a guard against a storm of interrupts. */
  readonly minPeriodNs: number;
}

const DIVIDE = APIC.TIMER_DIVIDE >> 2;
const INITIAL = APIC.TIMER_INITIAL >> 2;
const LVT = APIC.LVT_TIMER >> 2;

/** The timer of one local APIC. */
export class LapicTimer {
  readonly state: LapicTimerState = { running: false, start: 0, tscDeadline: 0n };
  readonly #options: LapicTimerOptions;
  readonly #registers: Uint32Array;
  readonly #clock: Clock;
  readonly #timer: Timer = new Timer(() => this.#fire());

  constructor(options: LapicTimerOptions) {
    this.#options = options;
    this.#registers = options.registers;
    this.#clock = options.clock;
  }

  /** Stops and disarms. */
  reset(): void {
    this.state.running = false;
    this.state.tscDeadline = 0n;
    this.#clock.cancel(this.#timer);
  }

  /** Takes over a saved state; the registers must be in place. */
  restore(state: LapicTimerState): void {
    Object.assign(this.state, state);
    this.#schedule();
  }

  /** Writes the LVT entry. Entering or leaving TSC-deadline mode disarms the timer. */
  writeLvt(value: number): void {
    this.#settle();
    const deadlineMode = this.#mode() === TIMER_TSC_DEADLINE;
    this.#registers[LVT] = value;
    if (deadlineMode !== (this.#mode() === TIMER_TSC_DEADLINE)) {
      this.#registers[INITIAL] = 0;
      this.reset();
    }
    this.#schedule();
  }

  /** Writes the initial count, which starts the countdown; 0 stops it. Without effect in TSC-deadline mode. */
  writeInitialCount(value: number): void {
    if (this.#mode() === TIMER_TSC_DEADLINE) return;
    this.#settle();
    this.#registers[INITIAL] = value;
    this.state.running = value !== 0;
    this.state.start = this.#clock.now();
    this.#schedule();
  }

  /** Writes the divide configuration; a countdown under way goes on from its present count. */
  writeDivide(value: number): void {
    this.#settle();
    const count = this.currentCount();
    this.#registers[DIVIDE] = value;
    if (this.state.running) this.resumeFrom(count);
  }

  /** Lets the countdown go on from `count` instead of the initial count. */
  resumeFrom(count: number): void {
    const counted = (this.#registers[INITIAL] as number) - count;
    this.state.running = count !== 0;
    this.state.start = this.#clock.now() - counted * this.#tickNs();
    this.#schedule();
  }

  /** Present count. */
  currentCount(): number {
    if (!this.state.running) return 0;
    const initial = this.#registers[INITIAL] as number;
    let elapsed = this.#clock.now() - this.state.start;
    if (this.#mode() === TIMER_PERIODIC) elapsed %= this.#periodNs();
    return Math.max(0, initial - Math.floor(elapsed / this.#tickNs()));
  }

  /** IA32_TSC_DEADLINE: 0 when disarmed, expired or in another mode. */
  readTscDeadline(): bigint {
    this.#settle();
    return this.state.tscDeadline;
  }

  /** Writes IA32_TSC_DEADLINE: 0 disarms, a time that has passed expires at once. Ignored in the other modes. */
  writeTscDeadline(value: bigint): void {
    if (this.#mode() !== TIMER_TSC_DEADLINE) return;
    this.#settle();
    this.state.tscDeadline = value;
    this.tscChanged();
  }

  /** The TSC or the way to it has changed, so the deadline is at another time. */
  tscChanged(): void {
    this.#schedule();
    if (this.#timer.armed) this.#fireIfDue();
    else this.#settle();
  }

  #mode(): number {
    return ((this.#registers[LVT] as number) >> 17) & 3;
  }

  #tickNs(): number {
    return timerDivisor(this.#registers[DIVIDE] as number) * this.#options.busCycleNs;
  }

  #periodNs(): number {
    const period = (this.#registers[INITIAL] as number) * this.#tickNs();
    return Math.max(1, period, this.#options.minPeriodNs);
  }

  /** When the timer expires next, Infinity for never. */
  #nextExpiry(): number {
    const mode = this.#mode();
    if (mode === TIMER_TSC_DEADLINE) {
      const { tscDeadline } = this.state;
      return tscDeadline === 0n ? Number.POSITIVE_INFINITY : this.#options.timeOfTsc(tscDeadline);
    }
    const { running, start } = this.state;
    if (!running) return Number.POSITIVE_INFINITY;
    if (mode !== TIMER_PERIODIC) {
      return Math.ceil(start + (this.#registers[INITIAL] as number) * this.#tickNs());
    }
    return Math.ceil(this.#periodStart() + this.#periodNs());
  }

  /** When the present period of periodic mode began. */
  #periodStart(): number {
    const period = this.#periodNs();
    const { start } = this.state;
    return start + Math.floor((this.#clock.now() - start) / period) * period;
  }

  /** Asks for an alarm at the next expiry, if anybody would hear it. */
  #schedule(): void {
    const masked = ((this.#registers[LVT] as number) & LVT_MASKED) !== 0;
    const expiry = masked ? Number.POSITIVE_INFINITY : this.#nextExpiry();
    if (expiry === Number.POSITIVE_INFINITY) this.#clock.cancel(this.#timer);
    else this.#clock.setTimer(this.#timer, expiry);
  }

  /** Brings the state up to the present: an alarm that is due but was not heard yet, and expiries nobody waited for. */
  #settle(): void {
    this.#fireIfDue();
    if (this.#mode() === TIMER_PERIODIC) this.state.start = this.#periodStart();
    else if (this.#nextExpiry() <= this.#clock.now()) this.#stop();
  }

  #fireIfDue(): void {
    if (!this.#timer.armed || this.#timer.deadline > this.#clock.now()) return;
    this.#clock.cancel(this.#timer);
    this.#fire();
  }

  #fire(): void {
    if (this.#mode() !== TIMER_PERIODIC) this.#stop();
    this.#schedule();
    this.#options.expired();
  }

  /** A one-shot countdown or deadline is over. */
  #stop(): void {
    if (this.#mode() === TIMER_TSC_DEADLINE) this.state.tscDeadline = 0n;
    else this.state.running = false;
  }
}
