/**
 * A local APIC: interrupt acceptance and priority, local vector table, timer, inter-processor interrupts, in xAPIC and x2APIC
 * mode. One model for the machine's processors and for KVM's virtual ones.
 *
 * The register page image (`state.registers`) is always up to date except for the timer's current count, which is computed.
 * Beside it the highest request, the highest vector in service and the highest deliverable vector are kept as fields,
 * because run loops ask for them at every boundary.
 *
 * Reference: Intel SDM volume 3, chapter "Advanced Programmable Interrupt Controller (APIC)".
 */
import { allOnes, type MmioDevice } from './bus.ts';
import type { Clock } from './clock.ts';
import { BROADCAST, DeliveryMode, type InterruptMessage, widenDestination } from './interrupt-message.ts';
import { ApicBase, type ApicMode } from './lapic-base.ts';
import {
  APIC,
  ESR_ILLEGAL_REGISTER,
  ESR_RECEIVE_ILLEGAL_VECTOR,
  ESR_SEND_ILLEGAL_VECTOR,
  highestVector,
  isReadable,
  type LapicFeatures,
  LVT_LEVEL,
  LVT_MASKED,
  LVT_OFFSETS,
  LVT_REMOTE_IRR,
  REGISTER_WORDS,
  SVR_ENABLED,
  SVR_SUPPRESS_EOI_BROADCAST,
  statusBits,
  vectorWord,
  writableBits,
} from './lapic-registers.ts';
import { LapicTimer, type LapicTimerState } from './lapic-timer.ts';

/** The processor around a local APIC, and its way to the others. */
export interface LocalApicOwner {
  /** The highest vector that can be delivered now has changed; −1 for none. */
  pendingChanged(vector: number): void;
  /** Software wrote the interrupt command register. `shorthand` is a value of `Shorthand`; with one, the destination is void. */
  sendIpi(message: InterruptMessage, shorthand: number): void;
  /** Software ended `vector`. `broadcast`: it was level-triggered and the I/O APICs are to hear of it. */
  endOfInterrupt(vector: number, broadcast: boolean): void;
  nmi(): void;
  smi(): void;
  init(): void;
  startup(vector: number): void;
  /** The external interrupt controller's request, as LINT0 or a message lets it through. */
  extInt(level: boolean): void;
  /** When (ns on the clock) the TSC reaches `tsc`: perhaps in the past, Infinity for never. */
  timeOfTsc(tsc: bigint): number;
}

/** What a local APIC is made with. The defaults are those of a present-day processor. */
export interface LocalApicOptions {
  /** Initial (x2)APIC ID. */
  readonly id: number;
  readonly clock: Clock;
  readonly owner: LocalApicOwner;
  /** Whether IA32_APIC_BASE says that this is the bootstrap processor. */
  readonly bootstrap: boolean;
  /** Width of physical addresses, 52 by default. */
  readonly physicalAddressBits?: number;
  readonly x2apic?: boolean;
  readonly tscDeadline?: boolean;
  readonly cmci?: boolean;
  readonly directedEoi?: boolean;
  /** x2APIC mode, once entered, cannot be left (IA32_XAPIC_DISABLE_STATUS). */
  readonly x2apicLocked?: boolean;
  /** Nanoseconds per cycle of the timer's input clock, 1 by default. */
  readonly busCycleNs?: number;
  /** Shortest timer period in ns, 0 by default. */
  readonly minPeriodNs?: number;
}

/** Everything a local APIC remembers. */
export interface LocalApicState {
  version: 1;
  /** IA32_APIC_BASE. */
  apicBase: bigint;
  /** The register page: 256 words, those of kvm_lapic_state. */
  registers: Uint32Array;
  /** Errors since the last write of the error status register. */
  pendingErrors: number;
  /** Levels of the LINT pins, one bit each. */
  lint: number;
  timer: LapicTimerState;
}

/** One local APIC. */
export class LocalApic implements MmioDevice {
  readonly state: LocalApicState;
  /** Highest vector that can be delivered now: requested, and of a higher class than the processor priority. −1 for none. */
  pendingVector = -1;
  /** Highest vector requested, −1 for none. */
  highestIrr = -1;
  /** Highest vector in service, −1 for none. */
  highestIsr = -1;

