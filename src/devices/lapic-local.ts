/**
 * A local APIC's local interrupt sources: the LINT pins, the events inside the processor, and its own errors, each turned
 * into an interrupt by its entry of the local vector table.
 *
 * Reference: Intel SDM volume 3, "Local Vector Table" and "Error Handling".
 */
import { DeliveryMode } from './interrupt-message.ts';
import { APIC, LVT_LEVEL, LVT_MASKED, LVT_REMOTE_IRR } from './lapic-registers.ts';
import type { LocalApicOwner, LocalApicState } from './lapic-types.ts';

/** What the local sources need of the APIC around them. */
export interface LapicLocalOptions {
  readonly state: LocalApicState;
  readonly owner: LocalApicOwner;
  /** Whether IA32_APIC_BASE enables the APIC. */
  readonly enabled: () => boolean;
  /** Takes an interrupt as if a message had brought it. */
  readonly accept: (deliveryMode: number, vector: number, levelTriggered: boolean) => boolean;
}

/** Delivery modes of a local event. ExtINT is not one: the controller's request is a level, see `route`. */
const LOCAL_MODES: readonly number[] = [DeliveryMode.fixed, DeliveryMode.smi, DeliveryMode.nmi, DeliveryMode.init];
const LINT0 = APIC.LVT_LINT0 >> 2;

/** The local sources of one local APIC. */
export class LapicLocal {
  readonly #options: LapicLocalOptions;
  readonly #state: LocalApicState;
  readonly #registers: Uint32Array;
  #extInt = false;

  constructor(options: LapicLocalOptions) {
    this.#options = options;
    this.#state = options.state;
    this.#registers = options.state.registers;
  }

  /** An event whose local vector table entry is at `offset`. Returns whether it was delivered. */
  raise(offset: number): boolean {
    const entry = this.#registers[offset >> 2] as number;
    if (entry & LVT_MASKED || !this.#options.enabled()) return false;
    // A performance counter's interrupt masks itself.
    if (offset === APIC.LVT_PERFORMANCE) this.#registers[offset >> 2] = entry | LVT_MASKED;
    const vectorOnly = offset === APIC.LVT_TIMER || offset === APIC.LVT_ERROR;
    const mode = vectorOnly ? DeliveryMode.fixed : (entry >> 8) & 7;
    if (!LOCAL_MODES.includes(mode)) return false;
    return this.#options.accept(mode, entry & 0xff, false);
  }

  /** Notes an error; the first since the error status was last written interrupts. */
  error(bit: number): void {
    const first = this.#state.pendingErrors === 0;
    this.#state.pendingErrors |= bit;
    if (first) this.raise(APIC.LVT_ERROR);
  }

  /** Puts a level on LINT0 or LINT1. Without an APIC these are the processor's INTR and NMI pins. */
  setLint(pin: 0 | 1, level: boolean): void {
    const bit = 1 << pin;
    const s = this.#state;
    const rising = level && !(s.lint & bit);
    s.lint = level ? s.lint | bit : s.lint & ~bit;
    if (pin === 0) this.route();
    if (!this.#options.enabled()) {
      if (pin === 1 && rising) this.#options.owner.nmi();
    } else if (pin === 1) {
      if (rising) this.raise(APIC.LVT_LINT1);
    } else if (this.#levelTriggered()) {
      this.#serviceLevel();
    } else if (rising) {
      this.raise(APIC.LVT_LINT0);
    }
  }

  /** Writes an entry other than the timer's. The remote IRR of a level stays. */
  writeEntry(offset: number, value: number): void {
    const remoteIrr = value & LVT_LEVEL ? (this.#registers[offset >> 2] as number) & LVT_REMOTE_IRR : 0;
    this.#registers[offset >> 2] = value | remoteIrr;
    if (offset !== APIC.LVT_LINT0) return;
    this.route();
    this.#serviceLevel();
  }

  /** A level-triggered vector has ended: if it was LINT0's, that may interrupt again. */
  ended(vector: number): void {
    const entry = this.#registers[LINT0] as number;
    if (!(entry & LVT_REMOTE_IRR) || (entry & 0xff) !== vector) return;
    this.#registers[LINT0] = entry & ~LVT_REMOTE_IRR;
    this.#serviceLevel();
  }

  /** Whether a request of the external interrupt controller reaches the processor. */
  acceptsExtInt(): boolean {
    if (!this.#options.enabled()) return true;
    const entry = this.#registers[LINT0] as number;
    return !(entry & LVT_MASKED) && ((entry >> 8) & 7) === DeliveryMode.extInt;
  }

  /** Tells the owner when the external controller's request begins or ceases to reach the processor. */
  route(): void {
    const level = (this.#state.lint & 1) !== 0 && this.acceptsExtInt();
    if (level === this.#extInt) return;
    this.#extInt = level;
    this.#options.owner.extInt(level);
  }

  /** Whether LINT0 is set up as a level-triggered interrupt; LINT1 is always an edge. */
  #levelTriggered(): boolean {
    const entry = this.#registers[LINT0] as number;
    return (entry & LVT_LEVEL) !== 0 && ((entry >> 8) & 7) === DeliveryMode.fixed;
  }

  /** LINT0 as a level asks while it is asserted and its last interrupt has ended. */
  #serviceLevel(): void {
    const entry = this.#registers[LINT0] as number;
    if (!(this.#state.lint & 1) || !this.#levelTriggered()) return;
    if (entry & (LVT_MASKED | LVT_REMOTE_IRR)) return;
    if (this.#options.accept(DeliveryMode.fixed, entry & 0xff, true)) {
      this.#registers[LINT0] = entry | LVT_REMOTE_IRR;
    }
  }
}
