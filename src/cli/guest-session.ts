/** Runs one guest on the process's terminal, from files read to report written. */

import type { GuestEnd } from '../vmm/guest-end.ts';
import { describeEnd } from '../vmm/guest-end.ts';
import type { GuestConfig, GuestRun, StartGuest, StartGuests } from '../vmm/guest-run.ts';
import { BootStatus } from './boot-status.ts';
import { type InputStream, Keyboard, type OutputStream, StreamSink } from './console/terminal.ts';
import { jsonReport, type RunReport } from './report.ts';

/** Signals that end a run in an orderly way. */
const SIGNALS: Readonly<Record<'SIGINT' | 'SIGTERM' | 'SIGHUP', number>> = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 };

/** The process that a session runs in; `process` is one. */
export interface SessionProcess {
  readonly stdin: InputStream;
  readonly stdout: OutputStream & {
    on(event: 'error', listener: () => void): unknown;
    off(event: 'error', listener: () => void): unknown;
  };
  readonly stderr: { readonly isTTY?: boolean | undefined; write(text: string): unknown };
  on(event: string, listener: () => void): unknown;
  off(event: string, listener: () => void): unknown;
}

/** What a session needs from its surroundings. */
export interface SessionEnvironment {
  readonly process: SessionProcess;
  readonly startGuest: StartGuest;
  readonly startGuests: StartGuests;
  /** Wall time in ms. */
  readonly now: () => number;
}

/** How the session behaves around the guest. */
export interface SessionOptions {
  /** Wall seconds, or none. */
  readonly timeout?: number | undefined;
  readonly json?: boolean;
  /** Show on a terminal that the guest works while it prints nothing. */
  readonly status?: boolean;
  /** Say nothing about the end; the caller reports. */
  readonly quiet?: boolean;
}

/** Ends that need no line: they are what was asked for. */
const SILENT_ENDS: readonly GuestEnd['reason'][] = ['power-off', 'debug-exit', 'quit'];

/** Runs the guest until it ends. Throws a SoftvtError if the input cannot be a guest. */
export async function runSession(
  environment: SessionEnvironment,
  config: GuestConfig,
  options: SessionOptions = {},
): Promise<RunReport> {
  const { process, startGuest, now } = environment;
  const say = (line: string): void => {
    process.stderr.write(`softvt: ${line}\n`);
  };
  const started = now();
  const status = options.status === true && process.stderr.isTTY === true ? new BootStatus(process.stderr) : undefined;
  const sink = new StreamSink(process.stdout, () => status?.stop());
  // Firmware's debug port is not the guest's console.
  if (config.firmware !== undefined) sink.debug = lines((text) => process.stderr.write(text));
  const guest = await startGuest(config, sink);
  const release = connect(environment, guest, options, say);
  status?.start(() => guest.statistics());
  let end: GuestEnd;
  try {
    end = await guest.done;
  } finally {
    status?.stop();
    release();
  }
  const report = { end, statistics: guest.statistics(), wallSeconds: (now() - started) / 1000 };
  if (options.quiet !== true && !SILENT_ENDS.includes(end.reason)) say(describeEnd(end));
  if (options.json === true) process.stderr.write(`${jsonReport(report, guest.stateHash())}\n`);
  return report;
}

/** Collects bytes and hands them over line by line. */
function lines(write: (text: string) => void): (byte: number) => void {
  let line = '';
  return (byte) => {
    line += String.fromCharCode(byte);
    if (byte !== 0x0a) return;
    write(line);
    line = '';
  };
}

/** Connects keyboard, signals and timeout; the result undoes it, on every way out. */
function connect(
  { process }: SessionEnvironment,
  guest: GuestRun,
  { timeout }: SessionOptions,
  say: (line: string) => void,
): () => void {
  const keyboard = new Keyboard({
    stream: process.stdin,
    target: guest,
    quit: () => guest.stop({ reason: 'quit' }),
    say,
  });
  const restoreTerminal = (): void => keyboard.close();
  process.on('exit', restoreTerminal);
  const handlers = Object.entries(SIGNALS).map(([name, number]) => {
    const handler = (): void => guest.stop({ reason: 'signal', name, number });
    process.on(name, handler);
    return [name, handler] as const;
  });
  // Nobody reads the console any more.
  const broken = (): void => guest.stop({ reason: 'signal', name: 'SIGPIPE', number: 13 });
  process.stdout.on('error', broken);
  const timer =
    timeout === undefined
      ? undefined
      : setTimeout(() => guest.stop({ reason: 'timeout', seconds: timeout }), timeout * 1000);
  return () => {
    clearTimeout(timer);
    process.stdout.off('error', broken);
    for (const [name, handler] of handlers) process.off(name, handler);
    process.off('exit', restoreTerminal);
    keyboard.close();
  };
}
