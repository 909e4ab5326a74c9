/**
 * One counter of an 8254: what its counting element and output do over time, computed on demand.
 *
 * Time is in ticks (CLK pulses). A channel is advanced in closed form from one observation to the next; nothing happens per
 * tick. `i8254.test.ts` compares this with a plain tick-by-tick simulation in every mode.
 *
 * Reference: Intel 8254 Programmable Interval Timer data sheet, "Mode Definitions" and "Operation Common to All Modes".
 */

/** A channel's registers. Counts are plain numbers, also in BCD mode. */
export interface I8254ChannelState {
  /** Control word's low six bits as written: access in bits 5:4, mode in 3:1, BCD in 0. */
  control: number;
  /** Count register: the count to load next, 1 to 65536 (10000 in BCD). */
  reload: number;
  /** A count was written since the control word. */
  armed: boolean;
  /** The count register has not reached the counting element yet. */
  nullCount: boolean;
  /** The counting element takes the count register at the next tick. */
  loadPending: boolean;
  /** The counting element has been loaded since the control word. */
  running: boolean;
  /** Counting element. */
  element: number;
  /** What the element was last loaded with. */
  loaded: number;
  /** Tick of the last load by software or trigger. */
  loadTick: number;
  /** Ticks until OUT changes in modes 0, 1, 4 and 5; 0 when it has. */
  remaining: number;
  out: boolean;
  gate: boolean;
  /** Tick at which all of the above holds. */
  tick: number;
  /** First byte of a two-byte count, and whether it was written. */
  writeLatch: number;
  writeState: number;
  /** 1 when the next byte read is the second one. */
  readState: number;
  latchedCount: number;
  /** A latched count waits to be read. */
  countLatched: boolean;
  status: number;
  /** A latched status waits to be read. */
  statusLatched: boolean;
}

/** A channel after power-on: undefined in the data sheet, here mode 0 without a count. */
export function initialChannel(gate: boolean, tick: number): I8254ChannelState {
  return {
    control: 0x30,
    reload: 0x1_0000,
    armed: false,
    nullCount: true,
    loadPending: false,
    running: false,
    element: 0,
    loaded: 0x1_0000,
    loadTick: tick,
    remaining: 0,
    out: false,
    gate,
    tick,
    writeLatch: 0,
    writeState: 0,
    readState: 0,
    latchedCount: 0,
    countLatched: false,
    status: 0,
    statusLatched: false,
  };
}

/** Mode 0 to 5 of a channel; the codes 6 and 7 are modes 2 and 3. */
export function channelMode(c: I8254ChannelState): number {
  const mode = (c.control >> 1) & 7;
  return mode > 5 ? mode - 4 : mode;
}

function modulus(c: I8254ChannelState): number {
  return c.control & 1 ? 10_000 : 0x1_0000;
}

/** The least count of the periodic modes is 2; 1 is illegal there and taken as 2. */
function periodOf(c: I8254ChannelState): number {
  return Math.max(2, c.reload);
}

/** A control word for the channel: stops it and puts OUT to the mode's idle level. */
export function writeControl(c: I8254ChannelState, control: number): void {
  c.control = control & 0x3f;
  c.armed = false;
  c.nullCount = true;
  c.loadPending = false;
  c.running = false;
  c.remaining = 0;
  c.out = channelMode(c) !== 0;
  c.writeState = 0;
  c.readState = 0;
  c.countLatched = false;
  c.statusLatched = false;
}

/** The first byte of a two-byte count: stops mode 0, does nothing in the others. */
export function beginCount(c: I8254ChannelState): void {
  if (channelMode(c) !== 0) return;
  c.running = false;
  c.loadPending = false;
  c.remaining = 0;
  c.out = false;
}

/** A whole new count, `raw` being the 16 bits written. */
export function writeCount(c: I8254ChannelState, raw: number): void {
  const mode = channelMode(c);
  const count = (c.control & 1 ? fromBcd(raw) : raw) % modulus(c);
  c.reload = count === 0 ? modulus(c) : count;
  c.armed = true;
  c.nullCount = true;
  if (mode === 0) {
    beginCount(c);
    c.loadPending = true;
  } else if (mode === 4) {
    c.loadPending = true;
  } else if (mode === 2 || mode === 3) {
    // While it runs, the new count waits for the end of the period or half period, or a trigger.
    if (!c.running) c.loadPending = true;
  }
}

/** Puts a level on GATE. A rising edge triggers modes 1, 2, 3 and 5. */
export function writeGate(c: I8254ChannelState, level: boolean): void {
  if (c.gate === level) return;
  c.gate = level;
  const mode = channelMode(c);
  if (mode === 0 || mode === 4) return;
  if (level) {
    if (c.armed) c.loadPending = true;
  } else if (mode === 2 || mode === 3) {
    c.out = true;
  }
}

