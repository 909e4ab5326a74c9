/** The memory bus as processors see it: the local APIC's page is the accessing processor's own, the rest are devices. */
import { MmioBus } from '../../devices/bus.ts';
import type { Hpa } from '../../util/address.ts';
import type { Machine } from '../machine.ts';
import type { PhysicalBus } from '../memory.ts';

const PAGE = 4096;

export class ProcessorBus implements PhysicalBus {
  /** Devices of the machine. */
  readonly devices: MmioBus = new MmioBus();
  readonly #machine: Machine;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  /** The running processor's APIC if it is in xAPIC mode and `hpa` lies in its page. @returns the offset, or -1 */
  #apicOffset(hpa: Hpa): number {
    const apic = this.#machine.current?.apic;
    if (apic?.mode !== 'xapic') return -1;
    const offset = hpa - Number(apic.readApicBase() & 0xf_ffff_ffff_f000n);
    return offset >= 0 && offset < PAGE ? offset : -1;
  }

  read(hpa: Hpa, size: number): bigint {
    const offset = this.#apicOffset(hpa);
    const value = offset < 0 ? this.devices.read(hpa, size) : this.#machine.current!.apic.mmioRead(offset, size);
    return BigInt(value);
  }

  write(hpa: Hpa, size: number, value: bigint): void {
    const offset = this.#apicOffset(hpa);
    const data = size === 8 ? value : Number(value);
    if (offset < 0) this.devices.write(hpa, size, data);
    else this.#machine.current!.apic.mmioWrite(offset, size, data);
  }
}
