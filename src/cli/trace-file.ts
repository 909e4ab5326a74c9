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
  /** Why writing failed; nothing is written any more. The guest must not notice. */
  failure: unknown;

  constructor(file: number) {
    this.#file = file;
  }
  write(text: string): void {
    this.#pending.push(text);
    this.#size += text.length;
    if (this.#size >= BUFFER_SIZE) this.flush();
  }
  flush(): void {
    try {
      if (this.#size > 0 && this.failure === undefined) writeSync(this.#file, this.#pending.join(''));
    } catch (error) {
      this.failure = error;
    }
    this.#pending = [];
    this.#size = 0;
  }
}

function traceFailure(path: string, cause: unknown): SoftvtError {
  const full = cause instanceof Error && 'code' in cause && (cause.code === 'ENOSPC' || cause.code === 'EDQUOT');
  const why = full ? 'no space left, the trace is incomplete' : 'the file cannot be written';
  return new SoftvtError('ERR_SOFTVT_FILE', `trace ${path}: ${why}`, { cause });
}

/** Runs `work` with every trace event going to `path`: ftrace-like text, or Chrome's JSON if the name ends in .json. */
export async function withTrace<T>(path: string | undefined, work: () => Promise<T>): Promise<T> {
  if (path === undefined) return await work();
  let file: number;
  try {
    file = openSync(path, 'w');
  } catch (error) {
    throw traceFailure(path, error);
  }
  const out = new FileText(file);
  const writer = path.endsWith('.json')
    ? new ChromeTrace((text) => out.write(text))
    : new TextTrace((text) => out.write(text));
  const unsubscribe = subscribe((record) => writer.record(record));
  const close = (): void => {
    unsubscribe();
    writer.end();
    out.flush();
    closeSync(file);
  };
  const result = await work().finally(close);
  if (out.failure !== undefined) throw traceFailure(path, out.failure);
  return result;
}
