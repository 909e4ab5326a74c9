/**
 * One logical processor: its architectural state.
 *
 * GPRs, RIP, flags, x87/SSE registers and segment bases live in a state block in the machine's WebAssembly memory, where
 * generated code works on them; what only TypeScript needs is in plain fields. Behaviour lives in functions over a
 * Processor: mmu/ (paging, TLBs), processor/ (events, segments, system instructions), vtx/ (VMX), engine/ (execution).
 */

import type { Hpa } from '../util/address.ts';
import type { ProcessorApic } from './apic/processor-apic.ts';
import { CODE_MODE, type CodeMode } from './engine/code-mode.ts';
import {
  CODE_MASK,
  CS,
  CS_DESCRIPTOR,
  DIRECTION,
  DS,
  ES,
  FLAGS_REST,
  FPR,
  FS,
  GDT_BASE,
  GDT_LIMIT,
  GPR,
  GS,
  IDT_BASE,
  IDT_LIMIT,
  KEEPS_SEGMENTS,
  NMI_BLOCKED,
  PAGE_RIP,
  RIP,
  SAVED_STATES,
  SEG_BASE,
  SEG_LOW,
  SEG_READ_SPAN,
  SEG_SELECTOR,
  SEG_WRITE_SPAN,
  SEGMENT_SIZE,
  SEGMENTS,
  SS,
  SS_DESCRIPTOR,
  STACK_MASK,
  STATE,
  STATE_SIZE,
  TSC_AUX,
  TSS_BASE,
  TSS_LIMIT,
  XMM,
  YMM_HIGH,
} from './engine/layout.ts';
import type { Machine } from './machine.ts';
import type { Mmu } from './mmu/state.ts';
import { FAULT, type Outcome } from './outcome.ts';
import type { Event } from './processor/events/event.ts';
import type { Vtx } from './vtx/vtx.ts';

/**
 * A segment register with its hidden part; attributes in the VMCS access-rights format:
 *
 *   3:0 type  4 S  6:5 DPL  7 P  12 AVL  13 L  14 D/B  15 G  16 unusable
 */
export interface Segment {
  selector: number;
  base: bigint;
  /** In bytes, expanded by G. */
  limit: number;
  attributes: number;
}

export interface DescriptorTable {
  base: bigint;
  limit: number;
}

/** VMCS activity states. */
export const ACTIVE = 0;
export const HLT = 1;
export const SHUTDOWN = 2;
export const WAIT_SIPI = 3;
/** Waiting by MWAIT (system/monitor.ts); a VMCS shows it as active. */
export const MWAITING = 4;

/** Interrupt shadow bits, as in the VMCS interruptibility state. */
export const BLOCKED_BY_STI = 1;
export const BLOCKED_BY_MOV_SS = 2;

export const AR_UNUSABLE = 0x10000;
export const AR_P = 0x80;
export const AR_S = 0x10;
export const AR_L = 0x2000;
export const AR_DB = 0x4000;
export const AR_G = 0x8000;
export const dplOf = (attributes: number): number => (attributes >> 5) & 3;

export const CR0_PE = 1,
  CR0_MP = 2,
  CR0_EM = 4,
  CR0_TS = 8,
  CR0_ET = 16,
  CR0_NE = 32;
export const CR0_WP = 0x10000,
  CR0_AM = 0x40000,
  CR0_NW = 0x20000000,
  CR0_CD = 0x40000000,
  CR0_PG = 0x80000000;
export const CR4_VME = 1,
  CR4_PVI = 2,
  CR4_TSD = 4,
  CR4_DE = 8,
  CR4_PSE = 0x10,
  CR4_PAE = 0x20,
  CR4_MCE = 0x40,
  CR4_PGE = 0x80,
  CR4_PCE = 0x100;
export const CR4_OSFXSR = 0x200,
  CR4_OSXMMEXCPT = 0x400,
  CR4_UMIP = 0x800,
  CR4_LA57 = 0x1000,
  CR4_VMXE = 0x2000,
  CR4_SMXE = 0x4000;