/** Brings the channel up to `tick`. An earlier tick than the channel's own changes nothing. */
export function advance(c: I8254ChannelState, tick: number): void {
  let ticks = tick - c.tick;
  if (ticks <= 0) return;
  c.tick = tick;
  const mode = channelMode(c);
  // The strobe of modes 4 and 5 lasts one tick, whatever GATE does.
  if (mode >= 4) c.out = true;
  if (c.loadPending) {
    ticks--;
    c.loadTick = tick - ticks;
    load(c);
  }
  if (ticks === 0 || !c.running || !counting(c)) return;
  if (mode === 2) advanceRate(c, ticks);
  else if (mode === 3) advanceSquare(c, ticks);
  else advanceOnce(c, ticks, mode);
}

/** Whether GATE lets the element count. */
function counting(c: I8254ChannelState): boolean {
  const mode = channelMode(c);
  return c.gate || mode === 1 || mode === 5;
}

/** The count register goes to the counting element. */
function load(c: I8254ChannelState): void {
  const mode = channelMode(c);
  c.loadPending = false;
  c.nullCount = false;
  c.running = true;
  if (mode === 2 || mode === 3) {
    reloadPeriodic(c);
    return;
  }
  c.loaded = c.reload;
  c.element = c.reload;
  c.remaining = c.reload;
  if (mode === 1) c.out = false;
}

function reloadPeriodic(c: I8254ChannelState): void {
  c.loaded = periodOf(c);
  c.nullCount = false;
  // Mode 3 counts by two, an odd count from one less.
  c.element = channelMode(c) === 3 ? c.loaded & ~1 : c.loaded;
}

/** Modes 0, 1, 4 and 5: one event, then the element wraps round silently. */
function advanceOnce(c: I8254ChannelState, ticks: number, mode: number): void {
  const size = modulus(c);
  c.element = (((c.element - ticks) % size) + size) % size;
  if (c.remaining === 0) return;
  if (ticks < c.remaining) {
    c.remaining -= ticks;
    return;
  }
  // Modes 4 and 5 are low for exactly the tick at which the count runs out.
  c.out = mode < 4 || ticks > c.remaining;
  c.remaining = 0;
}

/** Mode 2: the element runs from the count down to 1, where OUT is low for a tick. */
function advanceRate(c: I8254ChannelState, ticks: number): void {
  if (ticks < c.element) {
    c.element -= ticks;
  } else {
    const rest = ticks - c.element;
    reloadPeriodic(c);
    c.element -= rest % c.loaded;
  }
  c.out = c.element !== 1;
}

/** Mode 3: OUT is high for the larger half of the count and low for the rest. */
function advanceSquare(c: I8254ChannelState, ticks: number): void {
  let rest = ticks;
  let left = squareLeft(c);
  while (rest >= left) {
    rest -= left;
    c.out = !c.out;
    reloadPeriodic(c);
    rest %= c.loaded;
    left = squareLeft(c);
  }
  c.element -= 2 * rest;
}

/** Ticks until OUT toggles in mode 3. The high half of an odd count has one tick more, at element 0. */
function squareLeft(c: I8254ChannelState): number {
  return (c.element >> 1) + (c.out ? c.loaded & 1 : 0);
}

/** Ticks from the channel's own tick to the next time OUT goes from low to high; Infinity for never. */
export function ticksToRise(c: I8254ChannelState): number {
  const mode = channelMode(c);
  if (mode >= 4 && !c.out) return 1;
  if (!(c.loadPending || c.running) || !counting(c)) return Number.POSITIVE_INFINITY;
  if (mode === 2) return c.loadPending ? 1 + periodOf(c) : c.element;
  if (mode === 3) {
    if (c.loadPending) return 1 + periodOf(c);
    return squareLeft(c) + (c.out ? periodOf(c) >> 1 : 0);
  }
  const strobe = mode >= 4 ? 1 : 0;
  if (c.loadPending) return 1 + c.reload + strobe;
  return c.remaining === 0 ? Number.POSITIVE_INFINITY : c.remaining + strobe;
}

/** Tick at which the present count, or period of modes 2 and 3, began. */
export function countStartTick(c: I8254ChannelState): number {
  const mode = channelMode(c);
  if (!c.running) return c.loadTick;
  if (mode === 2) return c.tick - (c.loaded - c.element);
  if (mode !== 3) return c.loadTick;
  const inHalf = ((c.loaded & ~1) - c.element) >> 1;
  return c.tick - inHalf - (c.out ? 0 : (c.loaded + 1) >> 1);
}

/** The counting element as 16 bits to be read. */
export function elementBits(c: I8254ChannelState): number {
  const value = c.element % modulus(c);
  return c.control & 1 ? toBcd(value) : value;
}

/** What a read-back of the status latches: OUT, null count, and the control word as written. */
export function statusBits(c: I8254ChannelState): number {
  return (c.out ? 0x80 : 0) | (c.nullCount ? 0x40 : 0) | c.control;
}

function fromBcd(raw: number): number {
  return (raw >> 12) * 1000 + ((raw >> 8) & 15) * 100 + ((raw >> 4) & 15) * 10 + (raw & 15);
}

function toBcd(value: number): number {
  const digit = (unit: number): number => Math.floor(value / unit) % 10;
  return (digit(1000) << 12) | (digit(100) << 8) | (digit(10) << 4) | digit(1);
}
