/**
 * In-kernel local APICs: the model of src/devices, connected to a vCPU.
 *
 * Timer expiries and messages go straight into the IRR; what follows (a request, a kick) is the backend's
 * `deliverInterrupt`. Timers run on the host's clock.
 *
 * @upstream arch/x86/kvm/lapic.c
 */
import { DeliveryMode, type InterruptMessage } from '../../devices/interrupt-message.ts';
import { LocalApic } from '../../devices/lapic.ts';
import type { ApicMode } from '../../devices/lapic-base.ts';
import { APIC, highestVector, REGISTER_WORDS } from '../../devices/lapic-registers.ts';
import { EINVAL, ENOMEM, EOPNOTSUPP, type Errno } from '../../host/errno.ts';
import { PAGE_OWNER } from '../../host/pages.ts';
import { RAM_BASE } from '../../machine/engine/layout.ts';
import { type Gpa, type Hpa, PAGE_SIZE } from '../../util/address.ts';
import { trace } from '../../util/trace.ts';
import { kvmMakeAllCpusRequest, kvmMakeRequest, kvmVcpuKick } from '../virt/kvm_host.ts';
import { APIC_DEFAULT_PHYS_BASE, APICV_INHIBIT_REASON, enableApicv, kvmSetApicvInhibit } from './apicv.ts';
import { guestCpuidHas } from './cpuid_caps.ts';
import { kvmIrqDeliveryToApic, kvmSplitIrqchipHandlesEoi } from './irq_comm.ts';
import {
  KVM_REQ_APICV_UPDATE,
  KVM_REQ_EVENT,
  KVM_REQ_IOAPIC_EOI_EXIT,
  KVM_REQ_NMI,
  KVM_REQ_SCAN_IOAPIC,
  type X86Vcpu,
} from './kvm_host.ts';
import { kvmL1TscToHostNs } from './tsc.ts';

/** Bits of {@link KvmLapic.pendingEvents}. @upstream KVM_APIC_INIT, KVM_APIC_SIPI */
export const KVM_APIC_INIT = 1;
export const KVM_APIC_SIPI = 2;

/** Shortest period of the timer's periodic mode. @upstream min_timer_period_us */
const MIN_TIMER_PERIOD_NS = 200_000;
/** KVM_X86_QUIRK_LINT0_REENABLED and KVM_X86_QUIRK_LAPIC_MMIO_HOLE. */
const QUIRK_LINT0_REENABLED = 1n << 0n;
const QUIRK_LAPIC_MMIO_HOLE = 1n << 2n;
/** LINT0 that lets the PIC's request through. */
const LVT_EXTINT = 0x700;

/** What of the guest's CPUID and the VM's interrupt controllers shapes a local APIC. */
interface LapicShape {
  readonly x2apic: boolean;
  readonly tscDeadline: boolean;
  readonly directedEoi: boolean;
  readonly physicalAddressBits: number;
}

function shapeOf(vcpu: X86Vcpu): LapicShape {
  const x2apic = guestCpuidHas(vcpu, 'x2apic');
  return {
    x2apic,
    tscDeadline: guestCpuidHas(vcpu, 'tsc_deadline_timer'),
    // The in-kernel IOAPIC has no EOI register, so EOIs to it must be broadcast. @upstream kvm_apic_set_version()
    directedEoi: x2apic && vcpu.kvm.arch.vioapic === null,
    physicalAddressBits: vcpu.arch.maxphyaddr,
  };
}

/** A posted-interrupt request bitmap: 256 vectors in eight words. */
export interface PostedVectors {
  pir(word: number): number;
  setPir(word: number, value: number): void;
}

/** The local APIC of a vCPU. @upstream struct kvm_lapic */
export class KvmLapic extends LocalApic {
  readonly vcpu: X86Vcpu;
  readonly shape: LapicShape;
  /** INIT and SIPI that the vCPU has not taken yet: KVM_APIC_* bits. */
  pendingEvents = 0;
  sipiVector = 0;
  /** Where the guest sees the register page, as a number. */
  baseAddress = 0;
  /** The register page itself: the processor's virtual-APIC page. */
  readonly page: Hpa;
  /** Interrupts are posted, and delivered by the hardware. @upstream apicv_active */
  apicvActive = false;

