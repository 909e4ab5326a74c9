/**
 * A machine for tests of single rules: descriptor tables, stacks and a TSS at fixed places, and any mode at once.
 *
 *   0x0000 IVT   0x1000 GDT   0x2000 IDT   0x3000 TSS   0x4000 LDT   0x8000 code   0x9000 data
 *   0x10000 level-0 stack top   0x14000 level-3 stack top   0x18000 IST1 top   0x20000 page tables (identity, 16 MiB)
 */
import '../../handlers.ts';
import { CS, EXIT, RSP, SS } from '../../engine/layout.ts';
import { decode } from '../../isa/decode.ts';
import { handlerOf } from '../../isa/handlers.ts';
import type { Insn } from '../../isa/insn.ts';
import { Machine } from '../../machine.ts';
import { handleMiss } from '../../mmu/miss.ts';
import { DONE, FAULT, JUMPED, type Outcome } from '../../outcome.ts';
import {
  CR0_PE,
  CR0_PG,
  CR4_PAE,
  EFER_LMA,
  EFER_LME,
  EFER_SCE,
  type Processor,
  plainSegment,
  plainTable,
  type Segment,
} from '../../processor.ts';
import { setCpl } from '../rip.ts';
import { limitOf } from '../segments/descriptor.ts';

export const GDT = 0x1000;
export const IDT = 0x2000;
export const TSS = 0x3000;
export const LDT = 0x4000;
export const CODE = 0x8000;
export const DATA = 0x9000;
export const STACK0 = 0x10000;
export const STACK3 = 0x14000;
export const IST1 = 0x18000;
const TABLES = 0x20000;

/** Selectors of the GDT that every lab has. */
export const SEL = {
  code32: 0x08,
  data: 0x10,
  code32User: 0x1b,
  dataUser: 0x23,
  code64: 0x28,
  code64User: 0x33,
  tss: 0x38,
  /** First of sixteen entries that a test may fill. */
  free: 0x80,
} as const;

export interface DescriptorFields {
  base?: number;
  /** In bytes; above 1 MiB it is given in pages. */
  limit?: number;
  /** Type and S: 0x1b is readable accessed code, 0x13 writable accessed data, 0x0b a busy TSS. */
  type: number;
  dpl?: number;
  present?: boolean;
  long?: boolean;
  big?: boolean;
}

/** The eight bytes of a segment descriptor. */
export function descriptor(fields: DescriptorFields): bigint {
  const { base = 0, limit = 0xffff_ffff, type, dpl = 0, present = true, long = false, big = !long } = fields;
  const pages = limit > 0xf_ffff;
  const raw = pages ? limit >>> 12 : limit;
  const low = ((base & 0xffff) << 16) | (raw & 0xffff);
  const flags = type | (dpl << 5) | (present ? 0x80 : 0) | (((raw >> 16) & 15) << 8);
  const sizes = ((long ? 2 : 0) | (big ? 4 : 0) | (pages ? 8 : 0)) << 12;
  const high = (base & 0xff00_0000) | ((flags | sizes) << 8) | ((base >> 16) & 0xff);
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}

export interface GateFields {
  selector: number;
  offset: bigint;
  /** 14 interrupt gate, 15 trap gate, 12 call gate; 6, 7, 4 their 16-bit forms. */
  type: number;
  dpl?: number;
  present?: boolean;
  /** IST index, or parameter count of a call gate. */
  ist?: number;
}

/** Low and high eight bytes of a gate; the high ones count in IA-32e mode. */
export function gate({ selector, offset, type, dpl = 0, present = true, ist = 0 }: GateFields): [bigint, bigint] {
  const access = BigInt(type | (dpl << 5) | (present ? 0x80 : 0));
  const low =
    (offset & 0xffffn) |
    (BigInt(selector) << 16n) |
    (BigInt(ist) << 32n) |
    (access << 40n) |
    (((offset >> 16n) & 0xffffn) << 48n);
  return [low, offset >> 32n];
}

export type LabMode = 'real' | 'protected' | 'compat' | 'long';

