/** The vCPUs of a guest: run together, ended together. */

import type { PortBus } from '../devices/bus.ts';
import type { VcpuExit } from '../kvm/virt/kvm_run.ts';
import { sumExitCounts } from './exit-reasons.ts';
import type { GuestEnd } from './guest-end.ts';
import type { VmmHost, VmmVcpu } from './kvm-api.ts';
import { runVcpu } from './run-loop.ts';
import type { SerialConsole } from './serial-console.ts';

/** What the loops of a guest's vCPUs work on. */
export interface GuestLoops {
  readonly host: VmmHost;
  readonly ports: PortBus;
  readonly console: SerialConsole;
  /** Exits that this kind of guest has and others do not; true: it was one and is dealt with. */
  readonly special?: (exit: VcpuExit, errno: number, index: number) => boolean;
}

export class VcpuGroup {
  readonly vcpus: VmmVcpu[] = [];
  #end: GuestEnd | undefined;

  /** Runs all vCPUs until the guest ends. */
  async run({ host, ports, console, special }: GuestLoops): Promise<GuestEnd> {
    const loops: Promise<void>[] = [];
    const start = (vcpu: VmmVcpu, index: number): Promise<void> =>
      runVcpu({
        vcpu,
        index,
        ports,
        console,
        hold: () => host.sched.hold(),
        end: (end) => this.stop(end),
        ended: () => this.#end !== undefined,
        ...(special === undefined ? {} : { special: (exit, errno) => special(exit, errno, index) }),
      });
    host.sched.startTogether(() => {
      for (const [index, vcpu] of this.vcpus.entries()) loops.push(start(vcpu, index));
    });
    await Promise.all(loops);
    console.flush();
    return this.#end ?? { reason: 'halted' };
  }

  /** Ends the guest; only the first end counts. */
  stop(end: GuestEnd): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    for (const vcpu of this.vcpus) vcpu.stop();
  }

  /** Exits so far by basic exit reason. */
  exitCounts(): number[] {
    return sumExitCounts(this.vcpus);
  }
}
