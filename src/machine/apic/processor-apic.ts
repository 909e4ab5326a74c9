/** The local APIC of a processor of the machine: what its messages do to the processor, and how the processor takes interrupts. */

import type { ApicBus } from '../../devices/apic-bus.ts';
import { LocalApic } from '../../devices/lapic.ts';
import { profileOf } from '../cpuid/cpuid.ts';
import type { Processor } from '../processor.ts';

/** What surrounds the local APICs on a bare machine. */
export interface InterruptPlatform {
  /** Interrupt acknowledge cycle of the 8259 pair; gives the vector. */
  acknowledgeExtInt(): number;
  /** An interrupt was ended; `broadcast` as for LocalApicOwner.endOfInterrupt. */
  endOfInterrupt(vector: number, broadcast: boolean): void;
}

/** Where no 8259 and no I/O APIC is: the spurious vector of an unprogrammed 8259. */
export const NO_PLATFORM: InterruptPlatform = {
  acknowledgeExtInt: () => 0x0f,
  endOfInterrupt: () => {},
};

/** Mutable holder of the platform, shared by all processors of a machine. */
export interface PlatformSlot {
  platform: InterruptPlatform;
  /** An interrupt waits at a processor that is not in VMX non-root operation. */
  interruptArrived: (p: Processor) => void;
}

/** IA32_APIC_BASE: enabled, in x2APIC mode. */
const X2APIC_ON = 0xc00n;

export class ProcessorApic extends LocalApic {
  /** The 8259's request, let through by LINT0 or sent as an ExtINT message. */
  extIntPending = false;
  readonly #slot: PlatformSlot;
  readonly #locked: boolean;

  constructor(p: Processor, bus: ApicBus, slot: PlatformSlot) {
    const profile = profileOf(p);
    const wake = () => {
      p.eventsPending = true;
    };
    super({
      id: p.index,
      clock: p.machine.clock,
      bootstrap: p.index === 0,
      physicalAddressBits: profile.physicalAddressBits,
      x2apic: profile.features.has('x2apic'),
      x2apicLocked: profile.x2apicLocked,
      tscDeadline: profile.features.has('tsc_deadline_timer'),
      cmci: false,
      // CPUID leaf 15 names the crystal clock, so the timer counts its cycles.
      busCycleNs: 1e9 / profile.crystalHz,
      owner: {
        pendingChanged: (vector) => {
          wake();
          if (vector >= 0 && !p.vtx.nonRoot) slot.interruptArrived(p);
        },
        sendIpi: (message, shorthand) => void bus.sendIpi(this, message, shorthand),
        endOfInterrupt: (vector, broadcast) => slot.platform.endOfInterrupt(vector, broadcast),
        nmi: () => {
          p.nmiPending = true;
          wake();
        },
        // There is no system-management mode: nothing is waiting for an SMI.
        smi: () => {},
        init: () => {
          p.initPending = true;
          wake();
        },
        startup: (vector) => {
          p.sipiPending = vector;
          wake();
        },
        extInt: (level) => {
          this.extIntPending = level;
          wake();
        },
        timeOfTsc: (tsc) => Number(BigInt.asIntN(64, tsc - p.tscOffset)),
      },
    });
    this.#slot = slot;
    this.#locked = profile.x2apicLocked;
    bus.add(this);
    this.#enterLockedMode();
  }

  /** Power-on, and then what firmware does. */
  override reset(): void {
    super.reset();
    this.extIntPending = false;
    this.#enterLockedMode();
  }

  /** Firmware that locks x2APIC mode has turned it on. */
  #enterLockedMode(): void {
    if (this.#locked) this.writeApicBase(this.readApicBase() | X2APIC_ON);
  }

  /** A maskable interrupt waits for the processor. */
  get interruptPending(): boolean {
    return this.pendingVector >= 0 || this.extIntPending;
  }

  /** Acknowledges the interrupt that interruptPending told of and gives its vector. The 8259's comes first. */
  takeInterrupt(): number {
    if (!this.extIntPending) return this.acknowledge();
    const vector = this.#slot.platform.acknowledgeExtInt();
    // A request by message is used up; LINT0 stays as high as the 8259 holds it.
    this.extIntPending = (this.state.lint & 1) !== 0 && this.acceptsExtInt();
    return vector;
  }
}
