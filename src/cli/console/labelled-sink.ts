/** Several guests on one terminal: each line of a console with the guest's name in front, whole lines only. */

import type { ConsoleSink } from '../../vmm/serial-console.ts';

const NEWLINE = 10;
const encoder = new TextEncoder();

/** Puts a label in front of each line that a guest prints. */
export class LabelledSink implements ConsoleSink {
  readonly #sink: ConsoleSink;
  readonly #label: Uint8Array;
  #line: number[] = [];

  constructor(sink: ConsoleSink, label: string) {
    this.#sink = sink;
    this.#label = encoder.encode(label);
  }

  get ready(): Promise<void> | undefined {
    return this.#sink.ready;
  }

  write(bytes: Uint8Array): void {
    const out: number[] = [];
    for (const byte of bytes) {
      this.#line.push(byte);
      if (byte !== NEWLINE) continue;
      out.push(...this.#label, ...this.#line);
      this.#line = [];
    }
    if (out.length > 0) this.#sink.write(Uint8Array.from(out));
  }

  /** Writes an unfinished line. */
  end(): void {
    if (this.#line.length > 0) this.write(Uint8Array.of(NEWLINE));
  }
}
