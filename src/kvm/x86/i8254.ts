/**
 * The in-kernel 8254 interval timer and the speaker port that goes with it.
 *
 * Counter 0 pulses GSI 0. With reinjection on, ticks that the guest had no time to take are kept and given one by one as
 * it ends the earlier ones, so that guests that count ticks keep their time.
 *
 * @upstream arch/x86/kvm/i8254.c
 */
import type { IrqLine } from '../../devices/bus.ts';
import { I8254 } from '../../devices/i8254.ts';
import { DeliveryMode } from '../../devices/interrupt-message.ts';
import { APIC } from '../../devices/lapic-registers.ts';
import { SystemControlPortB } from '../../devices/port61.ts';
import type { Errno } from '../../host/errno.ts';
import type { KvmIoDevice } from '../virt/io_bus.ts';
import {
  KVM_PIT_IRQ_SOURCE_ID,
  type KvmIrqAckNotifier,
  kvmIrqMapChipPin,
  kvmRegisterIrqAckNotifier,
  kvmSetIrq,
  kvmUnregisterIrqAckNotifier,
} from '../virt/irqchip.ts';
import { KVM_PIO_BUS } from '../virt/kvm_host.ts';
import { APICV_INHIBIT_REASON, kvmClearApicvInhibit, kvmSetApicvInhibit } from './apicv.ts';
import { vcpusOf, type X86Vm } from './kvm_host.ts';

/** Flag of KVM_CREATE_PIT2: port 61h is served, too. */
export const KVM_PIT_SPEAKER_DUMMY = 1;

const PIT_BASE = 0x40;
const SPEAKER_PORT = 0x61;
const PIT_GSI = 0;

/** The interval timer of a VM. @upstream struct kvm_pit */
export class KvmPit implements KvmIoDevice, KvmIrqAckNotifier {
  readonly gsi: number = PIT_GSI;
  readonly model: I8254;
  readonly speaker: SystemControlPortB;
  /** Port 61h on the bus, if the VM has one. */
  speakerPort: KvmIoDevice | null = null;
  /** Keep ticks until the guest takes them. */
  reinject = false;
  /** The HPET has taken over counter 0's interrupt. */
  hpetLegacy = false;
  readonly #kvm: X86Vm;
  /** Ticks not given yet, and whether the guest is ready for one. */
  #pending = 0;
  #acked = true;
  /** The guest is writing a register. */
  #programming = false;

  constructor(kvm: X86Vm) {
    this.#kvm = kvm;
    const output: IrqLine = (level) => {
      if (level) this.#tick();
    };
    this.model = new I8254({ clock: kvm.host.timers, output });
    this.speaker = new SystemControlPortB({ pit: this.model, clock: kvm.host.timers });
  }

  /** Counter 0 has run out. @upstream pit_timer_fn() */
  #tick(): void {
    if (this.hpetLegacy || this.#programming) return;
    if (this.reinject) this.#pending++;
    this.#inject();
  }

  /** @upstream pit_do_work() */
  #inject(): void {
    if (this.reinject && !this.#acked) return;
    this.#acked = false;
    const kvm = this.#kvm;
    kvmSetIrq(kvm, KVM_PIT_IRQ_SOURCE_ID, PIT_GSI, 1);
    kvmSetIrq(kvm, KVM_PIT_IRQ_SOURCE_ID, PIT_GSI, 0);
    // The NMI watchdog of old guests: LINT0 set up as NMI, driven by the timer.
    for (const { arch } of vcpusOf(kvm)) {
      const { apic } = arch;
      if (apic === null) continue;
      if (((apic.register(APIC.LVT_LINT0) >> 8) & 7) === DeliveryMode.nmi) apic.raiseLocal(APIC.LVT_LINT0);
    }
  }

