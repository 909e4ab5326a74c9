/** A line on a terminal that shows that something happens while the guest is still silent. */

import type { GuestStatistics } from '../vmm/guest-run.ts';

const PERIOD_MS = 250;

/** Updates one line until it is stopped; then the line is gone. */
export class BootStatus {
  readonly #stream: { write(text: string): unknown };
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(stream: { write(text: string): unknown }) {
    this.#stream = stream;
  }

  /** Shows the guest's statistics from now on. */
  start(statistics: () => GuestStatistics): void {
    this.#timer = setInterval(() => {
      const millions = Math.round(statistics().instructions / 1e6);
      this.#stream.write(`\r\x1b[Ksoftvt: ${millions} million instructions, nothing printed yet`);
    }, PERIOD_MS);
  }

  stop(): void {
    if (this.#timer === undefined) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#stream.write('\r\x1b[K');
  }
}