/** What an instruction came to. `vector` and `errorCode` are those of a fault. */
export interface Result {
  readonly outcome: Outcome;
  readonly vector: number;
  readonly errorCode: number;
}

export class Lab {
  readonly p: Processor;
  readonly machine: Machine;
  readonly mode: LabMode;

  constructor(mode: LabMode, cpl: 0 | 3 = 0) {
    this.mode = mode;
    this.machine = new Machine({ processors: 1, ramSize: 16 << 20, profile: 'pc' });
    this.p = this.machine.processors[0]!;
    this.machine.activate(this.p);
    this.#tables();
    this.#enter(cpl);
  }

  get #memory() {
    return this.machine.memory;
  }

  /** Puts a descriptor into the GDT. */
  gdt(selector: number, fields: DescriptorFields | bigint): void {
    this.#memory.write64(GDT + (selector & 0xfff8), typeof fields === 'bigint' ? fields : descriptor(fields));
  }

  /** Puts a gate into the IDT, of the size that the mode has. */
  idt(vector: number, fields: GateFields): void {
    const [low, high] = gate(fields);
    const long = this.p.longMode;
    this.#memory.write64(IDT + vector * (long ? 16 : 8), low);
    if (long) this.#memory.write64(IDT + vector * 16 + 8, high);
  }

  #tables(): void {
    this.gdt(0, 0n);
    this.gdt(SEL.code32, { type: 0x1b });
    this.gdt(SEL.data, { type: 0x13 });
    this.gdt(SEL.code32User, { type: 0x1b, dpl: 3 });
    this.gdt(SEL.dataUser, { type: 0x13, dpl: 3 });
    this.gdt(SEL.code64, { type: 0x1b, long: true });
    this.gdt(SEL.code64User, { type: 0x1b, dpl: 3, long: true });
    this.gdt(SEL.tss, { type: 0x0b, base: TSS, limit: 0x67, big: false });
    this.gdt(SEL.tss + 8, 0n);
    for (let i = 0; i < 8; i++) {
      const page = BigInt(TABLES + 0x2000 + i * 8);
      this.#memory.write64(Number(page), BigInt(i << 21) | 0xe7n);
    }
    this.#memory.write64(TABLES, BigInt(TABLES + 0x1000) | 7n);
    this.#memory.write64(TABLES + 0x1000, BigInt(TABLES + 0x2000) | 7n);
  }

  #enter(cpl: 0 | 3): void {
    const { p, mode } = this;
    const protectedMode = mode !== 'real';
    const long = mode === 'long' || mode === 'compat';
    p.cr0 = (0x10 | (protectedMode ? CR0_PE : 0) | (long ? CR0_PG : 0)) >>> 0;
    p.cr4 = long ? CR4_PAE : 0;
    p.efer = EFER_SCE | (long ? EFER_LME | EFER_LMA : 0);
    p.cr3 = BigInt(TABLES);
    p.gdtr.base = BigInt(GDT);
    p.gdtr.limit = 0xff;
    p.idtr.base = protectedMode ? BigInt(IDT) : 0n;
    p.idtr.limit = 0xfff;
    Object.assign(p.tr, { selector: SEL.tss, base: BigInt(TSS), limit: 0x67, attributes: 0x8b });
    const code = mode === 'long' ? SEL.code64 : SEL.code32;
    if (protectedMode) {
      this.#load(CS, cpl === 3 ? code + 0x10 + (mode === 'long' ? -8 : 0) : code, cpl);
      for (const n of [0, SS, 3, 4, 5]) this.#load(n, cpl === 3 ? SEL.dataUser : SEL.data, cpl);
      if (cpl === 3) this.#load(CS, mode === 'long' ? SEL.code64User : SEL.code32User, cpl);
    } else {
      p.segments[CS]!.attributes = 0x93;
      p.segments[CS]!.base = 0n;
    }
    this.tss();
    p.rip = BigInt(CODE);
    p.rflags = 2;
    p.setGpr(RSP, BigInt(cpl === 3 ? STACK3 : mode === 'real' ? 0xf000 : STACK0));
    p.syncSegments();
    setCpl(p, cpl);
    p.cpl = 4;
    setCpl(p, cpl);
  }

  /** The level-0 stack and IST1 in the TSS, in the form that the mode has. */
  tss(rsp0: bigint = BigInt(STACK0), ss0: number = SEL.data): void {
    if (this.p.longMode) {
      this.#memory.write64(TSS + 4, rsp0);
      this.#memory.write64(TSS + 0x24, BigInt(IST1));
    } else {
      this.#memory.write32(TSS + 4, Number(rsp0));
      this.#memory.write16(TSS + 8, ss0);
    }
  }

  #load(n: number, selector: number, cpl: number): void {
    const raw = this.#memory.read64(GDT + (selector & 0xfff8));
    const segment: Segment = {
      selector: (selector & 0xfffc) | cpl,
      base: 0n,
      limit: limitOf(raw),
      attributes: Number((raw >> 40n) & 0xf0ffn),
    };
    Object.assign(this.p.segments[n]!, segment);
  }

  /** Decodes an instruction of hexadecimal bytes as if it lay at RIP. */
  decode(hex: string): Insn {
    const bytes = Uint8Array.from(hex.split(' '), (byte) => Number.parseInt(byte, 16));
    this.#memory.writeBytes(CODE, bytes);
    const insn = decode(bytes, 0, bytes.length, this.p.codeSize);
    if (typeof insn === 'string') throw new Error(`${hex}: ${insn}`);
    return insn;
  }

  /** Runs the handler of an instruction, or its generated code. RIP moves if it is complete; faults stay undelivered. */
  run(hex: string): Result {
    const { p } = this;
    const insn = this.decode(hex);
    const handler = handlerOf(insn.row.operation.mnemonic);
    const outcome = handler === undefined ? this.#step(insn) : handler(p, insn);
    if (outcome === DONE) p.rip += BigInt(insn.length);
    const faulted = outcome === FAULT;
    return { outcome, vector: faulted ? p.fault.vector : -1, errorCode: faulted ? p.fault.errorCode : -1 };
  }

  #step(insn: Insn): Outcome {
    for (;;) {
      const reason = this.machine.engine.step(this.p, insn);
      if (reason === EXIT.stop) return JUMPED;
      if (reason !== EXIT.miss) throw new Error(`exit ${reason}`);
      const outcome = handleMiss(this.p);
      if (outcome !== DONE) return outcome;
    }
  }

  /** Pushes words of `size` bytes below RSP, first one first. */
  push(size: 2 | 4 | 8, ...values: (bigint | number)[]): void {
    let top = Number(this.p.gpr(RSP));
    for (const value of values) {
      top -= size;
      this.#memory.writeBytes(top, new Uint8Array(new BigUint64Array([BigInt(value)]).buffer, 0, size));
    }
    this.p.setGpr(RSP, BigInt(top));
  }

  /** Words of `size` bytes from RSP up. */
  stack(size: 2 | 4 | 8, count: number): bigint[] {
    const top = Number(this.p.gpr(RSP) & 0xffff_ffffn);
    const read = (at: number) =>
      size === 8 ? this.#memory.read64(at) : BigInt(size === 4 ? this.#memory.read32(at) : this.#memory.read16(at));
    return Array.from({ length: count }, (_, i) => read(top + i * size));
  }

  /** Everything that a faulting instruction must leave alone. */
  snapshot(): unknown {
    const { p } = this;
    return structuredClone({
      gprs: Array.from({ length: 16 }, (_, n) => p.gpr(n)),
      rip: p.rip,
      rflags: p.rflags,
      segments: p.segments.map(plainSegment),
      ldtr: p.ldtr,
      tr: plainSegment(p.tr),
      gdtr: plainTable(p.gdtr),
      idtr: plainTable(p.idtr),
      cpl: p.cpl,
      cr2: p.cr2,
      activity: p.activity,
      shadow: p.interruptShadow,
    });
  }
}
