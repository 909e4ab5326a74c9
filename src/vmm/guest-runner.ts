/** A guest's whole life: one VM or TD, or several after one another if resets are to start it again. */

import { PAGE_SIZE } from '../util/address.ts';
import { exitReasonName } from './exit-reasons.ts';
import type { GuestEnd } from './guest-end.ts';
import type { GuestConfig, GuestRun, GuestStatistics, TdxStatistics } from './guest-run.ts';
import type { VmmVm } from './kvm-api.ts';
import { type ConsoleSink, SerialConsole } from './serial-console.ts';
import { StateHash } from './state-hash.ts';
import { TrustDomain } from './td/td.ts';
import { type RunnableGuest, VirtualMachine, type VmSurroundings } from './vm.ts';

/** The emulated host with KVM loaded. */
export interface GuestHost extends Omit<VmSurroundings, 'console'> {
  /** What the host's firmware knows of a TD, for reports. */
  readonly inspectTd?: (vm: VmmVm) => TdxStatistics | undefined;
}

const NS_PER_SECOND = 1e9;

/** Builds the VM at once, so that bad input throws here, and runs it from the next turn on. */
export class GuestRunner implements GuestRun {
  readonly done: Promise<GuestEnd>;
  readonly #host: GuestHost;
  readonly #config: GuestConfig;
  readonly #console: SerialConsole;
  /** Exits of VMs that were reset. */
  readonly #earlierExits: number[] = [];
  #machine: RunnableGuest;
  #stopped: GuestEnd | undefined;
  #inputOpen = true;
  /** Only input can wake the guest. */
  #isStuck = false;

  constructor(host: GuestHost, config: GuestConfig, sink: ConsoleSink) {
    this.#host = host;
    this.#config = config;
    const { platform, sched } = host.host;
    this.#console = new SerialConsole(sink, (done) => platform.turn(done));
    sched.mode = config.clock;
    const { onStuck } = sched;
    // The other guests of the host have theirs.
    sched.onStuck = () => {
      onStuck();
      this.#stuck();
    };
    this.#machine = this.#build();
    this.done = this.#live();
  }

  stop(end: GuestEnd): void {
    this.#stopped ??= end;
    this.#machine.stop(end);
  }

  input(bytes: Uint8Array): boolean {
    this.#isStuck = false;
    return this.#console.input(bytes);
  }

  onInputDrained(callback: () => void): void {
    this.#console.drained(callback);
  }

  endInput(): void {
    this.#inputOpen = false;
    if (this.#isStuck) this.#machine.stop({ reason: 'halted' });
  }

  statistics(): GuestStatistics {
    const { clock, engine } = this.#host.host.machine;
    const exits: Record<string, number> = {};
    const now = this.#machine.exitCounts();
    for (let reason = 0; reason < Math.max(now.length, this.#earlierExits.length); reason++) {
      const count = (now[reason] ?? 0) + (this.#earlierExits[reason] ?? 0);
      if (count > 0) exits[exitReasonName(reason)] = count;
    }
    const tdx = this.#machine instanceof TrustDomain ? this.#host.inspectTd?.(this.#machine.vm) : undefined;
    return {
      instructions: clock.instructions,
      virtualSeconds: clock.now() / NS_PER_SECOND,
      exits,
      ...(engine === undefined ? {} : { engine: engine.statistics() }),
      ...(tdx === undefined ? {} : { tdx }),
    };
  }

  hostView(gpa: number): Uint8Array | undefined {
    const page = this.#machine.hostPage(gpa);
    return page === undefined ? undefined : this.#host.host.machine.memory.readBytes(page, PAGE_SIZE);
  }

  stateHash(): string {
    const hash = new StateHash();
    this.#machine.hash(hash);
    return hash.finish();
  }

  #build(): RunnableGuest {
    const surroundings = { ...this.#host, console: this.#console };
    return this.#config.type === 'td'
      ? new TrustDomain(surroundings, this.#config)
      : new VirtualMachine(surroundings, this.#config);
  }

  async #live(): Promise<GuestEnd> {
    for (;;) {
      const end = await this.#machine.run();
      if (end.reason !== 'reset' || !this.#config.reboot || this.#stopped !== undefined) return end;
      for (const [reason, count] of this.#machine.exitCounts().entries()) {
        this.#earlierExits[reason] = (this.#earlierExits[reason] ?? 0) + count;
      }
      this.#machine.close();
      // A guest that resets at once must not keep timeouts and signals waiting.
      await new Promise<void>((resolve) => this.#host.host.platform.turn(resolve));
      if (this.#stopped !== undefined) return this.#stopped;
      this.#machine = this.#build();
    }
  }

  /** No timer is armed and no vCPU that was asked can run: only somebody who types could change that. */
  #stuck(): void {
    const { machine, platform } = this.#host.host;
    const before = machine.clock.instructions;
    const decide = (): void => {
      // A vCPU that was in user space meanwhile has run on.
      if (machine.clock.instructions !== before) return;
      this.#isStuck = true;
      if (!this.#inputOpen) this.#machine.stop({ reason: 'halted' });
    };
    platform.turn(() => platform.turn(decide));
  }
}