export const CR4_FSGSBASE = 0x10000,
  CR4_PCIDE = 0x20000,
  CR4_OSXSAVE = 0x40000,
  CR4_SMEP = 0x100000,
  CR4_SMAP = 0x200000,
  CR4_PKE = 0x400000;
export const EFER_SCE = 1,
  EFER_LME = 0x100,
  EFER_LMA = 0x400,
  EFER_NXE = 0x800;
export const FLAG_CF = 1,
  FLAG_PF = 4,
  FLAG_AF = 0x10,
  FLAG_ZF = 0x40,
  FLAG_SF = 0x80,
  FLAG_TF = 0x100,
  FLAG_IF = 0x200,
  FLAG_DF = 0x400,
  FLAG_OF = 0x800;
export const FLAG_IOPL = 0x3000,
  FLAG_NT = 0x4000,
  FLAG_RF = 0x10000,
  FLAG_VM = 0x20000,
  FLAG_AC = 0x40000,
  FLAG_VIF = 0x80000,
  FLAG_VIP = 0x100000,
  FLAG_ID = 0x200000;
export const STATUS_FLAGS: number = FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF;

const segment = (): Segment => ({ selector: 0, base: 0n, limit: 0xffff, attributes: 0x93 });

/**
 * FS and GS have their bases in the state block, where generated code changes them. perf: accessors of a class; those of
 * single objects make dictionaries of them, and each VM exit and entry uses them.
 */
class BasedSegment implements Segment {
  selector = 0;
  limit = 0xffff;
  attributes = 0x93;
  readonly #p: Processor;
  readonly #address: number;

  constructor(p: Processor, n: number) {
    this.#p = p;
    this.#address = SEGMENTS + n * SEGMENT_SIZE + SEG_BASE;
  }

  get base(): bigint {
    return this.#p.read64(this.#address);
  }
  set base(value: bigint) {
    this.#p.write64(this.#address, value);
  }
}

/** A register of base and limit in the state block, where generated code looks them up. */
class BlockTable implements DescriptorTable {
  readonly #p: Processor;
  readonly #base: number;
  readonly #limit: number;

  constructor(p: Processor, base: number, limit: number) {
    this.#p = p;
    this.#base = base;
    this.#limit = limit;
  }

  get base(): bigint {
    return this.#p.read64(this.#base);
  }
  set base(value: bigint) {
    this.#p.write64(this.#base, value);
  }
  get limit(): number {
    return this.#p.read32(this.#limit);
  }
  set limit(value: number) {
    this.#p.write32(this.#limit, value);
  }
}

/** The task register is one too. */
class TaskRegister extends BlockTable implements Segment {
  selector = 0;
  attributes = 0x8b;
}

/** The values alone: registers in the state block have none of their own. */
export const plainSegment = ({ selector, base, limit, attributes }: Segment): Segment => ({
  selector,
  base,
  limit,
  attributes,
});
export const plainTable = ({ base, limit }: DescriptorTable): DescriptorTable => ({ base, limit });

const HIGH = 0x1_0000_0000;
/** More than the bytes of an access, less one. */
const WRAPS = 64;

/** Writes -1 or a whole number below 2^53 as i64. */
function writeSpan(view: DataView, at: number, value: number): void {
  view.setUint32(at, value, true);
  view.setInt32(at + 4, value < 0 ? -1 : Math.floor(value / HIGH), true);
}

/** An exception on its way to delivery. */
export interface PendingFault {
  vector: number;
  /** NO_ERROR if the vector pushes none. */
  errorCode: number;
  /** Linear address for #PF (goes to CR2 when delivered, to the exit qualification when intercepted). */
  address: bigint;
  /** For #DB: the DR6 bits (also the exit qualification). */
  debug: number;
}

export class Processor {
  readonly machine: Machine;
  /** All of the machine's memory, the state block in it. */
  readonly #view: DataView;
  /** Position in machine.processors, which is also the initial APIC id. */
  readonly index: number;
  /** Where the state block is now: STATE while this processor is the running one, else `home`. */
  block: number;
  readonly home: number;

  // ---- units, put in place by the machine
  mmu!: Mmu;
  vtx!: Vtx;
  apic!: ProcessorApic;