  constructor(vcpu: X86Vcpu, shape: LapicShape, page: Hpa) {
    const { kvm } = vcpu;
    super({
      id: vcpu.vcpuId,
      clock: kvm.host.timers,
      bootstrap: vcpu.vcpuId === kvm.arch.bspVcpuId,
      cmci: false,
      busCycleNs: kvm.arch.apicBusCycleNs,
      minPeriodNs: MIN_TIMER_PERIOD_NS,
      registers: new Uint32Array(kvm.host.machine.memory.bytes.buffer, RAM_BASE + page, REGISTER_WORDS),
      ...shape,
      owner: {
        pendingChanged: (vector) => {
          if (vector >= 0 && !this.apicvActive) kvmMakeRequest(KVM_REQ_EVENT, vcpu);
        },
        sendIpi: (message, shorthand) => this.#sendIpi(message, shorthand),
        endOfInterrupt: (vector, broadcast) => this.#endOfInterrupt(vector, broadcast),
        nmi: () => {
          vcpu.arch.nmiQueued++;
          kvmMakeRequest(KVM_REQ_NMI, vcpu);
          kvmVcpuKick(vcpu);
        },
        // Not reached: accept() refuses what has no meaning here.
        smi: () => {},
        init: () => {
          // An INIT cancels a SIPI that came before it.
          this.pendingEvents = KVM_APIC_INIT;
          this.#wake();
        },
        startup: (vector) => {
          this.sipiVector = vector;
          this.pendingEvents |= KVM_APIC_SIPI;
          this.#wake();
        },
        // The PIC is asked directly, by kvmApicAcceptPicIntr.
        extInt: () => {},
        timeOfTsc: (tsc) => kvmL1TscToHostNs(vcpu, tsc),
      },
    });
    this.vcpu = vcpu;
    this.shape = shape;
    this.page = page;
    this.baseChanged();
  }

  /** IA32_APIC_BASE has changed. */
  baseChanged(): void {
    this.baseAddress = Number(BigInt.asUintN(52, this.readApicBase()) & ~0xfffn);
  }

  /** Takes a message or local interrupt. @upstream __apic_accept_irq() */
  override accept(deliveryMode: number, vector: number, levelTriggered: boolean, asserted = true): boolean {
    // There is no SMM, and the PIC's interrupts do not come by message.
    if (deliveryMode === DeliveryMode.smi || deliveryMode === DeliveryMode.extInt) return false;
    const accepted = super.accept(deliveryMode, vector, levelTriggered, asserted);
    trace.kvm_apic_accept_irq?.(this.apicId, deliveryMode, levelTriggered, vector);
    if (accepted && deliveryMode <= DeliveryMode.lowestPriority) {
      const { vcpu } = this;
      vcpu.kvm.ops.deliverInterrupt(vcpu, deliveryMode, levelTriggered ? 1 : 0, vector);
    }
    return accepted;
  }

  #wake(): void {
    kvmMakeRequest(KVM_REQ_EVENT, this.vcpu);
    kvmVcpuKick(this.vcpu);
  }

  #sendIpi(message: InterruptMessage, shorthand: number): void {
    trace.kvm_apic_ipi?.(this.register(APIC.ICR), message.destination);
    kvmIrqDeliveryToApic(this.vcpu.kvm, this, message, shorthand);
  }

  /** @upstream apic_set_eoi(), kvm_ioapic_send_eoi() */
  /** A vector that is posted goes straight to the virtual APIC; only how it is triggered is noted here. */
  protected override requestVector(vector: number, levelTriggered: boolean): void {
    if (this.apicvActive) this.setTrigger(vector, levelTriggered);
    else super.requestVector(vector, levelTriggered);
  }

  /** @upstream apic_set_eoi(), apic_clear_isr() */
  override eoi(): void {
    if (!this.apicvActive) return super.eoi();
    this.vectorsWritten();
    super.eoi();
    this.vcpu.kvm.ops.hwapicIsrUpdate(this.vcpu, this.highestIsr);
  }

  /** The guest's processor has ended a vector by itself. @upstream kvm_apic_set_eoi_accelerated() */
  eoiAccelerated(vector: number): void {
    this.ended(vector);
  }

  /** Takes over posted vectors; the highest one requested then, −1 for none. @upstream kvm_apic_update_irr() */
  updateIrr(desc: PostedVectors): number {
    const { registers } = this.state;
    for (let word = 0; word < 8; word++) {
      const posted = desc.pir(word);
      if (posted === 0) continue;
      desc.setPir(word, 0);
      registers[(APIC.IRR >> 2) + 4 * word]! |= posted;
    }
    return this.searchIrr();
  }

  /** Highest vector requested, by the register page itself. @upstream apic_search_irr() */
  searchIrr(): number {
    return highestVector(this.state.registers, APIC.IRR);
  }

  #endOfInterrupt(vector: number, broadcast: boolean): void {
    const { vcpu } = this;
    const { arch } = vcpu.kvm;
    trace.kvm_eoi?.(this.apicId, vector);
    if (arch.vioapic !== null) {
      arch.vioapic.updateEoi(vector, broadcast);
    } else if (broadcast && arch.irqchipMode === 'split' && kvmSplitIrqchipHandlesEoi(vcpu.kvm, vector)) {
      vcpu.arch.pendingIoapicEoi = vector;
      kvmMakeRequest(KVM_REQ_IOAPIC_EOI_EXIT, vcpu);
    }
    kvmMakeRequest(KVM_REQ_EVENT, vcpu);
  }
}

