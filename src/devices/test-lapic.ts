/** For tests: a local APIC on a bus of its own, with a clock that stands still until it is moved. */
import { ApicBus } from './apic-bus.ts';
import { DeliveryMode } from './interrupt-message.ts';
import { LocalApic, type LocalApicOptions } from './lapic.ts';
import { APIC } from './lapic-registers.ts';
import { ManualClock } from './manual-clock.ts';

/** IA32_APIC_BASE of processor 0, enabled, in xAPIC mode. */
export const XAPIC = 0xfee0_0900n;
/** The same in x2APIC mode. */
export const X2APIC = 0xfee0_0d00n;
/** Mask bit of a local vector table entry. */
export const MASKED = 0x1_0000;
/** Spurious-interrupt vector register of an APIC that is on. */
export const SVR_ON = 0x1ff;

/** A local APIC and what a test does with it. */
export interface TestApic {
  readonly apic: LocalApic;
  readonly clock: ManualClock;
  /** What the APIC has asked of its owner. */
  readonly log: string[];
  write(offset: number, value: number): void;
  read(offset: number): number;
  /** Receives a fixed interrupt. */
  fixed(vector: number, level?: boolean): void;
}

/** One enabled local APIC that logs what it asks of its owner. */
export function makeApic(options: Partial<LocalApicOptions> = {}, bus: ApicBus = new ApicBus()): TestApic {
  const log: string[] = [];
  const clock = options.clock instanceof ManualClock ? options.clock : new ManualClock();
  const apic: LocalApic = new LocalApic({
    id: 0,
    clock,
    bootstrap: true,
    ...options,
    owner: {
      pendingChanged: (vector) => log.push(`pending ${vector}`),
      sendIpi: (message, shorthand) => {
        log.push(`ipi ${message.deliveryMode} ${message.vector} to ${message.destination} ${shorthand}`);
        bus.sendIpi(apic, message, shorthand);
      },
      endOfInterrupt: (vector, broadcast) => log.push(`eoi ${vector} ${broadcast}`),
      nmi: () => log.push('nmi'),
      smi: () => log.push('smi'),
      init: () => log.push('init'),
      startup: (vector) => log.push(`startup ${vector}`),
      extInt: (level) => log.push(`extint ${level}`),
      timeOfTsc: (tsc) => Number(tsc) - 1000,
    },
  });
  bus.add(apic);
  const write = (offset: number, value: number) => apic.mmioWrite(offset, 4, value);
  const read = (offset: number) => apic.mmioRead(offset, 4);
  const fixed = (vector: number, level = false) => apic.accept(DeliveryMode.fixed, vector, level);
  write(APIC.SVR, SVR_ON);
  log.length = 0;
  return { apic, clock, log, write, read, fixed };
}
