/** Writes trace records as text like ftrace's `trace` file. */

import type { TraceRecord } from './trace-records.ts';

const NAME_WIDTH = 16;

/** One line per event: task, [CPU], seconds, name, fields. */
export class TextTrace {
  readonly #write: (text: string) => void;

  constructor(write: (text: string) => void) {
    this.#write = write;
    write('# tracer: nop\n#\n#           TASK    CPU#  TIMESTAMP  FUNCTION\n');
  }

  record({ time, cpu, name, fields }: TraceRecord): void {
    const seconds = `${Math.floor(time / 1e9)}.${String(time % 1e9).padStart(9, '0')}`;
    const text = fields.map(([key, value]) => (key === '' ? value : `${key} ${value}`)).join(' ');
    const task = 'softvt'.padStart(NAME_WIDTH);
    this.#write(`${task} [${String(cpu).padStart(3, '0')}] ${seconds.padStart(15)}: ${name}: ${text}\n`);
  }

  /** Nothing is left to write. */
  end(): void {}
}
