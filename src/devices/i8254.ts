/**
 * The PC's 8254 interval timer: three counters at 1.193182 MHz, counter 0 wired to interrupt 0.
 *
 * Counters are computed when somebody looks. Only the rising edges of counter 0's output are events on the clock, and only
 * while somebody wants them.
 *
 * Reference: Intel 8254 Programmable Interval Timer data sheet, "Programming the 8254", "Read Operations".
 */
import type { IrqLine, PortBus, PortDevice } from './bus.ts';
import { type Clock, Timer } from './clock.ts';
import * as channel from './i8254-channel.ts';
import { nsToTicks, ticksToNs } from './ticks.ts';

/** Frequency of the counters' clock input. */
export const PIT_HZ = 1_193_182;

/** What the timer is connected to. */
export interface I8254Options {
  readonly clock: Clock;
  /**
   * OUT of counter 0. Every rising edge is a call with false and then true. A falling edge is told with the next change, not
   * at its own time, since an edge-triggered input does not care.
   */
  readonly output?: IrqLine;
}

/** The three counters. */
export interface I8254State {
  version: 1;
  /** Level of counter 0's output that was told last. */
  outputLevel: boolean;
  channels: channel.I8254ChannelState[];
}

/** An 8254 at four consecutive ports, the last being the control word register. */
export class I8254 implements PortDevice {
  readonly portWidth = 1;
  readonly state: I8254State;
  readonly #clock: Clock;
  readonly #output: IrqLine | undefined;
  readonly #timer: Timer = new Timer(() => this.#rise());
  #wanted: boolean;

  constructor(options: I8254Options) {
    this.#clock = options.clock;
    this.#output = options.output;
    this.#wanted = options.output !== undefined;
    this.state = { version: 1, outputLevel: false, channels: this.#initialChannels() };
  }

  /** Claims four ports from `base` on. The base must be a multiple of 4. */
  attach(bus: PortBus, base = 0x40): void {
    bus.register(base, 4, this);
  }

  /** Power-on. */
  reset(): void {
    this.state.channels = this.#initialChannels();
    this.#settle();
  }

  /** Takes over a saved state, whose ticks count from the start of the same clock. What the output drives is not told. */
  restore(state: I8254State): void {
    this.state.outputLevel = state.outputLevel;
    this.state.channels = state.channels.map((c) => ({ ...c }));
    this.#arm();
  }

  /** Says whether edges of counter 0 are of use to anybody; while not, the timer sets no alarms. */
  setOutputWanted(wanted: boolean): void {
    this.#wanted = wanted;
    this.#settle();
  }

  /** Puts a level on a counter's GATE. Gates 0 and 1 are wired high on a PC. */
  setGate(index: number, level: boolean): void {
    channel.writeGate(this.#synced(index), level);
    this.#settle();
  }

  /** Present level of a counter's OUT. */
  output(index: number): boolean {
    return this.#synced(index).out;
  }

  /** A counter's present element, as 16 bits to be read. */
  readCount(index: number): number {
    return channel.elementBits(this.#synced(index));
  }

  /** When a counter's present count, or its present period, began (ns). */
  countStart(index: number): number {
    return ticksToNs(channel.countStartTick(this.#synced(index)), PIT_HZ);
  }

  /** Makes a counter behave as if `count` (1 to 65536) had been loaded at `atNs`, not later than now. */
  startCount(index: number, count: number, atNs: number): void {
    const c = this.#channel(index);
    channel.writeCount(c, count & 0xffff);
    c.reload = count;
    c.loadPending = true;
    c.tick = nsToTicks(atNs, PIT_HZ) - 1;
    this.#settle();
  }

  portRead(port: number, _size: number): number {
    const index = port & 3;
    // The control word register cannot be read: the data bus floats.
    if (index === 3) return 0xff;
    const c = this.#synced(index);
    if (c.statusLatched) {
      c.statusLatched = false;
      return c.status;
    }
    const value = c.countLatched ? c.latchedCount : channel.elementBits(c);
    const access = (c.control >> 4) & 3;
    let high = access === 2;
    if (access === 3) {
      high = c.readState === 1;
      c.readState ^= 1;
    }
    // A latch is used up by the last byte of the count.
    if (c.readState === 0) c.countLatched = false;
    return high ? value >> 8 : value & 0xff;
  }

  portWrite(port: number, _size: number, value: number): void {
    const index = port & 3;
    if (index === 3) this.#writeControl(value);
    else this.#writeCount(this.#synced(index), value);
    this.#settle();
  }

  #writeControl(value: number): void {
    const index = value >> 6;
    if (index === 3) {
      this.#readBack(value);
      return;
    }
    const c = this.#synced(index);
    if (value & 0x30) channel.writeControl(c, value);
    else latchCount(c);
  }

  /** Read-back: bit 5 clear latches counts, bit 4 clear latches status, of the counters in bits 3 to 1. */
  #readBack(value: number): void {
    for (let index = 0; index < 3; index++) {
      if (!(value & (2 << index))) continue;
      const c = this.#synced(index);
      if (!(value & 0x20)) latchCount(c);
      if (!(value & 0x10) && !c.statusLatched) {
        c.statusLatched = true;
        c.status = channel.statusBits(c);
      }
    }
  }

  #writeCount(c: channel.I8254ChannelState, value: number): void {
    const access = (c.control >> 4) & 3;
    if (access === 1) channel.writeCount(c, value);
    else if (access === 2) channel.writeCount(c, value << 8);
    else if (c.writeState === 0) {
      c.writeLatch = value;
      c.writeState = 1;
      channel.beginCount(c);
    } else {
      c.writeState = 0;
      channel.writeCount(c, c.writeLatch | (value << 8));
    }
  }

  #channel(index: number): channel.I8254ChannelState {
    return this.state.channels[index] as channel.I8254ChannelState;
  }

  #synced(index: number): channel.I8254ChannelState {
    const c = this.#channel(index);
    channel.advance(c, nsToTicks(this.#clock.now(), PIT_HZ));
    // A fall noticed before a write may raise the output again is told, so that the rise is an edge.
    if (index === 0 && !c.out) this.#drive(false);
    return c;
  }

  /** After any change: tells counter 0's level and arms the timer for its next rising edge. */
  #settle(): void {
    this.#drive(this.#synced(0).out);
    this.#arm();
  }

  #arm(): void {
    const c = this.#channel(0);
    const ticks = this.#wanted ? channel.ticksToRise(c) : Number.POSITIVE_INFINITY;
    if (ticks === Number.POSITIVE_INFINITY) this.#clock.cancel(this.#timer);
    else this.#clock.setTimer(this.#timer, ticksToNs(c.tick + ticks, PIT_HZ));
  }

  /** Counter 0's output has risen, perhaps after a fall that nobody was told. */
  #rise(): void {
    this.#drive(false);
    this.#drive(true);
    this.#settle();
  }

  #drive(level: boolean): void {
    if (level === this.state.outputLevel) return;
    this.state.outputLevel = level;
    this.#output?.(level);
  }

  /** Gates 0 and 1 are high, gate 2 is driven by system control port B. */
  #initialChannels(): channel.I8254ChannelState[] {
    const tick = nsToTicks(this.#clock.now(), PIT_HZ);
    return [true, true, false].map((gate) => channel.initialChannel(gate, tick));
  }
}

/** Latches the present count, unless a latched one still waits. */
function latchCount(c: channel.I8254ChannelState): void {
  if (c.countLatched) return;
  c.countLatched = true;
  c.latchedCount = channel.elementBits(c);
}
