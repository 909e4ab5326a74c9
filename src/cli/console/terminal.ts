/** Joins the guest's console to the process's stdin and stdout. */

import type { ConsoleSink } from '../../vmm/serial-console.ts';
import { ESCAPE_HELP, type EscapeCommand, EscapeKeys } from './escape-keys.ts';

/** The part of a readable stream that the console needs; `process.stdin` is one. */
export interface InputStream {
  readonly isTTY?: boolean | undefined;
  setRawMode?(raw: boolean): unknown;
  on(event: 'data', listener: (chunk: Uint8Array) => void): unknown;
  on(event: 'end' | 'error', listener: () => void): unknown;
  off(event: 'data', listener: (chunk: Uint8Array) => void): unknown;
  off(event: 'end' | 'error', listener: () => void): unknown;
  pause(): unknown;
  resume(): unknown;
  unref?(): unknown;
}

/** The part of a writable stream that the console needs; `process.stdout` is one. */
export interface OutputStream {
  write(bytes: Uint8Array): boolean;
  once(event: 'drain', listener: () => void): unknown;
}

/** Where input goes. */
export interface ConsoleTarget {
  input(bytes: Uint8Array): boolean;
  onInputDrained(callback: () => void): void;
  /** There will be no more. */
  endInput(): void;
}

/** Writes guest output to a stream and says when the stream wants a pause. */
export class StreamSink implements ConsoleSink {
  readonly #stream: OutputStream;
  #ready: Promise<void> | undefined;
  /** Called before the first write. */
  readonly #first: () => void;
  #used = false;
  /** Takes what firmware writes to its debug port. */
  debug?: (byte: number) => void;

  constructor(stream: OutputStream, first: () => void = () => {}) {
    this.#stream = stream;
    this.#first = first;
  }
  get ready(): Promise<void> | undefined {
    return this.#ready;
  }
  write(bytes: Uint8Array): void {
    if (!this.#used) this.#first();
    this.#used = true;
    if (this.#stream.write(bytes) || this.#ready !== undefined) return;
    this.#ready = new Promise((resolve) => {
      this.#stream.once('drain', () => {
        this.#ready = undefined;
        resolve();
      });
    });
  }
}

/** What {@link Keyboard} needs beside the stream. */
export interface KeyboardOptions {
  readonly stream: InputStream;
  readonly target: ConsoleTarget;
  readonly quit: () => void;
  /** Prints lines for the user beside the guest's output. */
  readonly say: (line: string) => void;
}

/**
 * Reads the stream into the guest: raw with escape keys if it is a terminal, as it is otherwise.
 *
 * {@link close} gives the terminal back as it was; calling it again does nothing.
 */
export class Keyboard {
  readonly #options: KeyboardOptions;
  readonly #keys: EscapeKeys = new EscapeKeys();
  readonly #terminal: boolean;
  #open = true;
  readonly #onData = (chunk: Uint8Array): void => this.#data(chunk);
  readonly #onEnd = (): void => {
    this.close();
    this.#options.target.endInput();
  };

  constructor(options: KeyboardOptions) {
    this.#options = options;
    const { stream } = options;
    this.#terminal = stream.isTTY === true;
    if (this.#terminal) stream.setRawMode?.(true);
    stream.on('data', this.#onData);
    stream.on('end', this.#onEnd);
    stream.on('error', this.#onEnd);
    stream.resume();
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    const { stream } = this.#options;
    stream.off('data', this.#onData);
    stream.off('end', this.#onEnd);
    stream.off('error', this.#onEnd);
    if (this.#terminal) stream.setRawMode?.(false);
    stream.pause();
    stream.unref?.();
  }

  #data(chunk: Uint8Array): void {
    if (!this.#terminal) return this.#give(chunk);
    const { input, commands } = this.#keys.feed(chunk);
    if (input.length > 0) this.#give(input);
    for (const command of commands) this.#command(command);
  }

  #command(command: EscapeCommand): void {
    if (command === 'quit') this.#options.quit();
    else for (const line of ESCAPE_HELP) this.#options.say(line);
  }

  #give(bytes: Uint8Array): void {
    const { stream, target } = this.#options;
    if (target.input(bytes)) return;
    stream.pause();
    target.onInputDrained(() => {
      if (this.#open) stream.resume();
    });
  }
}