  // ---- control registers and other state that only TypeScript reads
  /** Unsigned 32 bits. */
  cr0: number = 0x60000010;
  cr2 = 0n;
  cr3 = 0n;
  /** Unsigned 32 bits. */
  cr4 = 0;
  efer = 0;
  xcr0 = 1n;
  xss = 0n;
  pkru = 0;
  readonly dr: bigint[] = [0n, 0n, 0n, 0n];
  dr6 = 0xffff0ff0;
  dr7 = 0x400;
  /** Current privilege level; equals SS.DPL except in real and virtual-8086 mode. */
  cpl = 0;
  /** ES CS SS DS FS GS. After a change call syncSegment(). */
  readonly segments: Segment[] = [segment(), segment(), segment(), segment()];
  readonly ldtr: Segment = { selector: 0, base: 0n, limit: 0xffff, attributes: 0x82 };
  readonly tr: Segment = new TaskRegister(this, TSS_BASE, TSS_LIMIT);
  readonly gdtr: DescriptorTable = new BlockTable(this, GDT_BASE, GDT_LIMIT);
  readonly idtr: DescriptorTable = new BlockTable(this, IDT_BASE, IDT_LIMIT);
  /** PDPTE registers of PAE paging, as loaded. */
  readonly pdpte: bigint[] = [0n, 0n, 0n, 0n];
  /** MSRs without a home of their own, by index. */
  readonly msrs: Map<number, bigint> = new Map();

  // ---- instruction boundary state
  activity: number = ACTIVE;
  /** BLOCKED_BY_STI | BLOCKED_BY_MOV_SS for the next instruction. */
  interruptShadow = 0;
  nmiPending = false;
  initPending = false;
  /** Vector of a SIPI that waits to be taken, or -1. */
  sipiPending = -1;
  /** #DB bits (DR6 layout) that are pending at the next boundary. */
  pendingDebug = 0;
  /** Something may be deliverable at the next boundary; the run loop polls events when set. Setting it too often is harmless. */
  eventsPending = false;
  /** What MONITOR armed: the line's physical address and its bytes at that time. */
  monitor: { readonly address: Hpa; readonly line: Uint8Array } | null = null;
  /** Interrupts end MWAIT even while IF is 0. */
  mwaitBreaks = false;
  /** Details of the last FAULT. */
  readonly fault: PendingFault = { vector: 0, errorCode: -1, address: 0n, debug: 0 };
  /** What the last memory access that gave `undefined` came to: FAULT or VMEXIT. */
  outcome: Outcome = FAULT;
  /** The event that is being delivered through the IDT: VM exits report it as IDT-vectoring information. */
  delivering: Event | null = null;
  /** Added to machine time, gives the TSC. */
  tscOffset = 0n;

  constructor(machine: Machine, index: number) {
    this.machine = machine;
    this.#view = machine.memory.view;
    this.index = index;
    this.home = SAVED_STATES + index * STATE_SIZE;
    this.block = this.home;
    this.segments.push(new BasedSegment(this, FS), new BasedSegment(this, GS));
  }

