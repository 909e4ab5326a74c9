/**
 * The host kernel's view of its CPUs: which are online, running functions on them, and the hotplug state machine.
 *
 * Everything runs on one thread: an inter-processor call makes the target the current CPU, runs the function there and
 * comes back. A CPU that is in a guest is never interrupted that way, since host code runs only while no processor
 * executes guest code; {@link Cpus.kick} is for callbacks that come in the middle of one.
 *
 * @upstream kernel/cpu.c, kernel/smp.c
 */
import type { Processor } from '../machine/processor.ts';
import { traceContext } from '../util/trace.ts';
import { EBUSY, EINVAL, type Errno } from './errno.ts';

/** One CPU of the host: a logical processor and what the kernel keeps about it. */
export class Cpu {
  /** All the CPUs of the same host. */
  readonly cpus: Cpus;
  readonly id: number;
  readonly processor: Processor;
  online = false;
  /** Progress through the hotplug states while the CPU comes up or goes down. */
  hotplugState: number = CPUHP.offline;

  constructor(cpus: Cpus, id: number, processor: Processor) {
    this.cpus = cpus;
    this.id = id;
    this.processor = processor;
  }
}

/** Hotplug states in the order they are entered; dynamic ones follow `onlineDynamic`. */
export const CPUHP = {
  offline: 0,
  /** KVM in the seed's design: runs on the CPU that starts, with interrupts off. */
  kvmStarting: 100,
  /** KVM since 6.3: runs on the CPU, may fail. */
  kvmOnline: 200,
  onlineDynamic: 300,
  online: 400,
} as const;

interface HotplugStep {
  readonly state: number;
  readonly name: string;
  readonly startup: ((cpu: Cpu) => Errno) | null;
  readonly teardown: ((cpu: Cpu) => Errno) | null;
}

/** All possible CPUs and the machinery to run code on them. */
export class Cpus {
  /** Every CPU there can be, by id. */
  readonly possible: readonly Cpu[];
  /** The CPU that executes host code now (smp_processor_id). */
  current: Cpu;
  /** Called to make a CPU leave guest mode; set by the interrupt layer. */
  sendReschedule: (cpu: Cpu) => void = () => {};
  readonly #steps: HotplugStep[] = [];

  constructor(processors: readonly Processor[]) {
    this.possible = processors.map((processor, id) => new Cpu(this, id, processor));
    this.current = this.possible[0]!;
    for (const cpu of this.possible) {
      cpu.online = true;
      cpu.hotplugState = CPUHP.online;
    }
  }

  /** Online CPUs in id order; a fresh array. */
  get online(): Cpu[] {
    return this.possible.filter((cpu) => cpu.online);
  }

  /** Makes `cpu` the one that executes host code. */
  setCurrent(cpu: Cpu): void {
    this.current = cpu;
    traceContext.cpu = cpu.id;
  }

  /** Runs `fn` on every online CPU, the caller's last as the others' interrupts come first. @upstream on_each_cpu() */
  onEachCpu(fn: (cpu: Cpu) => void): void {
    const self = this.current;
    for (const cpu of this.possible) if (cpu.online && cpu !== self) this.#runOn(cpu, fn);
    if (self.online) this.#runOn(self, fn);
  }

  /** Runs `fn` on one CPU and waits; −ENXIO in spirit: an offline CPU gives −EINVAL. @upstream smp_call_function_single() */
  smpCallFunctionSingle(cpu: Cpu, fn: (cpu: Cpu) => void): Errno {
    if (!cpu.online) return -EINVAL;
    this.#runOn(cpu, fn);
    return 0;
  }

  #runOn<T>(cpu: Cpu, fn: (cpu: Cpu) => T): T {
    const self = this.current;
    this.setCurrent(cpu);
    try {
      return fn(cpu);
    } finally {
      this.setCurrent(self);
    }
  }

  /** Makes a CPU that is in guest mode leave it before its next instruction. @upstream smp_send_reschedule() */
  kick(cpu: Cpu): void {
    this.sendReschedule(cpu);
  }

  /** Registers callbacks without calling them for the CPUs that are online already. @upstream cpuhp_setup_state_nocalls() */
  setupStateNocalls(
    state: number,
    name: string,
    startup: HotplugStep['startup'],
    teardown: HotplugStep['teardown'],
  ): Errno {
    if (this.#steps.some((step) => step.state === state)) return -EBUSY;
    this.#steps.push({ state, name, startup, teardown });
    this.#steps.sort((a, b) => a.state - b.state);
    return 0;
  }

  /** Registers callbacks and runs `startup` on every online CPU; a failure undoes it all. @upstream cpuhp_setup_state() */
  setupState(state: number, name: string, startup: (cpu: Cpu) => Errno, teardown: HotplugStep['teardown']): Errno {
    const failed = this.setupStateNocalls(state, name, startup, teardown);
    if (failed !== 0) return failed;
    const done: Cpu[] = [];
    for (const cpu of this.online) {
      const result = this.#runOn(cpu, startup);
      if (result !== 0) {
        for (const other of done.reverse()) if (teardown) this.#runOn(other, teardown);
        this.removeStateNocalls(state);
        return result;
      }
      done.push(cpu);
    }
    return 0;
  }

  /** @upstream cpuhp_remove_state_nocalls() */
  removeStateNocalls(state: number): void {
    const at = this.#steps.findIndex((step) => step.state === state);
    if (at >= 0) this.#steps.splice(at, 1);
  }

  /** Removes the callbacks after running `teardown` on every online CPU. @upstream cpuhp_remove_state() */
  removeState(state: number): void {
    const step = this.#steps.find((one) => one.state === state);
    if (step?.teardown) for (const cpu of this.online) this.#runOn(cpu, step.teardown);
    this.removeStateNocalls(state);
  }

  /** Names of the registered states, for tests and inspection. */
  get states(): string[] {
    return this.#steps.map((step) => step.name);
  }

  /** Brings a CPU online; a failing startup callback takes it back down and is the result. @upstream cpu_up() */
  up(cpu: Cpu): Errno {
    if (cpu.online) return 0;
    cpu.online = true;
    for (const step of [...this.#steps]) {
      const result = step.startup ? this.#runOn(cpu, step.startup) : 0;
      if (result !== 0) {
        this.#unwind(cpu);
        cpu.online = false;
        return result;
      }
      cpu.hotplugState = step.state;
    }
    cpu.hotplugState = CPUHP.online;
    return 0;
  }

  /** Takes a CPU offline; the last one and one whose teardown refuses stay. @upstream cpu_down() */
  down(cpu: Cpu): Errno {
    if (!cpu.online) return 0;
    if (this.online.length === 1) return -EBUSY;
    const done: HotplugStep[] = [];
    for (const step of [...this.#steps].reverse()) {
      const result = step.teardown ? this.#runOn(cpu, step.teardown) : 0;
      if (result !== 0) {
        for (const undo of done.reverse()) if (undo.startup) this.#runOn(cpu, undo.startup);
        return result;
      }
      done.push(step);
    }
    cpu.online = false;
    cpu.hotplugState = CPUHP.offline;
    if (this.current === cpu) this.setCurrent(this.online[0]!);
    return 0;
  }

  #unwind(cpu: Cpu): void {
    for (const step of [...this.#steps].reverse()) {
      if (step.state <= cpu.hotplugState && step.teardown) this.#runOn(cpu, step.teardown);
    }
    cpu.hotplugState = CPUHP.offline;
  }
}
