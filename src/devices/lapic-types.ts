/** What a local APIC is made with, connected to, and remembers. */
import type { Clock } from './clock.ts';
import type { InterruptMessage } from './interrupt-message.ts';
import type { LapicTimerState } from './lapic-timer.ts';

/** The processor around a local APIC, and its way to the others. */
export interface LocalApicOwner {
  /** The highest vector that can be delivered now has changed; −1 for none. */
  pendingChanged(vector: number): void;
  /** Software wrote the interrupt command register. `shorthand` is a value of `Shorthand`; with one, the destination is void. */
  sendIpi(message: InterruptMessage, shorthand: number): void;
  /** Software ended `vector`. `broadcast`: it was level-triggered and the I/O APICs are to hear of it. */
  endOfInterrupt(vector: number, broadcast: boolean): void;
  nmi(): void;
  smi(): void;
  init(): void;
  startup(vector: number): void;
  /** The external interrupt controller's request, as LINT0 or a message lets it through. */
  extInt(level: boolean): void;
  /** When (ns on the clock) the TSC reaches `tsc`: perhaps in the past, Infinity for never. */
  timeOfTsc(tsc: bigint): number;
}

/** What a local APIC is made with. The defaults are those of a present-day processor. */
export interface LocalApicOptions {
  /** Initial (x2)APIC ID. */
  readonly id: number;
  readonly clock: Clock;
  readonly owner: LocalApicOwner;
  /** Whether IA32_APIC_BASE says that this is the bootstrap processor. */
  readonly bootstrap: boolean;
  /** Width of physical addresses, 52 by default. */
  readonly physicalAddressBits?: number;
  readonly x2apic?: boolean;
  readonly tscDeadline?: boolean;
  readonly cmci?: boolean;
  readonly directedEoi?: boolean;
  /** x2APIC mode, once entered, cannot be left (IA32_XAPIC_DISABLE_STATUS). */
  readonly x2apicLocked?: boolean;
  /** Nanoseconds per cycle of the timer's input clock, 1 by default. */
  readonly busCycleNs?: number;
  /** Shortest timer period in ns, 0 by default. */
  readonly minPeriodNs?: number;
  /** Where the register page lies, REGISTER_WORDS words; memory of its own by default. */
  readonly registers?: Uint32Array;
}

/** Everything a local APIC remembers. */
export interface LocalApicState {
  version: 1;
  /** IA32_APIC_BASE. */
  apicBase: bigint;
  /** The register page: 256 words, those of kvm_lapic_state. */
  registers: Uint32Array;
  /** Errors since the last write of the error status register. */
  pendingErrors: number;
  /** Levels of the LINT pins, one bit each. */
  lint: number;
  timer: LapicTimerState;
}
