/**
 * What happens to the whole host: suspend, resume, shutdown and reboot, and who wants to know.
 *
 * @upstream drivers/base/syscore.c, kernel/reboot.c, kernel/power/suspend.c
 */
import type { Cpu, Cpus } from './cpus.ts';
import type { Errno } from './errno.ts';

/** Callbacks that run on the boot CPU alone, with interrupts off. */
export interface SyscoreOps {
  suspend?(): Errno;
  resume?(): void;
  shutdown?(): void;
}

/** @upstream enum system_states */
export type SystemState = 'running' | 'suspend' | 'restart' | 'poweroff';

/** Suspend, resume and reboot. */
export class Power {
  state: SystemState = 'running';
  readonly #cpus: Cpus;
  readonly #syscore: SyscoreOps[] = [];
  readonly #rebootNotifiers: (() => void)[] = [];
  #frozen: Cpu[] = [];

  constructor(cpus: Cpus) {
    this.#cpus = cpus;
  }

  registerSyscoreOps(ops: SyscoreOps): void {
    this.#syscore.push(ops);
  }
  unregisterSyscoreOps(ops: SyscoreOps): void {
    const at = this.#syscore.indexOf(ops);
    if (at >= 0) this.#syscore.splice(at, 1);
  }
  registerRebootNotifier(notify: () => void): void {
    this.#rebootNotifiers.push(notify);
  }
  unregisterRebootNotifier(notify: () => void): void {
    const at = this.#rebootNotifiers.indexOf(notify);
    if (at >= 0) this.#rebootNotifiers.splice(at, 1);
  }

  /** How many callbacks are registered, for tests and inspection. */
  get registrations(): { syscore: number; reboot: number } {
    return { syscore: this.#syscore.length, reboot: this.#rebootNotifiers.length };
  }

  /**
   * Suspends to RAM: every CPU but the boot CPU goes offline, then the syscore callbacks run in reverse order of
   * registration. A failure undoes what was done and is the result.
   */
  suspend(): Errno {
    const boot = this.#cpus.possible[0]!;
    this.state = 'suspend';
    this.#frozen = [];
    this.#cpus.setCurrent(boot);
    for (const cpu of this.#cpus.online.reverse()) {
      if (cpu === boot) continue;
      const result = this.#cpus.down(cpu);
      if (result !== 0) return this.#thaw(result);
      this.#frozen.push(cpu);
    }
    const done: SyscoreOps[] = [];
    for (const ops of [...this.#syscore].reverse()) {
      const result = ops.suspend?.() ?? 0;
      if (result !== 0) {
        for (const undo of done.reverse()) undo.resume?.();
        return this.#thaw(result);
      }
      done.push(ops);
    }
    return 0;
  }

  /** Wakes from suspend: syscore callbacks in order of registration, then the other CPUs. */
  resume(): Errno {
    for (const ops of [...this.#syscore]) ops.resume?.();
    return this.#thaw(0);
  }

  #thaw(result: Errno): Errno {
    let failed = result;
    for (const cpu of this.#frozen.reverse()) {
      const up = this.#cpus.up(cpu);
      if (failed === 0) failed = up;
    }
    this.#frozen = [];
    this.state = 'running';
    return failed;
  }

  /** Restarts or powers off: reboot notifiers, then syscore shutdown in reverse order of registration. */
  reboot(state: 'restart' | 'poweroff' = 'restart'): void {
    this.state = state;
    for (const notify of [...this.#rebootNotifiers]) notify();
    for (const ops of [...this.#syscore].reverse()) ops.shutdown?.();
  }
}
