/** The hard disks of a bare machine: two ATA channels behind an IDE controller. */

import { AtaChannel } from '../../devices/ata.ts';
import type { PortBus } from '../../devices/bus.ts';
import { ideController, type PciBus } from '../../devices/pci.ts';

/** Command ports, control port and interrupt of the PC's channels. */
const CHANNELS = [
  { base: 0x1f0, control: 0x3f6, irq: 14 },
  { base: 0x170, control: 0x376, irq: 15 },
] as const;
/** Disks that there can be. */
export const MOST_DISKS = 4;
const PCI_DEVICE = 1;

/** Puts the disks on the channels in order, two on each. Without disks there is no controller. */
export function attachDisks(
  pci: PciBus,
  ports: PortBus,
  setIrq: (irq: number, level: boolean) => void,
  disks: readonly Uint8Array[],
): void {
  if (disks.length === 0) return;
  pci.add(PCI_DEVICE, 0, ideController());
  CHANNELS.forEach(({ base, control, irq }, n) => {
    const channel = new AtaChannel({ irq: (level) => setIrq(irq, level), disks: disks.slice(2 * n, 2 * n + 2) });
    channel.attach(ports, base, control);
  });
}
