/**
 * The host kernel: everything KVM finds when it is loaded. One per machine.
 *
 * Its code runs in VMX root operation of the emulated processors, as TypeScript; its privileged instructions are methods
 * on them.
 */
import type { Machine } from '../machine/machine.ts';
import { NON_ROOT } from '../machine/vtx/operation.ts';
import { traceContext } from '../util/trace.ts';
import { bootProcessor } from './boot.ts';
import { type Cpu, Cpus } from './cpus.ts';
import { Interrupts } from './interrupts.ts';
import { MiscDevices } from './misc.ts';
import { PAGE_OWNER, PageAllocator } from './pages.ts';
import { defaultPlatform, type Platform } from './platform.ts';
import { Power } from './power.ts';
import { Scheduler } from './sched.ts';
import { TdxHost } from './tdx.ts';
import { HostTimers } from './timers.ts';
import { LOCAL_TIMER_VECTOR } from './vectors.ts';

/** The host kernel of one machine. */
export class Host {
  readonly machine: Machine;
  readonly pages: PageAllocator;
  readonly cpus: Cpus;
  readonly power: Power;
  readonly interrupts: Interrupts;
  readonly timers: HostTimers;
  readonly sched: Scheduler;
  readonly misc: MiscDevices = new MiscDevices();
  readonly tdx: TdxHost;
  readonly platform: Platform;
  /** Wall time (UTC) in ns since 1970 when the machine started; set by whoever composes it. */
  epochNs = 0n;
  /** Receives what the kernel logs. */
  log: (message: string) => void = () => {};

  constructor(machine: Machine, platform: Platform = defaultPlatform) {
    this.machine = machine;
    this.platform = platform;
    this.pages = new PageAllocator(machine.memory);
    this.cpus = new Cpus(machine.processors);
    this.power = new Power(this.cpus);
    this.interrupts = new Interrupts(this.cpus);
    machine.interruptArrived = ({ index }) => this.interrupts.arrived(this.cpus.possible[index]!);
    this.timers = new HostTimers(machine.clock);
    this.timers.interrupt = () => this.#interruptGuest();
    this.interrupts.setHandler(LOCAL_TIMER_VECTOR, () => this.timers.run());
    this.sched = new Scheduler({
      clock: machine.clock,
      timers: this.timers,
      platform,
      switchTo: (cpu) => {
        if (cpu !== this.cpus.current) this.cpus.setCurrent(cpu);
      },
      interrupt: () => this.#interruptGuest(),
    });
    this.tdx = new TdxHost(this.cpus, this.pages, machine.memory);
    machine.onSpin = () => this.sched.spinning();
    traceContext.now = () => machine.clock.now();
    const pageTable = this.#kernelPage();
    for (const cpu of this.cpus.possible) bootProcessor(cpu.processor, pageTable, this.#kernelPage());
  }

  /** Wall time (UTC) in ns since 1970: the epoch plus machine time. */
  wallClockNs(): bigint {
    return this.epochNs + BigInt(this.timers.now());
  }

  /** smp_processor_id() */
  get cpu(): Cpu {
    return this.cpus.current;
  }

  /** A guest that runs leaves guest mode, with the kernel's clock event; nothing happens while host code runs. */
  #interruptGuest(): void {
    const { current } = this.cpus;
    if (current.processor.vtx.operation === NON_ROOT) this.interrupts.raise(current, LOCAL_TIMER_VECTOR);
  }

  #kernelPage(): number {
    const page = this.pages.alloc(PAGE_OWNER.kernel);
    if (page === undefined) throw new RangeError('the machine has too little memory for a host');
    return page;
  }
}
