/** What firmware finds on a bare machine: its own ROM, and what it asks the board about. */

import type { PortBus } from '../../devices/bus.ts';
import { FirmwareConfig } from '../../devices/fw-cfg.ts';
import { hostBridge, PciBus } from '../../devices/pci.ts';
import { PAGE_SIZE } from '../../util/address.ts';
import { SoftvtError } from '../../util/errors.ts';
import { ByteWriter } from '../byte-writer.ts';
import { COM1_PORT, HIGH_RAM } from '../layout.ts';
import { E820_RAM } from '../memory-map.ts';
import { addAcpiFiles } from './acpi-files.ts';

/** The MMIO hole below 4 GiB has room for local APICs and IOAPICs beside it. */
const MOST_ROM = 16 * HIGH_RAM;
/** The end of the ROM that also lies below 1 MiB. */
const SHADOW_SIZE = 0x20000;

/** fw_cfg items. */
const PROCESSORS = 0x05;
const MOST_PROCESSORS = 0x0f;

/** Checks a firmware image. Throws ERR_SOFTVT_BAD_FIRMWARE. */
export function checkFirmware(image: Uint8Array, name: string): void {
  const bad = (why: string): SoftvtError => new SoftvtError('ERR_SOFTVT_BAD_FIRMWARE', `${name}: ${why}`);
  if (image.length === 0 || image.length % PAGE_SIZE !== 0) {
    throw bad(`a firmware image is a multiple of 4K, this one has ${image.length} bytes`);
  }
  if (image.length > MOST_ROM) throw bad('a firmware image has at most 16M');
}

/** Where the image's end also lies, and what lies there. */
export function shadow(image: Uint8Array): { address: number; bytes: Uint8Array } {
  const bytes = image.subarray(Math.max(0, image.length - SHADOW_SIZE));
  return { address: HIGH_RAM - bytes.length, bytes };
}

/** Attaches PCI with a host bridge, and the firmware configuration device. */
export function attachFirmwareDevices(ports: PortBus, cpus: number, memorySize: number): PciBus {
  const pci = new PciBus();
  pci.add(0, 0, hostBridge());
  pci.attach(ports);
  const config = new FirmwareConfig();
  config.number(PROCESSORS, cpus, 2);
  config.number(MOST_PROCESSORS, cpus, 2);
  config.file('etc/e820', new ByteWriter().u64(0, memorySize).u32(E820_RAM).finish());
  // There is no display: text goes to COM1.
  config.numberFile('etc/sercon-port', COM1_PORT);
  addAcpiFiles(config, cpus);
  config.attach(ports);
  return pci;
}
