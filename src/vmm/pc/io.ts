/** Carries out the port and memory accesses that KVM hands to user space. */

import type { MmioBus, PortBus } from '../../devices/bus.ts';
import type { IoExit, MmioExit } from '../../kvm/virt/kvm_run.ts';

/** Does a port exit's accesses, in order, at the same port. */
export function doPortIo(ports: PortBus, exit: IoExit): void {
  const { size, port, count, data } = exit;
  if (exit.direction === 'out') {
    for (let at = 0; at < size * count; at += size) ports.write(port, size, get(data, at, size));
  } else {
    for (let at = 0; at < size * count; at += size) put(data, at, size, ports.read(port, size));
  }
}

/** Does a memory access on the devices there are; where nobody answers, reads give all ones and writes go nowhere. */
export function doMmio(exit: MmioExit, bus?: MmioBus): void {
  const { physAddr, len, data, isWrite } = exit;
  if (bus?.find(physAddr) === undefined || ![1, 2, 4, 8].includes(len)) {
    if (!isWrite) data.fill(0xff, 0, len);
    return;
  }
  const view = new DataView(data.buffer, data.byteOffset, 8);
  if (len === 8) {
    if (isWrite) bus.write(physAddr, 8, view.getBigUint64(0, true));
    else view.setBigUint64(0, BigInt(bus.read(physAddr, 8)), true);
  } else if (isWrite) bus.write(physAddr, len, get(data, 0, len));
  else put(data, 0, len, Number(bus.read(physAddr, len)));
}

function get(data: Uint8Array, at: number, size: number): number {
  let value = 0;
  for (let n = size - 1; n >= 0; n--) value = value * 256 + data[at + n]!;
  return value;
}

function put(data: Uint8Array, at: number, size: number, value: number): void {
  for (let n = 0; n < size; n++, value >>>= 8) data[at + n] = value & 0xff;
}