  /** The guest ended a tick: the next one, if there is one. @upstream kvm_pit_ack_irq() */
  irqAcked(): void {
    if (!this.reinject) return;
    this.#acked = true;
    if (this.#pending > 0) this.#pending--;
    if (this.#pending > 0) this.#inject();
  }

  /** A pin was unmasked: ticks that nobody could see are forgotten. @upstream pit_mask_notifer() */
  unmasked(irqchip: number, pin: number): void {
    if (kvmIrqMapChipPin(this.#kvm, irqchip, pin) === PIT_GSI) this.resetReinject();
  }

  /** @upstream kvm_pit_reset_reinject() */
  resetReinject(): void {
    this.#pending = 0;
    this.#acked = true;
  }

  /** @upstream pit_ioport_read() */
  read(address: number, length: number, data: Uint8Array): Errno {
    data.fill(0, 0, length);
    data[0] = this.model.portRead(address, 1);
    return 0;
  }

  /** @upstream pit_ioport_write() */
  write(address: number, _length: number, data: Uint8Array): Errno {
    // A new count for counter 0 makes what was pending of the old one void. @upstream create_pit_timer()
    if ((address & 3) === 0) this.resetReinject();
    // That the output goes to a mode's idle level is no tick.
    this.#programming = true;
    this.model.portWrite(address, 1, data[0]!);
    this.#programming = false;
    return 0;
  }
}

/** Port 61h: gate and output of counter 2. @upstream speaker_ioport_ops */
class KvmPitSpeaker implements KvmIoDevice {
  readonly #pit: KvmPit;

  constructor(pit: KvmPit) {
    this.#pit = pit;
  }

  read(_address: number, length: number, data: Uint8Array): Errno {
    data.fill(0, 0, length);
    data[0] = this.#pit.speaker.portRead(SPEAKER_PORT, 1);
    return 0;
  }

  write(_address: number, _length: number, data: Uint8Array): Errno {
    this.#pit.speaker.portWrite(SPEAKER_PORT, 1, data[0]!);
    return 0;
  }
}

/** @upstream kvm_create_pit() */
export function kvmCreatePit(kvm: X86Vm, flags: number): Errno {
  const pit = new KvmPit(kvm);
  const bus = kvm.buses[KVM_PIO_BUS]!;
  let result = bus.register(PIT_BASE, 4, pit);
  if (result === 0 && flags & KVM_PIT_SPEAKER_DUMMY) {
    pit.speakerPort = new KvmPitSpeaker(pit);
    result = bus.register(SPEAKER_PORT, 1, pit.speakerPort);
  }
  if (result !== 0) return result;
  kvm.arch.vpit = pit;
  kvmPitSetReinject(pit, kvm, true);
  return 0;
}

/** Whether ticks that the guest misses are given to it later. @upstream kvm_pit_set_reinject() */
export function kvmPitSetReinject(pit: KvmPit, kvm: X86Vm, reinject: boolean): void {
  if (pit.reinject === reinject) return;
  if (reinject) {
    // Hardware that ends interrupts without an exit would not tell: it concerns backends that have no EOI exits.
    kvmSetApicvInhibit(kvm, APICV_INHIBIT_REASON.pitReinj);
    pit.resetReinject();
    kvmRegisterIrqAckNotifier(kvm, pit);
  } else {
    kvmClearApicvInhibit(kvm, APICV_INHIBIT_REASON.pitReinj);
    kvmUnregisterIrqAckNotifier(kvm, pit);
  }
  pit.reinject = reinject;
}

/** @upstream kvm_free_pit() */
export function kvmFreePit(kvm: X86Vm): void {
  const { vpit } = kvm.arch;
  if (vpit === null) return;
  // Stops counter 0's timer.
  vpit.model.setOutputWanted(false);
  kvmPitSetReinject(vpit, kvm, false);
  kvm.buses[KVM_PIO_BUS]!.unregister(vpit);
  if (vpit.speakerPort !== null) kvm.buses[KVM_PIO_BUS]!.unregister(vpit.speakerPort);
  kvm.arch.vpit = null;
}
