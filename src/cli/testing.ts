/** A process and a guest for tests of the command line: nothing runs, everything is recorded. */

import type { GuestEnd } from '../vmm/guest-end.ts';
import type { GuestConfig, GuestRun, GuestStatistics, StartGuest, StartGuests } from '../vmm/guest-run.ts';
import type { ConsoleSink } from '../vmm/serial-console.ts';
import type { CliEnvironment } from './cli.ts';
import type { InputStream } from './console/terminal.ts';
import type { SessionProcess } from './guest-session.ts';

type Listener = (value?: unknown) => void;

/** Listeners by event. */
class Emitter {
  readonly listeners: Map<string, Listener[]> = new Map();

  on(event: string, listener: Listener): void {
    this.listeners.set(event, [...(this.listeners.get(event) ?? []), listener]);
  }
  once(event: string, listener: Listener): void {
    this.on(event, listener);
  }
  off(event: string, listener: Listener): void {
    this.listeners.set(
      event,
      (this.listeners.get(event) ?? []).filter((other) => other !== listener),
    );
  }
  emit(event: string, value?: unknown): void {
    for (const listener of this.listeners.get(event) ?? []) listener(value);
  }
  get listenerCount(): number {
    return [...this.listeners.values()].reduce((sum, list) => sum + list.length, 0);
  }
}

/** stdin whose keys a test presses. */
export class FakeStdin extends Emitter {
  isTTY: boolean;
  raw = false;
  paused = false;

  constructor(isTTY: boolean) {
    super();
    this.isTTY = isTTY;
  }
  setRawMode(raw: boolean): void {
    this.raw = raw;
  }
  pause(): void {
    this.paused = true;
  }
  resume(): void {
    this.paused = false;
  }
  type(text: string): void {
    this.emit('data', new TextEncoder().encode(text));
  }
}

/** A stream that keeps what is written and may want a pause. */
export class FakeOutput extends Emitter {
  text = '';
  full = false;
  isTTY = false;

  write(data: Uint8Array | string): boolean {
    this.text += typeof data === 'string' ? data : new TextDecoder().decode(data);
    return !this.full;
  }
  drain(): void {
    this.full = false;
    this.emit('drain');
  }
}

/** A guest that does what the test says. */
export class FakeGuest implements GuestRun {
  readonly config: GuestConfig;
  readonly sink: ConsoleSink;
  readonly done: Promise<GuestEnd>;
  received = '';
  /** Input is taken, but no more is wanted. */
  full = false;
  drained: () => void = () => {};
  inputEnded = false;
  #resolve: (end: GuestEnd) => void = () => {};

  constructor(config: GuestConfig, sink: ConsoleSink) {
    this.config = config;
    this.sink = sink;
    this.done = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }
  stop(end: GuestEnd): void {
    this.#resolve(end);
  }
  input(bytes: Uint8Array): boolean {
    this.received += new TextDecoder().decode(bytes);
    return !this.full;
  }
  onInputDrained(callback: () => void): void {
    this.drained = callback;
  }
  endInput(): void {
    this.inputEnded = true;
  }
  statistics(): GuestStatistics {
    const tdx = { seamcalls: { 'TDH.VP.ENTER': 9 }, tdcalls: { 'TDG.VP.VMCALL': 7 }, mrtd: 'ab'.repeat(48), rtmr: [] };
    const exits = { CPUID: 2, IO_INSTRUCTION: 40 };
    return { instructions: 3_000_000, virtualSeconds: 0.5, exits, ...(this.config.type === 'td' ? { tdx } : {}) };
  }
  stateHash(): string {
    return '0123456789abcdef';
  }
  hostView(): Uint8Array {
    return new Uint8Array(4096).fill(this.config.type === 'td' ? 0 : 0x90);
  }
}

/** Everything that a command line touches. */
export interface FakeWorld {
  readonly environment: CliEnvironment;
  readonly stdin: FakeStdin;
  readonly stdout: FakeOutput;
  readonly stderr: FakeOutput;
  readonly signals: Emitter;
  /** The guests that were started. */
  readonly guests: FakeGuest[];
}

/** A world in which every guest is given to `live`, which decides its fate. */
export function fakeWorld(
  live: (guest: FakeGuest) => void = (guest) => guest.stop({ reason: 'power-off' }),
  options: { readonly terminal?: boolean } & Partial<CliEnvironment> = {},
): FakeWorld {
  const { terminal = false, ...overrides } = options;
  const stdin = new FakeStdin(terminal);
  const stdout = new FakeOutput();
  const stderr = new FakeOutput();
  const signals = new Emitter();
  const guests: FakeGuest[] = [];
  const startGuest: StartGuest = async (config, sink) => {
    const guest = new FakeGuest(config, sink);
    guests.push(guest);
    setTimeout(() => live(guest), 0);
    return guest;
  };
  const startGuests: StartGuests = (all) => Promise.all(all.map(({ config, sink }) => startGuest(config, sink)));
  let time = 0;
  const environment: CliEnvironment = {
    process: {
      stdin: stdin as InputStream,
      stdout,
      stderr,
      on: (event: string, listener: () => void) => signals.on(event, listener),
      off: (event: string, listener: () => void) => signals.off(event, listener),
    } as SessionProcess,
    startGuest,
    startGuests,
    now: () => (time += 500),
    print: (text) => stdout.write(`${text}\n`),
    complain: (line) => stderr.write(`${line}\n`),
    debug: false,
    ...overrides,
  };
  return { environment, stdin, stdout, stderr, signals, guests };
}
