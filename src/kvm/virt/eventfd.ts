/**
 * Eventfds of user space tied to a VM: an irqfd raises an interrupt when its eventfd is signalled, an ioeventfd signals
 * one when the guest writes to an address.
 *
 * @upstream virt/kvm/eventfd.c, fs/eventfd.c
 */
import { EBUSY, EEXIST, EINVAL, ENOENT, EOPNOTSUPP, type Errno } from '../../host/errno.ts';
import type { KvmIoDevice } from './io_bus.ts';
import {
  KVM_IRQFD_RESAMPLE_IRQ_SOURCE_ID,
  KVM_USERSPACE_IRQ_SOURCE_ID,
  type KvmIrqAckNotifier,
  kvmRegisterIrqAckNotifier,
  kvmSetIrq,
  kvmUnregisterIrqAckNotifier,
} from './irqchip.ts';
import { KVM_FAST_MMIO_BUS, KVM_MMIO_BUS, KVM_PIO_BUS, type Kvm } from './kvm_host.ts';

/** A counter that somebody adds to and somebody else waits for. @upstream struct eventfd_ctx */
export class EventFd {
  #count = 0;
  readonly #waiters: Set<() => void> = new Set();

  /** Adds to the counter and tells who waits. @upstream eventfd_signal() */
  signal(value = 1): void {
    this.#count += value;
    for (const waiter of [...this.#waiters]) waiter();
  }

  /** The counter, which goes back to 0. 0: nothing happened since the last read. */
  read(): number {
    const count = this.#count;
    this.#count = 0;
    return count;
  }

  /** Calls `waiter` at every signal until the result is called. */
  wait(waiter: () => void): () => void {
    this.#waiters.add(waiter);
    return () => this.#waiters.delete(waiter);
  }
}

export const KVM_IRQFD_FLAG_DEASSIGN = 1;
export const KVM_IRQFD_FLAG_RESAMPLE = 2;

/** @upstream struct kvm_irqfd */
export interface KvmIrqfdArgs {
  readonly fd: EventFd;
  readonly gsi: number;
  readonly flags?: number;
  /** With RESAMPLE: signalled when the guest ends the interrupt. */
  readonly resamplefd?: EventFd;
}

/** An assigned irqfd. @upstream struct kvm_kernel_irqfd */
interface KvmKernelIrqfd {
  readonly fd: EventFd;
  readonly gsi: number;
  readonly release: () => void;
}

/** Level-triggered irqfds of one GSI: the line stays up until the guest's EOI. @upstream struct kvm_kernel_irqfd_resampler */
class Resampler implements KvmIrqAckNotifier {
  readonly gsi: number;
  readonly resamplefds: Set<EventFd> = new Set();
  readonly #kvm: Kvm;

  constructor(kvm: Kvm, gsi: number) {
    this.#kvm = kvm;
    this.gsi = gsi;
  }

  /** @upstream irqfd_resampler_ack() */
  irqAcked(): void {
    this.lower();
    for (const fd of this.resamplefds) fd.signal();
  }

  raise(): void {
    kvmSetIrq(this.#kvm, KVM_IRQFD_RESAMPLE_IRQ_SOURCE_ID, this.gsi, 1);
  }

  lower(): void {
    kvmSetIrq(this.#kvm, KVM_IRQFD_RESAMPLE_IRQ_SOURCE_ID, this.gsi, 0);
  }
}

/** The irqfds and ioeventfds of a VM. */
interface VmEventfds {
  readonly irqfds: KvmKernelIrqfd[];
  readonly resamplers: Map<number, Resampler>;
  readonly ioeventfds: KvmIoeventfd[];
}

const eventfds: WeakMap<Kvm, VmEventfds> = new WeakMap();

function eventfdsOf(kvm: Kvm): VmEventfds {
  let found = eventfds.get(kvm);
  if (found === undefined) {
    const made: VmEventfds = { irqfds: [], resamplers: new Map(), ioeventfds: [] };
    eventfds.set(kvm, made);
    // @upstream kvm_irqfd_release()
    kvm.onDestroy.push(() => {
      for (const irqfd of made.irqfds.splice(0)) irqfd.release();
    });
    found = made;
  }
  return found;
}

/** KVM_IRQFD. @upstream kvm_irqfd() */
export function kvmIrqfd(kvm: Kvm, args: KvmIrqfdArgs): Errno {
  const flags = args.flags ?? 0;
  if (flags & ~(KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE)) return -EINVAL;
  return flags & KVM_IRQFD_FLAG_DEASSIGN ? kvmIrqfdDeassign(kvm, args) : kvmIrqfdAssign(kvm, args);
}

/** @upstream kvm_irqfd_assign() */
function kvmIrqfdAssign(kvm: Kvm, { fd, gsi, flags = 0, resamplefd }: KvmIrqfdArgs): Errno {
  const { irqfds } = eventfdsOf(kvm);
  const resample = (flags & KVM_IRQFD_FLAG_RESAMPLE) !== 0;
  if (resample && resamplefd === undefined) return -EINVAL;
  if (irqfds.some((irqfd) => irqfd.fd === fd)) return -EBUSY;
  // all checks passed
  const resampler = resample && resamplefd !== undefined ? attachResampler(kvm, gsi, resamplefd) : null;
  const inject = (): void => {
    if (resampler !== null) {
      resampler.raise();
      return;
    }
    kvmSetIrq(kvm, KVM_USERSPACE_IRQ_SOURCE_ID, gsi, 1);
    kvmSetIrq(kvm, KVM_USERSPACE_IRQ_SOURCE_ID, gsi, 0);
  };
  const wakeup = (): void => {
    if (fd.read() !== 0) inject();
  };
  const stop = fd.wait(wakeup);
  irqfds.push({
    fd,
    gsi,
    release: () => {
      stop();
      if (resampler !== null && resamplefd !== undefined) detachResampler(kvm, resampler, resamplefd);
    },
  });
  // What was signalled before counts, too.
  wakeup();
  return 0;
}

/** @upstream kvm_irqfd_deassign() */
function kvmIrqfdDeassign(kvm: Kvm, { fd, gsi }: KvmIrqfdArgs): Errno {
  const { irqfds } = eventfdsOf(kvm);
  for (let i = irqfds.length - 1; i >= 0; i--) {
    const irqfd = irqfds[i]!;
    if (irqfd.fd !== fd || irqfd.gsi !== gsi) continue;
    irqfds.splice(i, 1);
    irqfd.release();
  }
  return 0;
}

function attachResampler(kvm: Kvm, gsi: number, resamplefd: EventFd): Resampler {
  const { resamplers } = eventfdsOf(kvm);
  let resampler = resamplers.get(gsi);
  if (resampler === undefined) {
    resampler = new Resampler(kvm, gsi);
    resamplers.set(gsi, resampler);
    kvmRegisterIrqAckNotifier(kvm, resampler);
  }
  resampler.resamplefds.add(resamplefd);
  return resampler;
}

/** The last one of a GSI lowers the line for good. @upstream irqfd_resampler_shutdown() */
function detachResampler(kvm: Kvm, resampler: Resampler, resamplefd: EventFd): void {
  resampler.resamplefds.delete(resamplefd);
  if (resampler.resamplefds.size > 0) return;
  eventfdsOf(kvm).resamplers.delete(resampler.gsi);
  kvmUnregisterIrqAckNotifier(kvm, resampler);
  resampler.lower();
}

export const KVM_IOEVENTFD_FLAG_DATAMATCH = 1;
export const KVM_IOEVENTFD_FLAG_PIO = 2;
export const KVM_IOEVENTFD_FLAG_DEASSIGN = 4;
const IOEVENTFD_FLAGS = 7;
const LENGTHS: readonly number[] = [0, 1, 2, 4, 8];

/** @upstream struct kvm_ioeventfd */
export interface KvmIoeventfdArgs {
  readonly fd: EventFd;
  readonly addr: number;
  /** 1, 2, 4 or 8; 0 for writes of any length. */
  readonly len: number;
  readonly flags?: number;
  readonly datamatch?: bigint;
}

/** An assigned ioeventfd on its bus. @upstream struct _ioeventfd */
class KvmIoeventfd implements KvmIoDevice {
  readonly bus: number;
  readonly addr: number;
  readonly length: number;
  readonly fd: EventFd;
  /** Value that a write must have; null for any. */
  readonly datamatch: bigint | null;

  constructor({ fd, addr, len, flags = 0, datamatch = 0n }: KvmIoeventfdArgs) {
    this.bus = flags & KVM_IOEVENTFD_FLAG_PIO ? KVM_PIO_BUS : KVM_MMIO_BUS;
    this.addr = addr;
    this.length = len;
    this.fd = fd;
    this.datamatch = flags & KVM_IOEVENTFD_FLAG_DATAMATCH ? datamatch : null;
  }

  read(): Errno {
    return -EOPNOTSUPP;
  }

  /** @upstream ioeventfd_write() */
  write(address: number, length: number, data: Uint8Array): Errno {
    if (address !== this.addr) return -EOPNOTSUPP;
    if (this.length !== 0 && length !== this.length) return -EOPNOTSUPP;
    if (this.length !== 0 && this.datamatch !== null && valueOfBytes(data, length) !== this.datamatch)
      return -EOPNOTSUPP;
    this.fd.signal();
    return 0;
  }

  /** A write that matches both would be for either. @upstream ioeventfd_check_collision() */
  collides(other: KvmIoeventfd): boolean {
    if (this.bus !== other.bus || this.addr !== other.addr) return false;
    if (this.length === 0 || other.length === 0) return true;
    if (this.length !== other.length) return false;
    return this.datamatch === null || other.datamatch === null || this.datamatch === other.datamatch;
  }
}

function valueOfBytes(data: Uint8Array, length: number): bigint {
  let value = 0n;
  for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(data[i]!);
  return value;
}

/** KVM_IOEVENTFD. @upstream kvm_ioeventfd() */
export function kvmIoeventfd(kvm: Kvm, args: KvmIoeventfdArgs): Errno {
  const flags = args.flags ?? 0;
  if (flags & ~IOEVENTFD_FLAGS || !LENGTHS.includes(args.len)) return -EINVAL;
  if (args.len === 0 && flags & KVM_IOEVENTFD_FLAG_DATAMATCH) return -EINVAL;
  if (!Number.isSafeInteger(args.addr) || args.addr < 0) return -EINVAL;
  const { ioeventfds } = eventfdsOf(kvm);
  const next = new KvmIoeventfd(args);
  // Writes of any length have a bus of their own, which is asked before the instruction is decoded.
  const buses = next.bus === KVM_MMIO_BUS && args.len === 0 ? [KVM_MMIO_BUS, KVM_FAST_MMIO_BUS] : [next.bus];
  if (flags & KVM_IOEVENTFD_FLAG_DEASSIGN) {
    const at = ioeventfds.findIndex(
      (one) =>
        one.fd === next.fd &&
        one.bus === next.bus &&
        one.addr === next.addr &&
        one.length === next.length &&
        one.datamatch === next.datamatch,
    );
    const [gone] = at < 0 ? [] : ioeventfds.splice(at, 1);
    if (gone === undefined) return -ENOENT;
    for (const bus of buses) kvm.buses[bus]!.unregister(gone);
    return 0;
  }
  if (ioeventfds.some((one) => one.collides(next))) return -EEXIST;
  // all checks passed
  for (const bus of buses) kvm.buses[bus]!.register(next.addr, next.length, next);
  ioeventfds.push(next);
  return 0;
}