// ------------------------------------------------------------------ life

/** @upstream kvm_create_lapic() */
export function kvmCreateLapic(vcpu: X86Vcpu): Errno {
  const { host } = vcpu.kvm;
  const page = host.pages.alloc(PAGE_OWNER.kernel);
  if (page === undefined) return -ENOMEM;
  const apic = new KvmLapic(vcpu, shapeOf(vcpu), page);
  vcpu.arch.apic = apic;
  // Whether something keeps the VM from it is looked at before the vCPU first runs.
  if (enableApicv(host)) {
    apic.apicvActive = true;
    kvmMakeRequest(KVM_REQ_APICV_UPDATE, vcpu);
  }
  return 0;
}

/** @upstream kvm_free_lapic() */
export function kvmFreeLapic(vcpu: X86Vcpu): void {
  const { apic } = vcpu.arch;
  if (apic === null) return;
  // Stops the timer.
  apic.reset();
  vcpu.kvm.host.pages.free(apic.page);
  vcpu.arch.apic = null;
}

/** Power-on, or INIT which leaves mode and identifier. @upstream kvm_lapic_reset() */
export function kvmLapicReset(vcpu: X86Vcpu, initEvent: boolean): void {
  const { apic } = vcpu.arch;
  if (apic === null) return;
  const { arch, ops } = vcpu.kvm;
  if (apic.apicvActive) ops.apicvPreStateRestore(vcpu);
  if (initEvent) {
    apic.initReset();
  } else {
    apic.reset();
    apic.pendingEvents = 0;
    apic.baseChanged();
  }
  if (apic.apicvActive) ops.hwapicIsrUpdate(vcpu, -1);
  if (vcpu.vcpuId === arch.bspVcpuId && !(arch.disabledQuirks & QUIRK_LINT0_REENABLED)) {
    apic.setRegister(APIC.LVT_LINT0, LVT_EXTINT);
  }
}

/** The guest's CPUID may have other APIC features now. @upstream kvm_vcpu_after_set_cpuid(), kvm_apic_set_version() */
export function kvmApicAfterSetCpuid(vcpu: X86Vcpu): void {
  const { apic } = vcpu.arch;
  if (apic === null) return;
  const shape = shapeOf(vcpu);
  const before = apic.shape;
  if (
    shape.x2apic === before.x2apic &&
    shape.tscDeadline === before.tscDeadline &&
    shape.directedEoi === before.directedEoi &&
    shape.physicalAddressBits === before.physicalAddressBits
  ) {
    return;
  }
  // The two share the page.
  const state = { ...apic.state, registers: apic.state.registers.slice(), timer: { ...apic.state.timer } };
  apic.reset();
  const next = new KvmLapic(vcpu, shape, apic.page);
  const version = next.register(APIC.VERSION);
  next.restore(state);
  next.setRegister(APIC.VERSION, version);
  next.pendingEvents = apic.pendingEvents;
  next.sipiVector = apic.sipiVector;
  next.apicvActive = apic.apicvActive;
  next.baseChanged();
  vcpu.arch.apic = next;
}

// ------------------------------------------------------------------ interrupts

