/**
 * The 256 vectors of a local APIC: requested (IRR), in service (ISR), level-triggered (TMR), and the priorities that decide
 * what the processor takes next.
 *
 * The bits live in the register page; beside them the highest request, the highest vector in service and the highest
 * deliverable vector are kept, because run loops ask for them at every boundary.
 *
 * Reference: Intel SDM volume 3, "Acceptance of Interrupts by the Local APIC" and "Task and Processor Priorities".
 */
import { APIC, highestVector, vectorWord } from './lapic-registers.ts';

/** The vectors of one local APIC. */
export class LapicVectors {
  /** Highest vector that can be delivered now, −1 for none. */
  pending = -1;
  /** Highest vector requested, −1 for none. */
  highestIrr = -1;
  /** Highest vector in service, −1 for none. */
  highestIsr = -1;
  readonly #registers: Uint32Array;
  readonly #pendingChanged: (vector: number) => void;
  /** Task priority that the derived values were computed with. */
  #taskPriority = 0;

  constructor(registers: Uint32Array, pendingChanged: (vector: number) => void) {
    this.#registers = registers;
    this.#pendingChanged = pendingChanged;
  }

  /** Whether `vector` is set in the register at `offset` (IRR, ISR or TMR). */
  has(offset: number, vector: number): boolean {
    const word = this.#registers[vectorWord(offset, vector)] as number;
    return (word & (1 << (vector & 31))) !== 0;
  }

  /** Notes how a vector is triggered. */
  setTrigger(vector: number, levelTriggered: boolean): void {
    if (this.has(APIC.TMR, vector) !== levelTriggered) this.#set(APIC.TMR, vector, levelTriggered);
  }

  /** Requests a vector. */
  request(vector: number, levelTriggered: boolean): void {
    this.setTrigger(vector, levelTriggered);
    this.#set(APIC.IRR, vector, true);
    if (vector <= this.highestIrr) return;
    this.highestIrr = vector;
    this.refresh();
  }

  /** The highest deliverable vector goes from requested to in service. Returns it, −1 if there is none. */
  take(): number {
    const vector = this.pending;
    if (vector < 0) return -1;
    this.#set(APIC.IRR, vector, false);
    this.#set(APIC.ISR, vector, true);
    this.highestIrr = highestVector(this.#registers, APIC.IRR);
    // What can be delivered is of a higher class than anything in service.
    this.highestIsr = vector;
    this.refresh();
    return vector;
  }

  /** The highest vector in service is done. Returns it, −1 if there is none. */
  end(): number {
    const vector = this.highestIsr;
    if (vector < 0) return -1;
    this.#set(APIC.ISR, vector, false);
    this.highestIsr = highestVector(this.#registers, APIC.ISR);
    this.refresh();
    return vector;
  }

  /** Sets the task priority, 0 to 255. */
  setTaskPriority(value: number): void {
    if (this.#registers[APIC.TPR >> 2] === value) return;
    this.#registers[APIC.TPR >> 2] = value;
    this.refresh();
  }

  /** Somebody else may have written the task priority into the register page. */
  taskPriorityWritten(): void {
    if (this.#registers[APIC.TPR >> 2] !== this.#taskPriority) this.refresh();
  }

  /** Rebuilds everything from the register page. */
  recount(): void {
    this.highestIrr = highestVector(this.#registers, APIC.IRR);
    this.highestIsr = highestVector(this.#registers, APIC.ISR);
    this.refresh();
  }

  /** Recomputes the processor priority and what can be delivered under it. */
  refresh(): void {
    const tpr = this.#registers[APIC.TPR >> 2] as number;
    this.#taskPriority = tpr;
    const isr = this.highestIsr < 0 ? 0 : this.highestIsr;
    const ppr = (tpr & 0xf0) >= (isr & 0xf0) ? tpr : isr & 0xf0;
    this.#registers[APIC.PPR >> 2] = ppr;
    const irr = this.highestIrr;
    const pending = irr >= 0 && (irr & 0xf0) > (ppr & 0xf0) ? irr : -1;
    if (pending === this.pending) return;
    this.pending = pending;
    this.#pendingChanged(pending);
  }

  #set(offset: number, vector: number, on: boolean): void {
    const word = vectorWord(offset, vector);
    const bit = 1 << (vector & 31);
    const before = this.#registers[word] as number;
    this.#registers[word] = on ? before | bit : before & ~bit;
  }
}
