/**
 * The in-kernel pair of 8259A interrupt controllers: the model of src/devices on KVM's bus.
 *
 * @upstream arch/x86/kvm/i8259.c
 */
import { I8259Pair } from '../../devices/i8259.ts';
import type { I8259State } from '../../devices/i8259-chip.ts';
import type { Errno } from '../../host/errno.ts';
import { trace } from '../../util/trace.ts';
import type { KvmIoDevice } from '../virt/io_bus.ts';
import { kvmIrqLineState, kvmNotifyAckedIrq } from '../virt/irqchip.ts';
import { KVM_PIO_BUS, kvmMakeRequest, kvmVcpuKick } from '../virt/kvm_host.ts';
import { KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE } from './irq_comm.ts';
import { KVM_REQ_EVENT, vcpusOf, type X86Vm } from './kvm_host.ts';
import { kvmApicAcceptPicIntr } from './lapic.ts';

const PINS = 16;
const PORTS: readonly number[] = [0x20, 0xa0, 0x4d0];
const MASTER_MASK_PORT = 0x21;

/** struct kvm_pic_state, a byte each. */
const STATE_FIELDS: readonly (keyof I8259State)[] = [
  'lastIrr',
  'irr',
  'imr',
  'isr',
  'priorityAdd',
  'irqBase',
  'readRegSelect',
  'poll',
  'specialMask',
  'initState',
  'autoEoi',
  'rotateOnAutoEoi',
  'specialFullyNestedMode',
  'init4',
  'elcr',
  'elcrMask',
];

/** Number of the chip that has an input. */
const chipOf = (irq: number): number => (irq < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE);

/** The 8259 pair of a VM. @upstream struct kvm_pic */
export class KvmPic implements KvmIoDevice {
  readonly model: I8259Pair;
  readonly #kvm: X86Vm;
  /** Sources that hold each line. */
  readonly #irqStates: Uint8Array = new Uint8Array(PINS);

  constructor(kvm: X86Vm) {
    this.#kvm = kvm;
    this.model = new I8259Pair({
      output: (level) => {
        if (level) this.#wake();
      },
      onAck: (irq) => kvmNotifyAckedIrq(kvm, chipOf(irq), irq),
    });
  }

  /** Whether the pair asks for an interrupt. @upstream kvm_pic.output */
  get output(): boolean {
    return this.model.interruptPending;
  }

  /** Puts a source's level on an input (0 to 15). @upstream kvm_pic_set_irq() */
  setIrq(irq: number, sourceId: number, level: number): number {
    const asserted = kvmIrqLineState(this.#irqStates, irq, sourceId, level);
    const result = this.model.setIrq(irq, asserted);
    if (trace.kvm_pic_set_irq !== undefined) {
      const chip = this.model.state.chips[irq >> 3]!;
      trace.kvm_pic_set_irq(irq >> 3, irq & 7, chip.elcr, chip.imr, result === 0);
    }
    return result;
  }

  /** The interrupt acknowledge cycle; gives the vector. @upstream kvm_pic_read_irq() */
  readIrq(): number {
    return this.model.acknowledge();
  }

  /** @upstream picdev_read() */
  read(address: number, length: number, data: Uint8Array): Errno {
    data.fill(0, 0, length);
    if (length === 1) data[0] = this.model.portRead(address, 1);
    return 0;
  }

  /** Only bytes are understood; anything else is dropped. @upstream picdev_write() */
  write(address: number, length: number, data: Uint8Array): Errno {
    if (length !== 1) return 0;
    const { imr } = this.model.state.chips[0];
    this.model.portWrite(address, 1, data[0]!);
    if (address === MASTER_MASK_PORT && imr & 1 && !(this.model.state.chips[0].imr & 1)) {
      this.#kvm.arch.vpit?.unmasked(KVM_IRQCHIP_PIC_MASTER, 0);
    }
    return 0;
  }

  /** Those vCPUs whose LINT0 lets the request through look at it. @upstream pic_unlock() */
  #wake(): void {
    for (const vcpu of vcpusOf(this.#kvm)) {
      if (!kvmApicAcceptPicIntr(vcpu)) continue;
      kvmMakeRequest(KVM_REQ_EVENT, vcpu);
      kvmVcpuKick(vcpu);
    }
  }

  /** struct kvm_pic_state of one chip. @upstream kvm_vm_ioctl_get_irqchip() */
  getState(chip: number): Uint8Array {
    const state = this.model.state.chips[chip === KVM_IRQCHIP_PIC_MASTER ? 0 : 1];
    return Uint8Array.from(STATE_FIELDS, (name) => state[name]);
  }

  /** @upstream kvm_vm_ioctl_set_irqchip() */
  setState(chip: number, bytes: Uint8Array): void {
    const index = chip === KVM_IRQCHIP_PIC_MASTER ? 0 : 1;
    const [master, slave] = this.model.state.chips;
    const next: I8259State = { ...(index === 0 ? master : slave), single: 0 };
    STATE_FIELDS.forEach((name, i) => {
      // Which inputs can be levels is the board's wiring, not state.
      if (name !== 'elcrMask') next[name] = bytes[i]!;
    });
    this.model.restore({ version: 1, chips: index === 0 ? [next, slave] : [master, next] });
  }
}

/** @upstream kvm_pic_init() */
export function kvmPicInit(kvm: X86Vm): Errno {
  const pic = new KvmPic(kvm);
  for (const port of PORTS) {
    const result = kvm.buses[KVM_PIO_BUS]!.register(port, 2, pic);
    if (result !== 0) {
      kvm.buses[KVM_PIO_BUS]!.unregister(pic);
      return result;
    }
  }
  kvm.arch.vpic = pic;
  return 0;
}

/** @upstream kvm_pic_destroy() */
export function kvmPicDestroy(kvm: X86Vm): void {
  const { vpic } = kvm.arch;
  if (vpic === null) return;
  kvm.buses[KVM_PIO_BUS]!.unregister(vpic);
  kvm.arch.vpic = null;
}