/** Highest vector that can be delivered now, −1 for none. @upstream kvm_apic_has_interrupt() */
export function kvmApicHasInterrupt(vcpu: X86Vcpu): number {
  const { apic, guestApicProtected } = vcpu.arch;
  if (apic === null || guestApicProtected) return -1;
  if (apic.apicvActive) {
    vcpu.kvm.ops.syncPirToIrr(vcpu);
    apic.vectorsWritten();
  }
  return apic.pendingVector;
}

/** Highest vector requested, −1 for none. @upstream kvm_lapic_find_highest_irr() */
export function kvmLapicFindHighestIrr(vcpu: X86Vcpu): number {
  const { apic } = vcpu.arch;
  if (apic === null) return -1;
  return apic.apicvActive ? apic.searchIrr() : apic.highestIrr;
}

/** Whether a request of the PIC reaches the vCPU. @upstream kvm_apic_accept_pic_intr() */
export function kvmApicAcceptPicIntr(vcpu: X86Vcpu): boolean {
  const { apic } = vcpu.arch;
  return apic === null || apic.acceptsExtInt();
}

/** An interrupt for this vCPU from KVM itself; whether its APIC took it. @upstream kvm_apic_set_irq() */
export function kvmApicAcceptIrq(
  vcpu: X86Vcpu,
  deliveryMode: number,
  vector: number,
  levelTriggered: boolean,
): boolean {
  return vcpu.arch.apic?.accept(deliveryMode, vector, levelTriggered) ?? false;
}

/** CR8. @upstream kvm_lapic_get_cr8() */
export function kvmLapicGetCr8(vcpu: X86Vcpu): number {
  const { apic } = vcpu.arch;
  return apic === null ? 0 : apic.tpr >> 4;
}

/** A write of CR8. @upstream kvm_lapic_set_tpr() */
export function kvmLapicSetTpr(vcpu: X86Vcpu, cr8: number): void {
  vcpu.arch.apic?.setTpr((cr8 & 15) << 4);
}

/** The guest may have changed the task priority in its register page, without an exit. */
export function kvmLapicTprWritten(vcpu: X86Vcpu): void {
  vcpu.arch.apic?.taskPriorityWritten();
}

// ------------------------------------------------------------------ registers

/** IA32_APIC_BASE. @upstream kvm_get_apic_base() */
export function kvmGetApicBase(vcpu: X86Vcpu): bigint {
  const { apic } = vcpu.arch;
  return apic === null ? vcpu.arch.apicBase : apic.readApicBase();
}

const APIC_BASE_ENABLED = 1n << 11n;
const APIC_BASE_X2APIC = 1n << 10n;
const APIC_BASE_RESERVED = 0x2ffn;

/** Writes IA32_APIC_BASE: 0, or 1 for #GP. The host may change between modes as it likes. @upstream kvm_apic_set_base() */
export function kvmApicSetBase(vcpu: X86Vcpu, value: bigint, hostInitiated: boolean): Errno {
  const { apic } = vcpu.arch;
  if (apic === null) {
    const x2apic = guestCpuidHas(vcpu, 'x2apic') ? 0n : APIC_BASE_X2APIC;
    if (value >> BigInt(vcpu.arch.maxphyaddr) || value & (APIC_BASE_RESERVED | x2apic)) return 1;
    if (value & APIC_BASE_X2APIC && !(value & APIC_BASE_ENABLED)) return 1;
    vcpu.arch.apicBase = value;
    return 0;
  }
  const { mode } = apic;
  let done = apic.writeApicBase(value);
  if (!done && hostInitiated) {
    // A mode that the guest could not have gone to in one step.
    const before = apic.readApicBase();
    const between = value & APIC_BASE_X2APIC ? APIC_BASE_ENABLED : 0n;
    const base = before & ~(APIC_BASE_ENABLED | APIC_BASE_X2APIC);
    done = apic.writeApicBase(base | between) && apic.writeApicBase(value);
    if (!done) {
      apic.writeApicBase(base);
      if (before & APIC_BASE_X2APIC) apic.writeApicBase(base | APIC_BASE_ENABLED);
      apic.writeApicBase(before);
    }
  }
  if (done) apicBaseWritten(vcpu, apic, mode);
  return done ? 0 : 1;
}

