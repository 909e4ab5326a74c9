/** A bare guest's whole life: turns of its processors, idle time, the console, and resets if they are to start it again. */

import type { Platform } from '../../host/platform.ts';
import { exitReasonName } from '../exit-reasons.ts';
import type { GuestEnd } from '../guest-end.ts';
import type { GuestConfig, GuestRun, GuestStatistics } from '../guest-run.ts';
import { type ConsoleSink, SerialConsole } from '../serial-console.ts';
import { StateHash } from '../state-hash.ts';
import { BareMachine } from './bare-machine.ts';

const NS_PER_SECOND = 1e9;
const NS_PER_MS = 1e6;
/** Wall milliseconds after which the event loop gets a turn. */
const TURN_MS = 8;

/** Builds the machine at once, so that bad input throws here, and runs it from the next turn on. */
export class BareRunner implements GuestRun {
  readonly done: Promise<GuestEnd>;
  readonly #platform: Platform;
  readonly #config: GuestConfig;
  readonly #console: SerialConsole;
  /** Of machines that were reset. */
  readonly #earlier = { instructions: 0, ns: 0, exits: [] as number[] };
  #machine: BareMachine;
  #stopped: GuestEnd | undefined;
  #inputOpen = true;
  /** Ends the sleep of an idle machine. */
  #wake: () => void = () => {};

  constructor(platform: Platform, config: GuestConfig, sink: ConsoleSink) {
    this.#platform = platform;
    this.#config = config;
    this.#console = new SerialConsole(sink, (done) => platform.turn(done));
    this.#machine = new BareMachine(this.#console, config);
    this.done = this.#live();
  }

  stop(end: GuestEnd): void {
    this.#stopped ??= end;
    this.#machine.stop(end);
    this.#wake();
  }

  input(bytes: Uint8Array): boolean {
    const more = this.#console.input(bytes);
    this.#wake();
    return more;
  }

  onInputDrained(callback: () => void): void {
    this.#console.drained(callback);
  }

  endInput(): void {
    this.#inputOpen = false;
    this.#wake();
  }

  statistics(): GuestStatistics {
    const { clock, engine } = this.#machine.machine;
    const { instructions, ns, exits: earlier } = this.#earlier;
    const exits: Record<string, number> = {};
    for (const [reason, count] of this.#machine.exitCounts().entries()) {
      const total = count + (earlier[reason] ?? 0);
      if (total > 0) exits[exitReasonName(reason)] = total;
    }
    return {
      instructions: instructions + clock.instructions,
      virtualSeconds: (ns + clock.now()) / NS_PER_SECOND,
      exits,
      engine: engine.statistics(),
    };
  }

  stateHash(): string {
    const hash = new StateHash();
    this.#machine.hash(hash);
    return hash.finish();
  }

  hostView(gpa: number): Uint8Array | undefined {
    return this.#machine.page(gpa);
  }

  async #live(): Promise<GuestEnd> {
    for (;;) {
      const end = await this.#run();
      this.#console.flush();
      if (end.reason !== 'reset' || !this.#config.reboot || this.#stopped !== undefined) return end;
      const { clock } = this.#machine.machine;
      this.#earlier.instructions += clock.instructions;
      this.#earlier.ns += clock.now();
      for (const [reason, count] of this.#machine.exitCounts().entries()) {
        this.#earlier.exits[reason] = (this.#earlier.exits[reason] ?? 0) + count;
      }
      this.#machine.close();
      await this.#turn();
      if (this.#stopped !== undefined) return this.#stopped;
      this.#machine = new BareMachine(this.#console, this.#config);
    }
  }

  /** Runs the machine until it ends. */
  async #run(): Promise<GuestEnd> {
    const machine = this.#machine;
    for (;;) {
      await this.#turn();
      const until = this.#platform.wallMs() + TURN_MS;
      let ran = true;
      while (machine.end === undefined && ran && this.#platform.wallMs() < until) {
        ran = machine.round() || this.#skipIdle();
        if (this.#console.outputBlocked !== undefined) break;
      }
      if (machine.end !== undefined) return machine.end;
      // Whoever reads the console is slower than the guest: the guest's time stands still meanwhile.
      await this.#console.outputBlocked;
      if (!ran) await this.#sleep();
    }
  }

  /** Virtual clock: jumps to the next timer. False where idle time has to pass, or nothing will come by itself. */
  #skipIdle(): boolean {
    const { clock } = this.#machine.machine;
    const next = clock.queue.nextDeadline;
    if (this.#config.clock === 'real' || next === Number.POSITIVE_INFINITY) return false;
    clock.skipTo(next);
    clock.runTimers();
    return true;
  }

  /** Waits until the next timer by the wall clock, for input, or for a stop. */
  async #sleep(): Promise<void> {
    const { clock } = this.#machine.machine;
    const next = clock.queue.nextDeadline;
    if (next === Number.POSITIVE_INFINITY && !this.#inputOpen) return this.#machine.stop({ reason: 'halted' });
    const before = this.#platform.wallMs();
    const start = clock.now();
    await new Promise<void>((resolve) => {
      const cancel =
        next === Number.POSITIVE_INFINITY
          ? () => {}
          : this.#platform.sleep(Math.max(0, (next - start) / NS_PER_MS), () => {
              clock.skipTo(next);
              resolve();
            });
      this.#wake = () => {
        cancel();
        resolve();
      };
    });
    this.#wake = () => {};
    if (this.#config.clock === 'real') {
      const passed = Math.round((this.#platform.wallMs() - before) * NS_PER_MS);
      clock.skipTo(Math.min(next, start + passed));
    }
    clock.runTimers();
  }

  #turn(): Promise<void> {
    return new Promise((resolve) => this.#platform.turn(resolve));
  }
}