  readonly #owner: LocalApicOwner;
  readonly #features: LapicFeatures;
  readonly #base: ApicBase;
  readonly #id: number;
  readonly #registers: Uint32Array;
  readonly #timer: LapicTimer;
  #extInt = false;

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
    this.#registers = new Uint32Array(REGISTER_WORDS);
    this.#timer = new LapicTimer({
      clock: options.clock,
      registers: this.#registers,
      expired: () => this.raiseLocal(APIC.LVT_TIMER),
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
    this.#resetRegisters();
  }

  /** Power-on. */
  reset(): void {
    this.state.apicBase = this.#base.resetValue;
    this.#base.mode = 'xapic';
    this.initReset();
  }

  /** INIT: the registers as after power-on, but mode and identifier stay. */
  initReset(): void {
    const id = this.register(APIC.ID);
    this.#resetRegisters();
    if (this.mode === 'xapic') this.#registers[APIC.ID >> 2] = id;
    this.#refresh();
    this.#routeExtInt();
  }

  /** Takes over a saved state. */
  restore(state: LocalApicState): void {
    const { apicBase, pendingErrors, lint } = state;
    Object.assign(this.state, { apicBase, pendingErrors, lint });
    this.#base.mode = this.#base.modeOf(apicBase);
    this.#registers.set(state.registers);
    this.#timer.restore(state.timer);
    this.#recount();
    this.#routeExtInt();
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
    this.state.apicBase = value;
    this.#base.mode = mode;
    if (mode !== before) this.#enterMode(mode);
    return true;
  }

  #enterMode(mode: ApicMode): void {
    // An APIC that is switched off forgets what it was told.
    if (mode !== 'x2apic') this.#resetRegisters();
    else this.#setX2apicIdentity();
    this.#refresh();
    this.#routeExtInt();
  }

  /** In x2APIC mode the identifier is whole and the logical one follows from it. */
  #setX2apicIdentity(): void {
    const id = this.#id;
    this.#registers[APIC.ID >> 2] = id;
    this.#registers[APIC.LDR >> 2] = ((id >>> 4) << 16) | (1 << (id & 15));
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
    if (this.mode === 'x2apic') {
      this.#setX2apicIdentity();
    } else {
      registers[APIC.ID >> 2] = this.#id << 24;
      registers[APIC.DFR >> 2] = 0xffff_ffff;
    }
    this.state.pendingErrors = 0;
    this.highestIrr = -1;
    this.highestIsr = -1;
    this.#timer.reset();
  }

  // ------------------------------------------------------------------ acceptance

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
        return this.softwareEnabled && this.#acceptVector(vector, levelTriggered);
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
    if (vector < 16) {
      this.#error(ESR_RECEIVE_ILLEGAL_VECTOR);
      return false;
    }
    const registers = this.#registers;
    const bit = 1 << (vector & 31);
    const tmr = vectorWord(APIC.TMR, vector);
    const irr = vectorWord(APIC.IRR, vector);
    registers[tmr] = levelTriggered ? (registers[tmr] as number) | bit : (registers[tmr] as number) & ~bit;
    registers[irr] = (registers[irr] as number) | bit;
    if (vector > this.highestIrr) {
      this.highestIrr = vector;
      this.#refresh();
    }
    return true;
  }

  /**
   * The processor takes the highest deliverable interrupt: it goes from requested to in service. Returns its vector, or the
   * spurious vector if there is none.
   */
  acknowledge(): number {
    const vector = this.pendingVector;
    if (vector < 0) return this.register(APIC.SVR) & 0xff;
    const bit = 1 << (vector & 31);
    const irr = vectorWord(APIC.IRR, vector);
    const isr = vectorWord(APIC.ISR, vector);
    this.#registers[irr] = (this.#registers[irr] as number) & ~bit;
    this.#registers[isr] = (this.#registers[isr] as number) | bit;
    this.highestIrr = highestVector(this.#registers, APIC.IRR);
    this.highestIsr = vector;
    this.#refresh();
    return vector;
  }

  /** Ends the highest interrupt in service. */
  eoi(): void {
    const vector = this.highestIsr;
    if (vector < 0) return;
    const bit = 1 << (vector & 31);
    const isr = vectorWord(APIC.ISR, vector);
    this.#registers[isr] = (this.#registers[isr] as number) & ~bit;
    this.highestIsr = highestVector(this.#registers, APIC.ISR);
    this.#refresh();
    const level = ((this.#registers[vectorWord(APIC.TMR, vector)] as number) & bit) !== 0;
    if (level) this.#endLevelLint(vector);
    const suppressed = (this.register(APIC.SVR) & SVR_SUPPRESS_EOI_BROADCAST) !== 0;
    this.#owner.endOfInterrupt(vector, level && !suppressed);
  }

  /** Whether `vector` is requested. */
  hasIrr(vector: number): boolean {
    const word = this.#registers[vectorWord(APIC.IRR, vector)] as number;
    return (word & (1 << (vector & 31))) !== 0;
  }

  /** Whether `vector` is in service. */
  hasIsr(vector: number): boolean {
    const word = this.#registers[vectorWord(APIC.ISR, vector)] as number;
    return (word & (1 << (vector & 31))) !== 0;
  }

  /** Task priority, 0 to 255; CR8 is its upper half. */
  get tpr(): number {
    return this.register(APIC.TPR);
  }

  /** Sets the task priority, 0 to 255. */
  setTpr(value: number): void {
    if (this.register(APIC.TPR) === value) return;
    this.#registers[APIC.TPR >> 2] = value;
    this.#refresh();
  }

  /** Processor priority. */
  get ppr(): number {
    return this.register(APIC.PPR);
  }

  /** Recomputes the processor priority and what can be delivered under it. */
  #refresh(): void {
    const tpr = this.register(APIC.TPR);
    const isr = this.highestIsr < 0 ? 0 : this.highestIsr;
    const ppr = (tpr & 0xf0) >= (isr & 0xf0) ? tpr : isr & 0xf0;
    this.#registers[APIC.PPR >> 2] = ppr;
    const irr = this.highestIrr;
    const deliverable = irr >= 0 && (irr & 0xf0) > (ppr & 0xf0) && this.mode !== 'disabled';
    const pending = deliverable ? irr : -1;
    if (pending === this.pendingVector) return;
    this.pendingVector = pending;
    this.#owner.pendingChanged(pending);
  }

  /** Rebuilds everything that is derived from the register page. */
  #recount(): void {
    this.highestIrr = highestVector(this.#registers, APIC.IRR);
    this.highestIsr = highestVector(this.#registers, APIC.ISR);
    this.#refresh();
  }

  // ------------------------------------------------------------------ local interrupts

  /**
   * An event inside the processor: the local vector table entry at `offset` says what becomes of it. Returns whether it was
   * delivered.
   */
  raiseLocal(offset: number): boolean {
    const entry = this.register(offset);
    if (entry & LVT_MASKED || this.mode === 'disabled') return false;
    // A performance counter's interrupt masks itself.
    if (offset === APIC.LVT_PERFORMANCE) this.#registers[offset >> 2] = entry | LVT_MASKED;
    const vectorOnly = offset === APIC.LVT_TIMER || offset === APIC.LVT_ERROR;
    const mode = vectorOnly ? DeliveryMode.fixed : (entry >> 8) & 7;
    const known = [DeliveryMode.fixed, DeliveryMode.smi, DeliveryMode.nmi, DeliveryMode.init];
    return known.some((one) => one === mode) && this.accept(mode, entry & 0xff, false);
  }

  /** Puts a level on LINT0 or LINT1. Without an APIC these are the processor's INTR and NMI pins. */
  setLint(pin: 0 | 1, level: boolean): void {
    const bit = 1 << pin;
    const rising = level && !(this.state.lint & bit);
    this.state.lint = level ? this.state.lint | bit : this.state.lint & ~bit;
    if (pin === 0) this.#routeExtInt();
    if (this.mode === 'disabled') {
      if (pin === 1 && rising) this.#owner.nmi();
      return;
    }
    const offset = pin === 0 ? APIC.LVT_LINT0 : APIC.LVT_LINT1;
    if (pin === 0 && this.#levelLint(offset)) this.#serviceLevelLint();
    else if (rising) this.raiseLocal(offset);
  }

  /** Whether a request of the external interrupt controller reaches the processor. */
  acceptsExtInt(): boolean {
    if (this.mode === 'disabled') return true;
    const entry = this.register(APIC.LVT_LINT0);
    return !(entry & LVT_MASKED) && ((entry >> 8) & 7) === DeliveryMode.extInt;
  }

  #routeExtInt(): void {
    const level = (this.state.lint & 1) !== 0 && this.acceptsExtInt();
    if (level === this.#extInt) return;
    this.#extInt = level;
    this.#owner.extInt(level);
  }

  #levelLint(offset: number): boolean {
    const entry = this.register(offset);
    return (entry & LVT_LEVEL) !== 0 && ((entry >> 8) & 7) === DeliveryMode.fixed;
  }

  /** LINT0 as a level-triggered interrupt: asks while it is asserted and its last interrupt has ended. */
  #serviceLevelLint(): void {
    const entry = this.register(APIC.LVT_LINT0);
    if (!(this.state.lint & 1) || !this.#levelLint(APIC.LVT_LINT0)) return;
    if (entry & (LVT_MASKED | LVT_REMOTE_IRR)) return;
    if (this.accept(DeliveryMode.fixed, entry & 0xff, true)) {
      this.#registers[APIC.LVT_LINT0 >> 2] = entry | LVT_REMOTE_IRR;
    }
  }

  #endLevelLint(vector: number): void {
    const entry = this.register(APIC.LVT_LINT0);
    if (!(entry & LVT_REMOTE_IRR) || (entry & 0xff) !== vector) return;
    this.#registers[APIC.LVT_LINT0 >> 2] = entry & ~LVT_REMOTE_IRR;
    this.#serviceLevelLint();
  }

  /** Notes an error; the first since the error status was last written interrupts. */
  #error(bit: number): void {
    const first = this.state.pendingErrors === 0;
    this.state.pendingErrors |= bit;
    if (first) this.raiseLocal(APIC.LVT_ERROR);
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
    this.#routeExtInt();
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
    this.#routeExtInt();
  }

  /** Reads the register page (xAPIC mode). */
  mmioRead(offset: number, size: number): number {
    if (this.mode !== 'xapic') return allOnes(size);
    const aligned = offset & 0xff0;
    const place = offset & 0xf;
    if (place + size > 4) return 0;
    if (!isReadable(aligned, this.#features) && aligned !== APIC.EOI) {
      this.#error(ESR_ILLEGAL_REGISTER);
      return 0;
    }
    const value = this.#read(aligned) >>> (8 * place);
    return (value & allOnes(size)) >>> 0;
  }

  /** Writes the register page (xAPIC mode). Only aligned 32-bit writes are defined; others are ignored. */
  mmioWrite(offset: number, size: number, value: number | bigint): void {
    if (this.mode !== 'xapic' || size !== 4 || offset & 0xf) return;
    const writable = writableBits(offset, this.#features);
    if (offset === APIC.SELF_IPI || (writable === undefined && !isReadable(offset, this.#features))) {
      this.#error(ESR_ILLEGAL_REGISTER);
    } else if (writable !== undefined) {
      this.#write(offset, (Number(value) & writable) >>> 0);
    }
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
    if ((high !== 0 && offset !== APIC.ICR) || (low & ~(writable | statusBits(offset))) !== 0) {
      return false;
    }
    if (offset === APIC.ICR) this.#registers[APIC.ICR_HIGH >> 2] = high;
    this.#write(offset, (low & writable) >>> 0);
    return true;
  }

  /** Registers that x2APIC mode lacks. */
  #inX2apic(offset: number): boolean {
    const absent: readonly number[] = [APIC.APR, APIC.RRD, APIC.DFR, APIC.ICR_HIGH];
    return this.mode === 'x2apic' && offset < 0x400 && !absent.includes(offset);
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
        this.#sendSelf(value);
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
    const mask = this.softwareEnabled ? 0 : LVT_MASKED;
    if (offset === APIC.LVT_TIMER) {
      this.#timer.writeLvt(value | mask);
      return;
    }
    const level = (value & LVT_LEVEL) !== 0;
    const remoteIrr = level ? this.register(offset) & LVT_REMOTE_IRR : 0;
    this.#registers[offset >> 2] = value | mask | remoteIrr;
    if (offset === APIC.LVT_LINT0) {
      this.#routeExtInt();
      this.#serviceLevelLint();
    }
  }

  #send(icr: number): void {
    const deliveryMode = (icr >> 8) & 7;
    const high = this.register(APIC.ICR_HIGH);
    // Only an INIT can be a level, and only its de-assertion differs.
    const levelTriggered = deliveryMode === DeliveryMode.init && (icr & 0x8000) !== 0;
    this.#sendChecked(
      {
        destination: this.mode === 'x2apic' ? high : widenDestination(high >>> 24),
        logical: (icr & 0x800) !== 0,
        deliveryMode,
        vector: icr & 0xff,
        levelTriggered,
        asserted: !levelTriggered || (icr & 0x4000) !== 0,
      },
      (icr >> 18) & 3,
    );
  }

  #sendSelf(vector: number): void {
    const edge = { logical: false, levelTriggered: false, asserted: true };
    this.#sendChecked({ ...edge, destination: this.apicId, deliveryMode: DeliveryMode.fixed, vector }, 1);
  }

  #sendChecked(message: InterruptMessage, shorthand: number): void {
    if (message.deliveryMode <= DeliveryMode.lowestPriority && message.vector < 16) {
      this.#error(ESR_SEND_ILLEGAL_VECTOR);
      return;
    }
    this.#owner.sendIpi(message, shorthand);
  }
}
