/** `--trace FILE`: writes trace events to a file while something runs. */

import { closeSync, openSync, writeSync } from 'node:fs';
import { ChromeTrace } from '../debug/chrome-trace.ts';
import { TextTrace } from '../debug/text-trace.ts';
import { subscribe } from '../debug/trace-records.ts';
import { SoftvtError } from '../util/errors.ts';

const BUFFER_SIZE = 1 << 16;

/** Appends text to an open file in large pieces. */
class FileText {
  readonly #file: number;
  #pending: string[] = [];
  #size = 0;

  constructor(file: number) {
    this.#file = file;
  }
  write(text: string): void {
    this.#pending.push(text);
    this.#size += text.length;
    if (this.#size >= BUFFER_SIZE) this.flush();
  }
  flush(): void {
    if (this.#size > 0) writeSync(this.#file, this.#pending.join(''));
    this.#pending = [];
    this.#size = 0;
  }
}

/** Runs `work` with every trace event going to `path`: ftrace-like text, or Chrome's JSON if the name ends in .json. */
export async function withTrace<T>(path: string | undefined, work: () => Promise<T>): Promise<T> {
  if (path === undefined) return await work();
  let file: number;
  try {
    file = openSync(path, 'w');
  } catch (error) {
    throw new SoftvtError('ERR_SOFTVT_FILE', `trace ${path}: the file cannot be written`, { cause: error });
  }
  const out = new FileText(file);
  const writer = path.endsWith('.json')
    ? new ChromeTrace((text) => out.write(text))
    : new TextTrace((text) => out.write(text));
  const unsubscribe = subscribe((record) => writer.record(record));
  try {
    return await work();
  } finally {
    unsubscribe();
    writer.end();
    out.flush();
    closeSync(file);
  }
}