  #at(address: number): number {
    return this.block + address - STATE;
  }

  /** Records an exception and returns FAULT, so that handlers can `return p.raise(GP, 0)`. */
  raise(vector: number, errorCode = -1, address = 0n): typeof FAULT {
    const { fault } = this;
    fault.vector = vector;
    fault.errorCode = errorCode;
    fault.address = address;
    fault.debug = 0;
    this.outcome = FAULT;
    return FAULT;
  }

  // ---- general registers

  /** Zero-extended 64-bit value. */
  gpr(n: number): bigint {
    return this.#view.getBigUint64(this.#at(GPR) + n * 8, true);
  }
  setGpr(n: number, value: bigint): void {
    this.#view.setBigUint64(this.#at(GPR) + n * 8, value, true);
  }
  /** Low 32 bits, unsigned. */
  gpr32(n: number): number {
    return this.#view.getUint32(this.#at(GPR) + n * 8, true);
  }
  /** Writes the low 32 bits and clears the upper half. */
  setGpr32(n: number, value: number): void {
    this.#view.setUint32(this.#at(GPR) + n * 8, value, true);
    this.#view.setUint32(this.#at(GPR) + n * 8 + 4, 0, true);
  }
  get rip(): bigint {
    return this.#view.getBigUint64(this.#at(RIP), true);
  }
  set rip(value: bigint) {
    this.#view.setBigUint64(this.#at(RIP), value, true);
  }

  /** All of RFLAGS, status flags computed. */
  get rflags(): number {
    return (
      ((this.#view.getInt32(this.#at(FLAGS_REST), true) & ~STATUS_FLAGS) |
        this.machine.engine.statusFlags(this.block)) >>>
      0
    );
  }
  set rflags(value: number) {
    this.machine.engine.setStatusFlags(this.block, value & STATUS_FLAGS);
    this.flagsRest = value;
  }
  /** RFLAGS without status flags: cheap to read. */
  get flagsRest(): number {
    return this.#view.getInt32(this.#at(FLAGS_REST), true);
  }
  set flagsRest(value: number) {
    this.#view.setInt32(this.#at(FLAGS_REST), (value & 0x3f7fd7 & ~STATUS_FLAGS) | 2, true);
    this.#view.setBigInt64(this.#at(DIRECTION), value & FLAG_DF ? -1n : 1n, true);
  }

  get tscAux(): number {
    return this.#view.getUint32(this.#at(TSC_AUX), true);
  }
  set tscAux(value: number) {
    this.#view.setUint32(this.#at(TSC_AUX), value, true);
  }

  get nmiBlocked(): boolean {
    return this.read8(NMI_BLOCKED) !== 0;
  }
  set nmiBlocked(value: boolean) {
    this.write8(NMI_BLOCKED, value ? 1 : 0);
  }

  // ---- modes

  get protectedMode(): boolean {
    return (this.cr0 & CR0_PE) !== 0;
  }
  get v86(): boolean {
    return (this.flagsRest & FLAG_VM) !== 0;
  }
  /** IA-32e mode (EFER.LMA). */
  get longMode(): boolean {
    return (this.efer & EFER_LMA) !== 0;
  }
  /** 64-bit mode: LMA and CS.L. */
  get mode64(): boolean {
    return (this.efer & EFER_LMA) !== 0 && (this.segments[CS]!.attributes & AR_L) !== 0;
  }
  /** 16, 32 or 64: the default code size. */
  get codeSize(): 16 | 32 | 64 {
    return this.mode64 ? 64 : this.segments[CS]!.attributes & AR_DB ? 32 : 16;
  }

  /** Bit n: segment n (ES to DS) is one of 4 GiB at 0, and data may be read and written freely; SS has 32-bit offsets. */
  #flat = 0;

  /** What decoded code depends on, as the segments were last published. */
  get codeMode(): CodeMode {
    if (this.mode64) return CODE_MODE.code64;
    if ((this.segments[CS]!.attributes & AR_DB) === 0) return CODE_MODE.code16;
    if (this.#flat === 0b1111) return CODE_MODE.flat32;
    return this.#flat & (1 << CS) ? CODE_MODE.flatCode32 : CODE_MODE.code32;
  }

  // ---- blocks that generated code reads

  /** Publishes a segment register to the state block: base and legal offsets. Also the stack mask for SS and CS. */
  syncSegment(n: number): void {
    const { selector, base, limit, attributes } = this.segments[n]!;
    const at = this.#at(SEGMENTS) + n * SEGMENT_SIZE;
    const view = this.#view;
    const long = this.mode64;
    if (n < FS) view.setBigUint64(at + SEG_BASE, long ? 0n : base, true);
    const protectedSegment = this.protectedMode && !this.v86;
    const unusable = (attributes & (AR_UNUSABLE | AR_P)) !== AR_P;
    const type = attributes & 15;
    const code = (type & 8) !== 0;
    const expandDown = protectedSegment && (type & 0xc) === 4;
    const top = attributes & AR_DB ? 0xffff_ffff : 0xffff;
    const low = expandDown ? (limit + 1) >>> 0 : 0;
    // An access that leaves a segment of 4 GiB at its top wraps; whether that faults is the processor's choice.
    const whole = limit === 0xffff_ffff ? limit + WRAPS : limit;
    const span = unusable ? -1 : expandDown ? (limit >= top ? -1 : top - low) : whole;
    view.setUint32(at + SEG_LOW, low, true);
    view.setUint16(at + SEG_SELECTOR, selector, true);
    const readable = !protectedSegment || !code || (type & 2) !== 0;
    const writable = !protectedSegment || (!code && (type & 2) !== 0);
    writeSpan(view, at + SEG_READ_SPAN, readable ? span : -1);
    writeSpan(view, at + SEG_WRITE_SPAN, writable ? span : -1);
    if (n < FS) {
      const usable = n === CS || (readable && writable && (n !== SS || (attributes & AR_DB) !== 0));
      const flat = base === 0n && usable && low === 0 && span === 0xffff_ffff + WRAPS;
      this.#flat = flat ? this.#flat | (1 << n) : this.#flat & ~(1 << n);
    }
    if (n !== CS && n !== SS) return this.#syncKept();
    view.setBigUint64(this.#at(n === CS ? CS_DESCRIPTOR : SS_DESCRIPTOR), 0n, true);
    writeSpan(view, this.#at(CODE_MASK), long ? -1 : 0xffff_ffff);
    const { attributes: ss } = this.segments[SS]!;
    writeSpan(view, this.#at(STACK_MASK), long ? -1 : ss & AR_DB ? 0xffff_ffff : 0xffff);
  }
  syncSegments(): void {
    for (let n = 0; n < 6; n++) this.syncSegment(n);
  }

  /** Whether a return to level 3 leaves the data segments alone. */
  #syncKept(): void {
    let keeps = 1;
    for (const n of [ES, DS, FS, GS]) {
      const { attributes } = this.segments[n]!;
      if (!(attributes & AR_UNUSABLE) && dplOf(attributes) !== 3) keeps = 0;
    }
    this.write32(KEEPS_SEGMENTS, keeps);
  }

  /** Makes PAGE_RIP and decode lookups start afresh at RIP; call after anything that changes RIP or the code mode. */
  setPageRip(value: bigint): void {
    this.#view.setBigUint64(this.#at(PAGE_RIP), value, true);
  }

  // ---- vector and x87 registers as bytes

  /** 16 bytes, a live view. */
  xmm(n: number): Uint8Array {
    return new Uint8Array(this.#view.buffer, this.#at(XMM) + n * 16, 16);
  }
  /** Bits 255:128 of YMMn, a live view. */
  ymmHigh(n: number): Uint8Array {
    return new Uint8Array(this.#view.buffer, this.#at(YMM_HIGH) + n * 16, 16);
  }
  /** Physical register Rn, 10 bytes, a live view. */
  fpr(n: number): Uint8Array {
    return new Uint8Array(this.#view.buffer, this.#at(FPR) + n * 16, 10);
  }
  read8(address: number): number {
    return this.#view.getUint8(this.#at(address));
  }
  write8(address: number, value: number): void {
    this.#view.setUint8(this.#at(address), value);
  }
  read16(address: number): number {
    return this.#view.getUint16(this.#at(address), true);
  }
  write16(address: number, value: number): void {
    this.#view.setUint16(this.#at(address), value, true);
  }
  /** A 32-bit word of the state block by its layout address (unsigned). */
  read32(address: number): number {
    return this.#view.getUint32(this.#at(address), true);
  }
  write32(address: number, value: number): void {
    this.#view.setUint32(this.#at(address), value, true);
  }
  read64(address: number): bigint {
    return this.#view.getBigUint64(this.#at(address), true);
  }
  write64(address: number, value: bigint): void {
    this.#view.setBigUint64(this.#at(address), value, true);
  }
  /** All 4 KiB of the state block, a live view (for hashing and saving). */
  stateBlock(): Uint8Array {
    return new Uint8Array(this.#view.buffer, this.block, STATE_SIZE);
  }
}
