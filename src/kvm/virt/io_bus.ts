/**
 * In-kernel I/O buses: devices that KVM serves itself, by port or guest-physical address.
 *
 * @upstream virt/kvm/kvm_main.c, kvm_io_bus_*
 */
import { EEXIST, EOPNOTSUPP, type Errno } from '../../host/errno.ts';

/** A device on a bus. −EOPNOTSUPP means "not mine": the next candidate is asked. @upstream struct kvm_io_device_ops */
export interface KvmIoDevice {
  /** Fills `data[0..length)`. */
  read(address: number, length: number, data: Uint8Array, vcpu: unknown): Errno;
  write(address: number, length: number, data: Uint8Array, vcpu: unknown): Errno;
}

interface KvmIoRange {
  readonly address: number;
  readonly length: number;
  readonly device: KvmIoDevice;
}

/** Address ranges sorted by address; several devices may share one (ioeventfds do). */
export class KvmIoBus {
  #ranges: KvmIoRange[] = [];

  /** @upstream kvm_io_bus_register_dev() */
  register(address: number, length: number, device: KvmIoDevice): Errno {
    if (this.#ranges.some((range) => range.device === device && range.address === address)) return -EEXIST;
    this.#ranges = [...this.#ranges, { address, length, device }].sort((a, b) => a.address - b.address);
    return 0;
  }
  /** @upstream kvm_io_bus_unregister_dev() */
  unregister(device: KvmIoDevice): void {
    this.#ranges = this.#ranges.filter((range) => range.device !== device);
  }

  /** @upstream kvm_io_bus_read() */
  read(address: number, length: number, data: Uint8Array, vcpu: unknown): Errno {
    for (const range of this.#ranges) {
      if (!covers(range, address, length)) continue;
      if (range.device.read(address, length, data, vcpu) === 0) return 0;
    }
    return -EOPNOTSUPP;
  }
  /** @upstream kvm_io_bus_write() */
  write(address: number, length: number, data: Uint8Array, vcpu: unknown): Errno {
    for (const range of this.#ranges) {
      if (!covers(range, address, length)) continue;
      if (range.device.write(address, length, data, vcpu) === 0) return 0;
    }
    return -EOPNOTSUPP;
  }
}

/** A range of length 0 takes any access that begins at its address. */
const covers = (range: KvmIoRange, address: number, length: number): boolean =>
  address >= range.address &&
  (range.length === 0 ? address === range.address : address + length <= range.address + range.length);