/** The base is another one, or the mode. @upstream __kvm_apic_set_base(), the second half */
function apicBaseWritten(vcpu: X86Vcpu, apic: KvmLapic, oldMode: ApicMode): void {
  const { kvm } = vcpu;
  apic.baseChanged();
  if (apic.mode !== oldMode) {
    kvmMakeRequest(KVM_REQ_APICV_UPDATE, vcpu);
    kvm.ops.setVirtualApicMode(vcpu);
    kvmMakeAllCpusRequest(kvm, KVM_REQ_SCAN_IOAPIC);
  }
  if (apic.mode !== 'disabled' && apic.baseAddress !== APIC_DEFAULT_PHYS_BASE)
    kvmSetApicvInhibit(kvm, APICV_INHIBIT_REASON.apicBaseModified);
}

/** In xAPIC mode a guest can give its APIC another identifier, which posting to it would not know. @upstream kvm_lapic_xapic_id_updated() */
function kvmLapicXapicIdUpdated(apic: KvmLapic): void {
  if (apic.mode !== 'xapic' || apic.apicId === apic.vcpu.vcpuId) return;
  kvmSetApicvInhibit(apic.vcpu.kvm, APICV_INHIBIT_REASON.apicIdModified);
}

/** Registers that decide which messages are for the APIC. */
const ADDRESSING: readonly number[] = [APIC.ID, APIC.LDR, APIC.DFR, APIC.SVR];

/** A register was written. @upstream kvm_lapic_reg_write(), what it does beyond the register */
function registerWritten(apic: KvmLapic, offset: number): void {
  if (!ADDRESSING.includes(offset)) return;
  if (offset === APIC.ID) kvmLapicXapicIdUpdated(apic);
  kvmMakeAllCpusRequest(apic.vcpu.kvm, KVM_REQ_SCAN_IOAPIC);
}

/** The processor has written a register for the guest and leaves the rest to KVM. @upstream kvm_apic_write_nodecode() */
export function kvmApicWriteNodecode(vcpu: X86Vcpu, offset: number): void {
  const { apic } = vcpu.arch;
  if (apic === null) return;
  const register = offset & 0xff0;
  const value = apic.register(register);
  trace.kvm_apic?.(true, register, BigInt(value));
  if (apic.mode === 'x2apic') {
    // The ICR is one register of 64 bits.
    const high = register === APIC.ICR ? BigInt(apic.register(APIC.ICR + 4)) : 0n;
    apic.writeMsr(0x800 + (register >> 4), (high << 32n) | BigInt(value));
  } else {
    apic.mmioWrite(register, 4, value);
  }
  registerWritten(apic, register);
}

/** @upstream kvm_apic_set_eoi_accelerated() */
export function kvmApicSetEoiAccelerated(vcpu: X86Vcpu, vector: number): void {
  vcpu.arch.apic?.eoiAccelerated(vector);
}

/** @upstream kvm_lapic_set_eoi() */
export function kvmLapicSetEoi(vcpu: X86Vcpu): void {
  vcpu.arch.apic?.eoi();
}

/** Reads MSR 800h to 8FFh; undefined is #GP. @upstream kvm_x2apic_msr_read() */
export function kvmX2apicMsrRead(vcpu: X86Vcpu, msr: number): bigint | undefined {
  const { apic } = vcpu.arch;
  const value = apic === null ? undefined : apic.readMsr(msr);
  trace.kvm_apic?.(false, (msr - 0x800) << 4, value ?? 0n);
  return value;
}

/** Writes MSR 800h to 8FFh; false is #GP. @upstream kvm_x2apic_msr_write() */
export function kvmX2apicMsrWrite(vcpu: X86Vcpu, msr: number, data: bigint): boolean {
  trace.kvm_apic?.(true, (msr - 0x800) << 4, data);
  const { apic } = vcpu.arch;
  if (!apic?.writeMsr(msr, data)) return false;
  registerWritten(apic, (msr - 0x800) << 4);
  return true;
}

/** IA32_TSC_DEADLINE; 0 while disarmed or in another timer mode. @upstream kvm_get_lapic_tscdeadline_msr() */
export function kvmGetLapicTscdeadlineMsr(vcpu: X86Vcpu): bigint {
  return vcpu.arch.apic?.readTscDeadline() ?? 0n;
}

/** @upstream kvm_set_lapic_tscdeadline_msr() */
export function kvmSetLapicTscdeadlineMsr(vcpu: X86Vcpu, data: bigint): void {
  vcpu.arch.apic?.writeTscDeadline(data);
}

