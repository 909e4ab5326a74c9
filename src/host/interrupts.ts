/**
 * Interrupts of the host: raising a vector at a CPU's local APIC, and dispatching the vectors that VM exits acknowledge.
 *
 * Host code itself is never interrupted: a vector raised while no guest runs stays in the APIC's IRR and ends the next
 * VM entry at once. So a vector is raised only where leaving a guest is the point.
 */
import type { Cpu, Cpus } from './cpus.ts';
import { RESCHEDULE_VECTOR } from './vectors.ts';

/** Delivery mode "fixed" of a local APIC. */
const FIXED = 0;

/** The vector table of the host kernel. */
export class Interrupts {
  readonly #handlers: Map<number, (cpu: Cpu) => void> = new Map();

  constructor(cpus: Cpus) {
    cpus.sendReschedule = (cpu) => this.raise(cpu, RESCHEDULE_VECTOR);
    this.setHandler(RESCHEDULE_VECTOR, () => {});
  }

  /** Installs what happens on `vector`; it runs on the CPU that took it. @upstream alloc_intr_gate() */
  setHandler(vector: number, handler: (cpu: Cpu) => void): void {
    this.#handlers.set(vector, handler);
  }

  /** Sends a fixed interrupt to a CPU. */
  raise(cpu: Cpu, vector: number): void {
    cpu.processor.apic.accept(FIXED, vector, false);
  }

  /** Handles a vector that a VM exit acknowledged, up to and including the EOI. */
  handle(cpu: Cpu, vector: number): void {
    this.#handlers.get(vector)?.(cpu);
    cpu.processor.apic.eoi();
  }
}
