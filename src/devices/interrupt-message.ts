/**
 * An interrupt message as it travels between an IOAPIC, a message-signalling device or a local APIC and the local APICs.
 *
 * Reference: Intel SDM volume 3, "Interrupt Command Register (ICR)" and "Message Signalled Interrupts".
 */

/** What a message does to its receiver. */
export const DeliveryMode: {
  readonly fixed: 0;
  readonly lowestPriority: 1;
  readonly smi: 2;
  readonly nmi: 4;
  readonly init: 5;
  readonly startup: 6;
  readonly extInt: 7;
} = { fixed: 0, lowestPriority: 1, smi: 2, nmi: 4, init: 5, startup: 6, extInt: 7 };

/** Destination shorthands of the interrupt command register. */
export const Shorthand: {
  readonly none: 0;
  readonly self: 1;
  readonly allIncludingSelf: 2;
  readonly allExcludingSelf: 3;
} = { none: 0, self: 1, allIncludingSelf: 2, allExcludingSelf: 3 };

/** The destination that means every local APIC, whichever its mode. */
export const BROADCAST = 0xffff_ffff;

/** One message. */
export interface InterruptMessage {
  /** APIC ID or logical destination, 32 bits; {@link BROADCAST} for all. */
  readonly destination: number;
  /** Whether the destination is matched against logical destination registers. */
  readonly logical: boolean;
  /** A value of {@link DeliveryMode}. */
  readonly deliveryMode: number;
  readonly vector: number;
  readonly levelTriggered: boolean;
  /** The level of a level-triggered message; false is a de-assertion, which only INIT knows. */
  readonly asserted: boolean;
}

/** Widens an eight-bit destination: FFh means everybody there, also to receivers in x2APIC mode. */
export function widenDestination(destination: number): number {
  return destination === 0xff ? BROADCAST : destination;
}

/**
 * Reads the address and data of a message-signalled interrupt. With `x2apicFormat` the high address holds destination bits
 * 31:8, as KVM and interrupt remapping define it, and only the full 32-bit FFFFFFFFh is a broadcast.
 */
export function msiToMessage(
  addressLow: number,
  addressHigh: number,
  data: number,
  x2apicFormat = false,
): InterruptMessage {
  const low = (addressLow >>> 12) & 0xff;
  return {
    destination: x2apicFormat ? ((addressHigh & 0xffff_ff00) | low) >>> 0 : widenDestination(low),
    logical: (addressLow & 4) !== 0,
    deliveryMode: (data >>> 8) & 7,
    vector: data & 0xff,
    levelTriggered: (data & 0x8000) !== 0,
    asserted: (data & 0x8000) === 0 || (data & 0x4000) !== 0,
  };
}

/** Reads the two halves of an interrupt command register; the shorthand (bits 19:18) is not part of the message. */
export function icrToMessage(low: number, high: number, x2apic: boolean): InterruptMessage {
  const deliveryMode = (low >> 8) & 7;
  // Only an INIT can be a level, and only its de-assertion differs; everything else is an edge.
  const levelTriggered = deliveryMode === DeliveryMode.init && (low & 0x8000) !== 0;
  return {
    destination: x2apic ? high : widenDestination(high >>> 24),
    logical: (low & 0x800) !== 0,
    deliveryMode,
    vector: low & 0xff,
    levelTriggered,
    asserted: !levelTriggered || (low & 0x4000) !== 0,
  };
}
