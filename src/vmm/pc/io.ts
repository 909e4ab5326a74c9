/** Carries out the port and memory accesses that KVM hands to user space. */

import type { PortBus } from '../../devices/bus.ts';
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

/** User space has no memory-mapped devices: reads give all ones, writes go nowhere. */
export function doMmio(exit: MmioExit): void {
  if (!exit.isWrite) exit.data.fill(0xff, 0, exit.len);
}

function get(data: Uint8Array, at: number, size: number): number {
  let value = 0;
  for (let n = size - 1; n >= 0; n--) value = value * 256 + data[at + n]!;
  return value;
}

function put(data: Uint8Array, at: number, size: number, value: number): void {
  for (let n = 0; n < size; n++, value >>>= 8) data[at + n] = value & 0xff;
}
