/**
 * Interrupts of the host: raising a vector at a CPU's local APIC, and dispatching the vectors that VM exits acknowledge.
 *
 * Host code itself is not interrupted: a vector raised while no guest runs stays in the APIC's IRR and ends the next VM
 * entry at once (or, as the notification vector of a vCPU with posted interrupts, is taken by the guest's processor). So
 * such a vector is raised only where leaving a guest is the point. Vectors that an idle CPU must act on run their handler
 * right away when no guest is on that CPU.
 */
import type { Cpu, Cpus } from './cpus.ts';
import { POSTED_INTR_VECTOR, POSTED_INTR_WAKEUP_VECTOR, RESCHEDULE_VECTOR } from './vectors.ts';

/** Delivery mode "fixed" of a local APIC. */
const FIXED = 0;

/** The vector table of the host kernel. */
export class Interrupts {
  readonly #cpus: Cpus;
  readonly #handlers: Map<number, (cpu: Cpu) => void> = new Map();
  /** Vectors that run at once where host code or nothing runs. */
  readonly #immediate: Set<number> = new Set([POSTED_INTR_WAKEUP_VECTOR]);

  constructor(cpus: Cpus) {
    this.#cpus = cpus;
    cpus.sendReschedule = (cpu) => this.raise(cpu, RESCHEDULE_VECTOR);
    // In root operation a notification says nothing: what was posted is taken at the next entry.
    for (const vector of [RESCHEDULE_VECTOR, POSTED_INTR_VECTOR, POSTED_INTR_WAKEUP_VECTOR])
      this.setHandler(vector, () => {});
  }

  /** Installs what happens on `vector`; it runs on the CPU that took it. @upstream alloc_intr_gate() */
  setHandler(vector: number, handler: (cpu: Cpu) => void): void {
    this.#handlers.set(vector, handler);
  }

  /** Sends a fixed interrupt to a CPU. */
  raise(cpu: Cpu, vector: number): void {
    cpu.processor.apic.accept(FIXED, vector, false);
  }

  /** An interrupt waits at a CPU that runs no guest. */
  arrived(cpu: Cpu): void {
    const { apic } = cpu.processor;
    if (!this.#immediate.has(apic.pendingVector)) return;
    const vector = apic.acknowledge();
    this.#cpus.smpCallFunctionSingle(cpu, (target) => this.handle(target, vector));
  }

  /** Handles a vector that a VM exit acknowledged, up to and including the EOI. */
  handle(cpu: Cpu, vector: number): void {
    this.#handlers.get(vector)?.(cpu);
    cpu.processor.apic.eoi();
  }
}
