/**
 * Writes trace records as Chrome's trace event JSON, which Perfetto opens.
 *
 * The time from kvm_entry to kvm_exit is a slice named after the exit's reason; everything else is an instant.
 *
 * @see "Trace Event Format", JSON array format
 */

import type { TraceRecord } from './trace-records.ts';

/** An open slice: the guest runs on a vCPU. */
interface Entry {
  readonly time: number;
  readonly rip: string;
}

const field = ({ fields }: TraceRecord, key: string): string | undefined => fields.find(([name]) => name === key)?.[1];

/** The writer; call end() after the last record. */
export class ChromeTrace {
  readonly #write: (text: string) => void;
  readonly #entries: Map<string, Entry> = new Map();
  #separator = '[\n';

  constructor(write: (text: string) => void) {
    this.#write = write;
  }

  record(record: TraceRecord): void {
    const vcpu = field(record, 'vcpu') ?? '';
    if (record.name === 'kvm_entry') {
      this.#entries.set(vcpu, { time: record.time, rip: field(record, 'rip') ?? '' });
      return;
    }
    const entry = this.#entries.get(vcpu);
    if (record.name === 'kvm_exit' && entry !== undefined) {
      this.#entries.delete(vcpu);
      this.#event({
        name: field(record, 'reason') ?? 'guest',
        ph: 'X',
        ts: entry.time / 1000,
        dur: (record.time - entry.time) / 1000,
        pid: 1,
        tid: Number(vcpu),
        args: { entry_rip: entry.rip, ...Object.fromEntries(record.fields) },
      });
      return;
    }
    this.#event({
      name: record.name,
      ph: 'i',
      s: 't',
      ts: record.time / 1000,
      pid: 1,
      tid: vcpu === '' ? record.cpu : Number(vcpu),
      args: Object.fromEntries(record.fields.map(([key, value]) => [key || 'value', value])),
    });
  }

  /** Closes the array. */
  end(): void {
    this.#write(this.#separator === '[\n' ? '[]\n' : '\n]\n');
  }

  #event(event: Record<string, unknown>): void {
    this.#write(`${this.#separator}${JSON.stringify(event)}`);
    this.#separator = ',\n';
  }
}
