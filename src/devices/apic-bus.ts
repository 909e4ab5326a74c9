/**
 * The way interrupt messages take to local APICs: who is meant, and who of those gets a lowest-priority message.
 *
 * Reference: Intel SDM volume 3, "Determining IPI Destination" and "Lowest Priority Delivery Mode".
 */
import { DeliveryMode, type InterruptMessage, Shorthand } from './interrupt-message.ts';
import type { LocalApic } from './lapic.ts';

/** All local APICs of one machine. */
export class ApicBus {
  readonly #apics: LocalApic[] = [];
  /** Where the search for a lowest-priority receiver begins, so that equals take turns. */
  #turn = 0;

  /** Connects a local APIC. */
  add(apic: LocalApic): void {
    this.#apics.push(apic);
  }

  /** Disconnects a local APIC. */
  remove(apic: LocalApic): void {
    const index = this.#apics.indexOf(apic);
    if (index >= 0) this.#apics.splice(index, 1);
  }

  /** Delivers a message from a device; returns whether at least one local APIC took it. */
  deliver(message: InterruptMessage): boolean {
    return this.#deliver(message, (apic) => apic.matches(message.destination, message.logical));
  }

  /** Delivers what `sender` was told to send; returns whether at least one local APIC took it. */
  sendIpi(sender: LocalApic, message: InterruptMessage, shorthand: number): boolean {
    switch (shorthand) {
      case Shorthand.self:
        return this.#deliver(message, (apic) => apic === sender);
      case Shorthand.allIncludingSelf:
        return this.#deliver(message, (apic) => apic.mode !== 'disabled');
      case Shorthand.allExcludingSelf:
        return this.#deliver(message, (apic) => apic !== sender && apic.mode !== 'disabled');
      default:
        return this.deliver(message);
    }
  }

  #deliver(message: InterruptMessage, meant: (apic: LocalApic) => boolean): boolean {
    const { deliveryMode, vector, levelTriggered, asserted } = message;
    if (deliveryMode === DeliveryMode.lowestPriority) {
      const receiver = this.#lowestPriority(meant);
      return receiver?.accept(deliveryMode, vector, levelTriggered, asserted) ?? false;
    }
    let taken = false;
    for (const apic of this.#apics) {
      if (meant(apic) && apic.accept(deliveryMode, vector, levelTriggered, asserted)) taken = true;
    }
    return taken;
  }

  /** Of the enabled APICs that are meant, one with the lowest processor priority. */
  #lowestPriority(meant: (apic: LocalApic) => boolean): LocalApic | undefined {
    const count = this.#apics.length;
    let best: LocalApic | undefined;
    let bestIndex = 0;
    for (let i = 0; i < count; i++) {
      const index = (this.#turn + i) % count;
      const apic = this.#apics[index] as LocalApic;
      if (!apic.softwareEnabled || !meant(apic)) continue;
      if (best !== undefined && apic.ppr >> 4 >= best.ppr >> 4) continue;
      best = apic;
      bestIndex = index;
    }
    if (best !== undefined) this.#turn = (bestIndex + 1) % count;
    return best;
  }
}
