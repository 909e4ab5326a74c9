/**
 * The guest's console: COM1 on one side, somebody who types and reads on the other.
 *
 * Input goes in at the speed of the line (115200 baud on the machine's clock), because guests drop what comes faster
 * than they read; output is collected and handed over in pieces.
 */

import { type Clock, Timer } from '../devices/clock.ts';
import { Uart16550 } from '../devices/uart.ts';

/** Ten bits per byte at 115200 baud. */
const NS_PER_BYTE = 86_806;
/** Beyond this much unread input the source should wait. */
const INPUT_LIMIT = 64 * 1024;
const OUTPUT_LIMIT = 16 * 1024;

/** Who reads the console. */
export interface ConsoleSink {
  /** Takes output; the array is the sink's. */
  write(bytes: Uint8Array): void;
  /** Takes what firmware writes to its debug port, byte by byte. */
  debug?(byte: number): void;
  /** Undefined, or a promise for when more may be written. */
  readonly ready: Promise<void> | undefined;
}

/** Connects COM1 to a {@link ConsoleSink} and to whoever calls {@link SerialConsole.input}. */
export class SerialConsole {
  readonly #sink: ConsoleSink;
  /** Calls back in the next turn of the event loop. */
  readonly #later: (done: () => void) => void;
  #output: Uint8Array = new Uint8Array(OUTPUT_LIMIT);
  #outputLength = 0;
  #input: Uint8Array[] = [];
  #inputLength = 0;
  #uart: Uart16550 | undefined;
  #clock: Clock | undefined;
  /** Fires when the line is free for the next byte. */
  readonly #lineFree: Timer = new Timer(() => this.#feed());
  #freeAt = 0;
  #onDrained: (() => void) | undefined;

  /** @param later when to hand over what was written; by default at once */
  constructor(sink: ConsoleSink, later: (done: () => void) => void = (done) => done()) {
    this.#sink = sink;
    this.#later = later;
  }

  /** A fresh UART for this console, on the clock and interrupt line of a VM. */
  connect(clock: Clock, irq: (level: boolean) => void): Uart16550 {
    this.disconnect();
    this.#clock = clock;
    this.#freeAt = clock.now();
    this.#uart = new Uart16550({
      irq,
      transmit: (byte) => this.#transmit(byte),
      onReceiveSpace: () => this.#feed(),
    });
    this.#feed();
    return this.#uart;
  }

  /** The VM is gone; input waits for the next one. */
  disconnect(): void {
    this.#clock?.cancel(this.#lineFree);
    this.#uart = undefined;
    this.#clock = undefined;
  }

  /** Bytes typed or pasted. False: that is enough for now, wait for `drained`. */
  input(bytes: Uint8Array): boolean {
    if (bytes.length > 0) {
      this.#input.push(bytes);
      this.#inputLength += bytes.length;
      this.#feed();
    }
    return this.#inputLength < INPUT_LIMIT;
  }

  /** Calls back once when the guest has read what was put in. */
  drained(callback: () => void): void {
    if (this.#inputLength === 0) callback();
    else this.#onDrained = callback;
  }

  /** Hands collected output to the sink. */
  flush(): void {
    if (this.#outputLength === 0) return;
    this.#sink.write(this.#output.slice(0, this.#outputLength));
    this.#outputLength = 0;
  }

  /** A byte written to the debug port. */
  debug(byte: number): void {
    this.#sink.debug?.(byte);
  }

  /** Undefined, or what to wait for before the guest may write on. */
  get outputBlocked(): Promise<void> | undefined {
    return this.#sink.ready;
  }

  #transmit(byte: number): void {
    this.#output[this.#outputLength++] = byte;
    if (this.#outputLength === 1) this.#later(() => this.flush());
    if (this.#outputLength === OUTPUT_LIMIT) this.flush();
  }

  #feed(): void {
    const uart = this.#uart;
    const clock = this.#clock;
    if (uart === undefined || clock === undefined) return;
    while (this.#inputLength > 0 && uart.receiveSpace > 0) {
      const now = clock.now();
      if (this.#freeAt > now) {
        if (!this.#lineFree.armed) clock.setTimer(this.#lineFree, this.#freeAt);
        return;
      }
      const chunk = this.#input[0]!;
      const taken = uart.receive(chunk.subarray(0, uart.receiveSpace));
      if (taken === 0) return;
      this.#freeAt = now + taken * NS_PER_BYTE;
      this.#inputLength -= taken;
      if (taken === chunk.length) this.#input.shift();
      else this.#input[0] = chunk.subarray(taken);
    }
    if (this.#inputLength === 0) {
      const callback = this.#onDrained;
      this.#onDrained = undefined;
      callback?.();
    }
  }
}
