/**
 * A local APIC: interrupt acceptance, local vector table, timer and inter-processor interrupts, in xAPIC and x2APIC mode.
 * One model for the machine's processors and for KVM's virtual ones.
 *
 * This file holds the register interface and joins the parts: vectors and priorities (lapic-vectors), local sources
 * (lapic-local), timer (lapic-timer), mode (lapic-base). The register page image (`state.registers`) is always up to date
 * except for the timer's current count, which is computed.
 *
 * Reference: Intel SDM volume 3, chapter "Advanced Programmable Interrupt Controller (APIC)".
 */
import { allOnes, type MmioDevice } from './bus.ts';
import { BROADCAST, DeliveryMode, type InterruptMessage, icrToMessage, Shorthand } from './interrupt-message.ts';
import { ApicBase, type ApicMode } from './lapic-base.ts';
import { LapicLocal } from './lapic-local.ts';
import {
  APIC,
  ESR_ILLEGAL_REGISTER,
  ESR_RECEIVE_ILLEGAL_VECTOR,
  ESR_SEND_ILLEGAL_VECTOR,
  isReadable,
  type LapicFeatures,
  LVT_MASKED,
  LVT_OFFSETS,
  REGISTER_WORDS,
  SVR_ENABLED,
  SVR_SUPPRESS_EOI_BROADCAST,
  statusBits,
  writableBits,
} from './lapic-registers.ts';
import { LapicTimer } from './lapic-timer.ts';
import type { LocalApicOptions, LocalApicOwner, LocalApicState } from './lapic-types.ts';
import { LapicVectors } from './lapic-vectors.ts';

export type { LocalApicOptions, LocalApicOwner, LocalApicState } from './lapic-types.ts';

/** Registers of the page that x2APIC mode lacks. */
const NOT_IN_X2APIC: readonly number[] = [APIC.APR, APIC.RRD, APIC.DFR, APIC.ICR_HIGH];

/** One local APIC. */
export class LocalApic implements MmioDevice {
  readonly state: LocalApicState;
  readonly #owner: LocalApicOwner;
  readonly #features: LapicFeatures;
  readonly #base: ApicBase;
  readonly #id: number;
  readonly #registers: Uint32Array;
  readonly #vectors: LapicVectors;
  readonly #local: LapicLocal;
  readonly #timer: LapicTimer;

