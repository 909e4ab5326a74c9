/**
 * The in-kernel I/O APIC: the model of src/devices on KVM's bus, with lines that several sources share.
 *
 * @upstream arch/x86/kvm/ioapic.c
 */
import { IOAPIC_DEFAULT_BASE, IoApic } from '../../devices/ioapic.ts';
import { EOPNOTSUPP, type Errno } from '../../host/errno.ts';
import { trace } from '../../util/trace.ts';
import type { KvmIoDevice } from '../virt/io_bus.ts';
import { kvmIrqHasNotifier, kvmIrqLineState, kvmNotifyAckedIrq } from '../virt/irqchip.ts';
import { KVM_MMIO_BUS, kvmMakeAllCpusRequest } from '../virt/kvm_host.ts';
import { KVM_IRQCHIP_IOAPIC, kvmIrqDeliveryToApic } from './irq_comm.ts';
import { KVM_REQ_SCAN_IOAPIC, type X86Vm } from './kvm_host.ts';

export const KVM_IOAPIC_NUM_PINS = 24;
const MASKED = 0x1_0000;
const LEVEL = 0x8000;
const LOGICAL = 0x800;
/** The real-time clock's interrupt. */
const RTC_GSI = 8;
const WINDOW = 0x10;
const REGISTERS_LENGTH = 0x100;
/** Size of struct kvm_ioapic_state, and where its parts lie. */
const STATE_BYTES = 216;
const REDIRTBL = 24;

/** The I/O APIC of a VM. @upstream struct kvm_ioapic */
export class KvmIoapic implements KvmIoDevice {
  readonly model: IoApic;
  readonly #kvm: X86Vm;
  /** Sources that hold each line. */
  readonly #irqStates: Uint8Array = new Uint8Array(KVM_IOAPIC_NUM_PINS);

  constructor(kvm: X86Vm) {
    this.#kvm = kvm;
    this.model = new IoApic({
      pins: KVM_IOAPIC_NUM_PINS,
      deliver: (message) => kvmIrqDeliveryToApic(kvm, null, message) > 0,
      onEoi: (pin) => kvmNotifyAckedIrq(kvm, KVM_IRQCHIP_IOAPIC, pin),
    });
  }

  /** Puts a source's level on a pin. @upstream kvm_ioapic_set_irq() */
  setIrq(pin: number, sourceId: number, level: number): number {
    const asserted = kvmIrqLineState(this.#irqStates, pin, sourceId, level);
    const result = this.model.setIrq(pin, asserted);
    trace.kvm_ioapic_set_irq?.(this.entry(pin), pin, result === 0);
    return result;
  }

  /** A vector has ended. @upstream kvm_ioapic_update_eoi() */
  updateEoi(vector: number, levelTriggered: boolean): void {
    this.model.eoi(vector, levelTriggered);
  }

  /** A redirection entry. */
  entry(pin: number): bigint {
    const { redirectionLow, redirectionHigh } = this.model.state;
    return (BigInt(redirectionHigh[pin]! >>> 0) << 32n) | BigInt(redirectionLow[pin]! >>> 0);
  }

  /** @upstream ioapic_mmio_read() */
  read(address: number, length: number, data: Uint8Array): Errno {
    const value = this.model.mmioRead(address & 0xf0, 4);
    for (let i = 0; i < length; i++) data[i] = i < 4 ? value >>> (8 * i) : 0;
    return 0;
  }

  /** @upstream ioapic_mmio_write() */
  write(address: number, length: number, data: Uint8Array): Errno {
    if (address & 0xf) return -EOPNOTSUPP;
    let value = 0;
    for (let i = Math.min(length, 4) - 1; i >= 0; i--) value = (value << 8) | data[i]!;
    const { model } = this;
    const pin = (model.state.ioregsel - 0x10) >> 1;
    const masked = this.#masked(pin);
    model.mmioWrite(address & 0xff, 4, value >>> 0);
    if ((address & 0xff) === WINDOW && masked && !this.#masked(pin)) {
      this.#kvm.arch.vpit?.unmasked(KVM_IRQCHIP_IOAPIC, pin);
    }
    if ((address & 0xff) === WINDOW) kvmMakeAllCpusRequest(this.#kvm, KVM_REQ_SCAN_IOAPIC);
    return 0;
  }

  /**
   * Every interrupt whose end must be heard: level-triggered ones, those that somebody wants to be told of, and the
   * real-time clock's.
   *
   * @upstream kvm_ioapic_scan_entry()
   */
  scanEntries(add: (vector: number, destination: number, logical: boolean) => void): void {
    const { redirectionLow, redirectionHigh } = this.model.state;
    for (let pin = 0; pin < KVM_IOAPIC_NUM_PINS; pin++) {
      const low = redirectionLow[pin]!;
      if ((low & LEVEL) === 0 && pin !== RTC_GSI && !kvmIrqHasNotifier(this.#kvm, KVM_IRQCHIP_IOAPIC, pin)) continue;
      add(low & 0xff, redirectionHigh[pin]! >>> 24, (low & LOGICAL) !== 0);
    }
  }

  #masked(pin: number): boolean {
    return ((this.model.state.redirectionLow[pin] ?? MASKED) & MASKED) !== 0;
  }

  /** struct kvm_ioapic_state. @upstream kvm_get_ioapic() */
  getState(): Uint8Array {
    const { state } = this.model;
    const bytes = new Uint8Array(STATE_BYTES);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(0, BigInt(state.baseAddress), true);
    view.setUint32(8, state.ioregsel, true);
    view.setUint32(12, state.id, true);
    view.setUint32(16, state.irr, true);
    for (let pin = 0; pin < KVM_IOAPIC_NUM_PINS; pin++) {
      view.setBigUint64(REDIRTBL + 8 * pin, this.entry(pin), true);
    }
    return bytes;
  }

  /** Takes over a state; lines that are high in it interrupt again where they may. @upstream kvm_set_ioapic() */
  setState(bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, STATE_BYTES);
    const at = (pin: number, half: 0 | 4): number => view.getUint32(REDIRTBL + 8 * pin + half, true);
    const pins = Array.from({ length: KVM_IOAPIC_NUM_PINS }, (_, pin) => pin);
    this.model.restore({
      version: 1,
      baseAddress: Number(view.getBigUint64(0, true)),
      ioregsel: view.getUint32(8, true) & 0xff,
      id: view.getUint32(12, true) & 0xf,
      irr: 0,
      redirectionLow: pins.map((pin) => at(pin, 0)),
      redirectionHigh: pins.map((pin) => at(pin, 4)),
    });
    const irr = view.getUint32(16, true);
    for (const pin of pins) if (irr & (1 << pin)) this.model.setIrq(pin, true);
    kvmMakeAllCpusRequest(this.#kvm, KVM_REQ_SCAN_IOAPIC);
  }
}

/** @upstream kvm_ioapic_init() */
export function kvmIoapicInit(kvm: X86Vm): Errno {
  const ioapic = new KvmIoapic(kvm);
  const result = kvm.buses[KVM_MMIO_BUS]!.register(IOAPIC_DEFAULT_BASE, REGISTERS_LENGTH, ioapic);
  if (result === 0) kvm.arch.vioapic = ioapic;
  return result;
}

/** @upstream kvm_ioapic_destroy() */
export function kvmIoapicDestroy(kvm: X86Vm): void {
  const { vioapic } = kvm.arch;
  if (vioapic === null) return;
  kvm.buses[KVM_MMIO_BUS]!.unregister(vioapic);
  kvm.arch.vioapic = null;
}