/** Whether an access is to the register page, and the page's answer: 'hole' where xAPIC mode is off. */
function inPage(vcpu: X86Vcpu, apic: KvmLapic, gpa: Gpa): 'page' | 'hole' | undefined {
  const offset = gpa - apic.baseAddress;
  if (offset < 0 || offset >= PAGE_SIZE) return undefined;
  if (apic.mode === 'xapic') return 'page';
  return vcpu.kvm.arch.disabledQuirks & QUIRK_LAPIC_MMIO_HOLE ? undefined : 'hole';
}

/** Reads the register page; −EOPNOTSUPP for anything else. @upstream apic_mmio_read() */
export function kvmLapicMmioRead(vcpu: X86Vcpu, gpa: Gpa, length: number, data: Uint8Array): Errno {
  const { apic } = vcpu.arch;
  if (apic === null) return -EOPNOTSUPP;
  const place = inPage(vcpu, apic, gpa);
  if (place === undefined) return -EOPNOTSUPP;
  if (place === 'hole') {
    data.fill(0xff, 0, length);
    return 0;
  }
  const offset = gpa - apic.baseAddress;
  const value = apic.mmioRead(offset, length);
  trace.kvm_apic?.(false, offset, BigInt(value));
  for (let i = 0; i < length; i++) data[i] = i < 4 ? value >>> (8 * i) : 0;
  return 0;
}

/** Writes the register page; −EOPNOTSUPP for anything else. @upstream apic_mmio_write() */
export function kvmLapicMmioWrite(vcpu: X86Vcpu, gpa: Gpa, length: number, data: Uint8Array): Errno {
  const { apic } = vcpu.arch;
  if (apic === null) return -EOPNOTSUPP;
  const place = inPage(vcpu, apic, gpa);
  if (place === undefined) return -EOPNOTSUPP;
  if (place === 'hole' || length !== 4) return 0;
  const value = (data[0]! | (data[1]! << 8) | (data[2]! << 16) | (data[3]! << 24)) >>> 0;
  const offset = gpa - apic.baseAddress;
  trace.kvm_apic?.(true, offset, BigInt(value));
  apic.mmioWrite(offset, 4, value);
  registerWritten(apic, offset);
  return 0;
}

// ------------------------------------------------------------------ state

const STATE_BYTES: number = REGISTER_WORDS * 4;

/** KVM_GET_LAPIC: the 1 KiB register page. Empty without an in-kernel APIC. @upstream kvm_apic_get_state() */
export function kvmApicGetState(vcpu: X86Vcpu): Uint8Array {
  const { apic } = vcpu.arch;
  if (apic === null) return new Uint8Array(0);
  if (apic.apicvActive) vcpu.kvm.ops.syncPirToIrr(vcpu);
  const image = apic.registerImage();
  if (apic.mode === 'x2apic' && !vcpu.kvm.arch.x2apicFormat) image[APIC.ID >> 2]! <<= 24;
  return new Uint8Array(image.buffer);
}

/** KVM_SET_LAPIC. @upstream kvm_apic_set_state(), kvm_apic_state_fixup() */
export function kvmApicSetState(vcpu: X86Vcpu, regs: Uint8Array): Errno {
  const { apic } = vcpu.arch;
  if (apic === null || regs.length !== STATE_BYTES) return -EINVAL;
  const { ops } = vcpu.kvm;
  if (apic.apicvActive) ops.apicvPreStateRestore(vcpu);
  const image = new Uint32Array(regs.slice().buffer);
  if (apic.mode === 'x2apic') {
    const id = vcpu.vcpuId;
    if (vcpu.kvm.arch.x2apicFormat && image[APIC.ID >> 2] !== id) return -EINVAL;
    // The logical identifier follows from the identifier, which cannot be changed.
    image[APIC.ID >> 2] = id;
    image[APIC.LDR >> 2] = ((id >>> 4) << 16) | (1 << (id & 15));
  }
  image[APIC.VERSION >> 2] = apic.register(APIC.VERSION);
  image[(APIC.ICR + 4) >> 2] = apic.mode === 'x2apic' ? image[APIC.ICR_HIGH >> 2]! : 0;
  apic.loadRegisters(image);
  if (apic.apicvActive) ops.hwapicIsrUpdate(vcpu, apic.highestIsr);
  kvmMakeRequest(KVM_REQ_EVENT, vcpu);
  kvmLapicXapicIdUpdated(apic);
  kvmMakeAllCpusRequest(vcpu.kvm, KVM_REQ_SCAN_IOAPIC);
  return 0;
}