  constructor(options: LocalApicOptions) {
    this.#owner = options.owner;
    this.#id = options.id;
    this.#features = {
      cmci: options.cmci ?? true,
      tscDeadline: options.tscDeadline ?? true,
      directedEoi: options.directedEoi ?? true,
    };
    this.#base = new ApicBase({
      bootstrap: options.bootstrap,
      x2apic: options.x2apic ?? true,
      locked: options.x2apicLocked ?? false,
      physicalAddressBits: options.physicalAddressBits ?? 52,
    });
    this.#registers = options.registers ?? new Uint32Array(REGISTER_WORDS);
    this.#vectors = new LapicVectors(this.#registers, (v) => this.#owner.pendingChanged(v));
    this.#timer = new LapicTimer({
      clock: options.clock,
      registers: this.#registers,
      expired: () => this.#local.raise(APIC.LVT_TIMER),
      timeOfTsc: (tsc) => options.owner.timeOfTsc(tsc),
      busCycleNs: options.busCycleNs ?? 1,
      minPeriodNs: options.minPeriodNs ?? 0,
    });
    this.state = {
      version: 1,
      apicBase: this.#base.resetValue,
      registers: this.#registers,
      pendingErrors: 0,
      lint: 0,
      timer: this.#timer.state,
    };
    this.#local = new LapicLocal({
      state: this.state,
      owner: options.owner,
      enabled: () => this.mode !== 'disabled',
      accept: (mode, vector, level) => this.accept(mode, vector, level),
    });
    this.#resetRegisters();
  }

  /** Power-on. */
  reset(): void {
    this.state.apicBase = this.#base.resetValue;
    this.#base.mode = 'xapic';
    this.#resetRegisters();
    this.#recount();
  }

  /** INIT: the registers as after power-on, but mode and identifier stay. */
  initReset(): void {
    const id = this.register(APIC.ID);
    this.#resetRegisters();
    this.#registers[APIC.ID >> 2] = id;
    this.#recount();
  }

  /** Takes over a saved state. */
  restore(state: LocalApicState): void {
    const { apicBase, pendingErrors, lint } = state;
    Object.assign(this.state, { apicBase, pendingErrors, lint });
    this.#base.mode = this.#base.modeOf(apicBase);
    this.#registers.set(state.registers);
    this.#timer.restore(state.timer);
    this.#recount();
  }

  // ------------------------------------------------------------------ mode and identity

  /** Present mode, by IA32_APIC_BASE. */
  get mode(): ApicMode {
    return this.#base.mode;
  }

  /** Whether the spurious-interrupt vector register enables the APIC. */
  get softwareEnabled(): boolean {
    return this.mode !== 'disabled' && (this.register(APIC.SVR) & SVR_ENABLED) !== 0;
  }

  /** The identifier by which messages address this APIC now. */
  get apicId(): number {
    const id = this.register(APIC.ID);
    return this.mode === 'x2apic' ? id : id >>> 24;
  }

  /** Reads IA32_APIC_BASE. */
  readApicBase(): bigint {
    return this.state.apicBase;
  }

  /** Writes IA32_APIC_BASE; false means #GP and nothing changed. */
  writeApicBase(value: bigint): boolean {
    const before = this.mode;
    const mode = this.#base.transition(before, value);
    if (mode === undefined) return false;
    // all checks passed
    this.state.apicBase = value;
    this.#base.mode = mode;
    if (mode === before) return true;
    // An APIC that is switched off forgets what it was told; one that goes to x2APIC mode does not.
    if (mode === 'x2apic') this.#setIdentity();
    else this.#resetRegisters();
    this.#recount();
    return true;
  }

  /** In x2APIC mode the identifier is whole and the logical one follows from it. */
  #setIdentity(): void {
    const id = this.#id;
    const x2apic = this.mode === 'x2apic';
    this.#registers[APIC.ID >> 2] = x2apic ? id : id << 24;
    this.#registers[APIC.LDR >> 2] = x2apic ? ((id >>> 4) << 16) | (1 << (id & 15)) : 0;
    this.#registers[APIC.DFR >> 2] = x2apic ? 0 : 0xffff_ffff;
  }

  #resetRegisters(): void {
    const registers = this.#registers;
    registers.fill(0);
    const entries = this.#features.cmci ? 7 : 6;
    const directedEoi = this.#features.directedEoi ? 0x100_0000 : 0;
    registers[APIC.VERSION >> 2] = 0x14 | ((entries - 1) << 16) | directedEoi;
    registers[APIC.SVR >> 2] = 0xff;
    for (const offset of LVT_OFFSETS) {
      if (offset !== APIC.LVT_CMCI || this.#features.cmci) registers[offset >> 2] = LVT_MASKED;
    }
    this.#setIdentity();
    this.state.pendingErrors = 0;
    this.#timer.reset();
  }

  /** Rebuilds what is derived from registers and mode. */
  #recount(): void {
    this.#vectors.recount();
    this.#local.route();
  }

  // ------------------------------------------------------------------ acceptance

  /** Highest vector that can be delivered now: requested, and of a higher class than the processor priority. −1 for none. */
  get pendingVector(): number {
    return this.#vectors.pending;
  }

  /** Highest vector requested, −1 for none. */
  get highestIrr(): number {
    return this.#vectors.highestIrr;
  }

  /** Highest vector in service, −1 for none. */
  get highestIsr(): number {
    return this.#vectors.highestIsr;
  }

  /** Whether `vector` is requested. */
  hasIrr(vector: number): boolean {
    return this.#vectors.has(APIC.IRR, vector);
  }

  /** Whether `vector` is in service. */
  hasIsr(vector: number): boolean {
    return this.#vectors.has(APIC.ISR, vector);
  }

  /** Whether a message with this destination is for this APIC. */
  matches(destination: number, logical: boolean): boolean {
    if (this.mode === 'disabled') return false;
    if (destination === BROADCAST) return true;
    if (!logical) {
      // A destination beyond eight bits can only mean the initial identifier.
      return destination === this.apicId || (destination > 0xff && destination === this.#id);
    }
    const ldr = this.register(APIC.LDR);
    if (this.mode === 'x2apic') {
      return destination >>> 16 === ldr >>> 16 && (destination & ldr & 0xffff) !== 0;
    }
    if (destination > 0xff) return false;
    const own = ldr >>> 24;
    if (this.register(APIC.DFR) >>> 28 === 0xf) return (own & destination) !== 0;
    return own >> 4 === destination >> 4 && (own & destination & 0x0f) !== 0;
  }

  /** Takes a message addressed to this APIC. Returns whether it did. */
  accept(deliveryMode: number, vector: number, levelTriggered: boolean, asserted = true): boolean {
    switch (deliveryMode) {
      case DeliveryMode.fixed:
      case DeliveryMode.lowestPriority:
        return this.#acceptVector(vector, levelTriggered);
      case DeliveryMode.smi:
        this.#owner.smi();
        return true;
      case DeliveryMode.nmi:
        this.#owner.nmi();
        return true;
      case DeliveryMode.init:
        // A level de-assertion only synchronised arbitration identifiers, on processors that had them.
        if (levelTriggered && !asserted) return false;
        this.#owner.init();
        return true;
      case DeliveryMode.startup:
        this.#owner.startup(vector);
        return true;
      case DeliveryMode.extInt:
        this.#owner.extInt(true);
        return true;
      default:
        return false;
    }
  }

  #acceptVector(vector: number, levelTriggered: boolean): boolean {
    if (!this.softwareEnabled) return false;
    if (vector < 16) {
      this.#local.error(ESR_RECEIVE_ILLEGAL_VECTOR);
      return false;
    }
    this.requestVector(vector, levelTriggered);
    return true;
  }

  /** An accepted vector becomes requested. */
  protected requestVector(vector: number, levelTriggered: boolean): void {
    this.#vectors.request(vector, levelTriggered);
  }

  /** Notes how a vector is triggered, where somebody else requests it. */
  protected setTrigger(vector: number, levelTriggered: boolean): void {
    this.#vectors.setTrigger(vector, levelTriggered);
  }

  /**
   * The processor takes the highest deliverable interrupt: it goes from requested to in service. Returns its vector, or the
   * spurious vector if there is none.
   */
  acknowledge(): number {
    const vector = this.#vectors.take();
    return vector < 0 ? this.register(APIC.SVR) & 0xff : vector;
  }

  /** Ends the highest interrupt in service. */
  eoi(): void {
    const vector = this.#vectors.end();
    if (vector >= 0) this.ended(vector);
  }

  /** A vector is no longer in service: what follows from its end. */
  protected ended(vector: number): void {
    const level = this.#vectors.has(APIC.TMR, vector);
    if (level) this.#local.ended(vector);
    const suppressed = (this.register(APIC.SVR) & SVR_SUPPRESS_EOI_BROADCAST) !== 0;
    this.#owner.endOfInterrupt(vector, level && !suppressed);
  }

  /** Task priority, 0 to 255; CR8 is its upper half. */
  get tpr(): number {
    return this.register(APIC.TPR);
  }

  /** Sets the task priority, 0 to 255. */
  setTpr(value: number): void {
    this.#vectors.setTaskPriority(value);
  }

  /** Somebody else may have written the task priority into the register page. */
  taskPriorityWritten(): void {
    this.#vectors.taskPriorityWritten();
  }

  /** Somebody else may have changed vectors in the register page. */
  vectorsWritten(): void {
    this.#vectors.recount();
  }

  /** Processor priority. */
  get ppr(): number {
    return this.register(APIC.PPR);
  }

  // ------------------------------------------------------------------ local interrupts

  /**
   * An event inside the processor: the local vector table entry at `offset` says what becomes of it. Returns whether it was
   * delivered.
   */
  raiseLocal(offset: number): boolean {
    return this.#local.raise(offset);
  }

  /** Puts a level on LINT0 or LINT1. Without an APIC these are the processor's INTR and NMI pins. */
  setLint(pin: 0 | 1, level: boolean): void {
    this.#local.setLint(pin, level);
  }

  /** Whether a request of the external interrupt controller reaches the processor. */
  acceptsExtInt(): boolean {
    return this.#local.acceptsExtInt();
  }

  /** Reads IA32_TSC_DEADLINE. */
  readTscDeadline(): bigint {
    return this.#timer.readTscDeadline();
  }

  /** Writes IA32_TSC_DEADLINE. */
  writeTscDeadline(value: bigint): void {
    this.#timer.writeTscDeadline(value);
  }

  /** The TSC was written or its offset changed: a deadline is now at another time. */
  tscChanged(): void {
    this.#timer.tscChanged();
  }

  // ------------------------------------------------------------------ registers

  /** A register of the page image, as it is stored. */
  register(offset: number): number {
    return this.#registers[offset >> 2] as number;
  }

  /** Stores a register of the page image without what a write by software would do besides. */
  setRegister(offset: number, value: number): void {
    this.#registers[offset >> 2] = value;
    this.#recount();
  }

  /** A copy of the page, with the timer's current count in it. */
  registerImage(): Uint32Array {
    const image = this.#registers.slice();
    image[APIC.TIMER_CURRENT >> 2] = this.#timer.currentCount();
    return image;
  }

  /** Takes over a register page; the timer goes on from the current count found in it. */
  loadRegisters(image: Uint32Array): void {
    this.#registers.set(image);
    const count = this.register(APIC.TIMER_CURRENT);
    this.#registers[APIC.TIMER_CURRENT >> 2] = 0;
    this.#timer.resumeFrom(Math.min(count, this.register(APIC.TIMER_INITIAL)));
    this.#recount();
  }

  /** Reads the register page (xAPIC mode). */
  mmioRead(offset: number, size: number): number {
    if (this.mode !== 'xapic') return allOnes(size);
    const aligned = offset & 0xff0;
    const place = offset & 0xf;
    if (place + size > 4) return 0;
    if (!isReadable(aligned, this.#features)) {
      // The EOI register is there, only not to be read.
      if (aligned !== APIC.EOI) this.#local.error(ESR_ILLEGAL_REGISTER);
      return 0;
    }
    const value = this.#read(aligned) >>> (8 * place);
    return (value & allOnes(size)) >>> 0;
  }

  /** Writes the register page (xAPIC mode). Only aligned 32-bit writes are defined; others are ignored. */
  mmioWrite(offset: number, size: number, value: number | bigint): void {
    if (this.mode !== 'xapic' || size !== 4 || offset & 0xf) return;
    const writable = offset === APIC.SELF_IPI ? undefined : writableBits(offset, this.#features);
    if (writable !== undefined) this.#write(offset, (Number(value) & writable) >>> 0);
    else if (!isReadable(offset, this.#features)) this.#local.error(ESR_ILLEGAL_REGISTER);
  }

  /** Reads MSR 800h to 8FFh; undefined means #GP. */
  readMsr(index: number): bigint | undefined {
    const offset = (index - 0x800) << 4;
    if (!this.#inX2apic(offset) || !isReadable(offset, this.#features)) return undefined;
    if (offset === APIC.ICR) {
      return (BigInt(this.register(APIC.ICR_HIGH)) << 32n) | BigInt(this.register(APIC.ICR));
    }
    return BigInt(this.#read(offset));
  }

  /** Writes MSR 800h to 8FFh; false means #GP and nothing changed. */
  writeMsr(index: number, value: bigint): boolean {
    const offset = (index - 0x800) << 4;
    const writable = writableBits(offset, this.#features);
    if (!this.#inX2apic(offset) || writable === undefined) return false;
    if (offset === APIC.ID || offset === APIC.LDR) return false;
    const low = Number(value & 0xffff_ffffn);
    const high = Number(value >> 32n);
    if (high !== 0 && offset !== APIC.ICR) return false;
    if ((low & ~(writable | statusBits(offset))) !== 0) return false;
    // all checks passed
    if (offset === APIC.ICR) {
      this.#registers[APIC.ICR_HIGH >> 2] = high;
      // Where hardware that reads the page for x2APIC software expects the upper half.
      this.#registers[(APIC.ICR + 4) >> 2] = high;
    }
    this.#write(offset, (low & writable) >>> 0);
    return true;
  }

  /** Whether RDMSR of 800h to 8FFh can read a register in x2APIC mode. */
  isMsrReadable(index: number): boolean {
    const offset = (index - 0x800) << 4;
    return offset < 0x400 && !NOT_IN_X2APIC.includes(offset) && isReadable(offset, this.#features);
  }

  #inX2apic(offset: number): boolean {
    return this.mode === 'x2apic' && offset < 0x400 && !NOT_IN_X2APIC.includes(offset);
  }

  #read(offset: number): number {
    if (offset === APIC.TIMER_CURRENT) return this.#timer.currentCount();
    return this.register(offset);
  }

  /** Writes a register; `value` holds no bits that cannot be set. */
  #write(offset: number, value: number): void {
    switch (offset) {
      case APIC.TPR:
        this.setTpr(value);
        break;
      case APIC.EOI:
        this.eoi();
        break;
      case APIC.DFR:
        this.#registers[offset >> 2] = value | 0x0fff_ffff;
        break;
      case APIC.SVR:
        this.#writeSvr(value);
        break;
      case APIC.ESR:
        this.#registers[offset >> 2] = this.state.pendingErrors;
        this.state.pendingErrors = 0;
        break;
      case APIC.ICR:
        this.#registers[offset >> 2] = value;
        this.#send(value);
        break;
      case APIC.SELF_IPI:
        this.#send(value | (Shorthand.self << 18));
        break;
      case APIC.TIMER_INITIAL:
        this.#timer.writeInitialCount(value);
        break;
      case APIC.TIMER_DIVIDE:
        this.#timer.writeDivide(value);
        break;
      default:
        if (LVT_OFFSETS.includes(offset)) this.#writeLvt(offset, value);
        else this.#registers[offset >> 2] = value;
    }
  }

  #writeSvr(value: number): void {
    this.#registers[APIC.SVR >> 2] = value;
    if (value & SVR_ENABLED) return;
    // Switched off by software: every local vector table entry is masked.
    for (const offset of LVT_OFFSETS) {
      if (writableBits(offset, this.#features) !== undefined) {
        this.#writeLvt(offset, this.register(offset));
      }
    }
  }

  #writeLvt(offset: number, value: number): void {
    const entry = this.softwareEnabled ? value : value | LVT_MASKED;
    if (offset === APIC.LVT_TIMER) this.#timer.writeLvt(entry);
    else this.#local.writeEntry(offset, entry);
  }

  /** Sends what the interrupt command register says. */
  #send(icr: number): void {
    const high = this.register(APIC.ICR_HIGH);
    const message: InterruptMessage = icrToMessage(icr, high, this.mode === 'x2apic');
    if (message.deliveryMode <= DeliveryMode.lowestPriority && message.vector < 16) {
      this.#local.error(ESR_SEND_ILLEGAL_VECTOR);
      return;
    }
    this.#owner.sendIpi(message, (icr >> 18) & 3);
  }
}
