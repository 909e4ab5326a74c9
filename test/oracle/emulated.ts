/** Runs oracle cases on the emulated machine: 64-bit mode at privilege level 3 with the native runner's memory map. */
import { FSW, FTAG, FTOP, MXCSR, RAM_BASE } from '../../src/machine/engine/layout.ts';
import { Machine, type MachineOptions } from '../../src/machine/machine.ts';
import { tlbContextChanged } from '../../src/machine/mmu/tlb.ts';
import { updateSlowFlags } from '../../src/machine/processor/slow-flags.ts';
import {
  CR0_MP,
  CR0_NE,
  CR0_PE,
  CR0_PG,
  CR0_WP,
  CR4_OSXSAVE,
  EFER_LMA,
  EFER_LME,
  EFER_NXE,
  HLT,
  type Processor,
} from '../../src/machine/processor.ts';
import { runProcessor } from '../../src/machine/run.ts';
import { type Case, CODE, CODE_SIZE, DATA, DATA_SIZE, fillData, hashData, type Result, upperHalves } from './case.ts';

const TABLES = 0x8000;
const GDT = 0x10000;
const IDT = 0x11000;
const TSS = 0x12000;
const HANDLERS = 0x13000;
const STACK_TOP = 0x15000;
/** Linear address of physical address 0. */
const SYSTEM = 0xffff_8000_0000_0000n;
const CR4 = 0x20 | 0x200 | 0x400 | CR4_OSXSAVE;
/** Vectors that push an error code. */
const WITH_ERROR = new Set([8, 10, 11, 12, 13, 14, 17]);

export class Emulated {
  readonly machine: Machine;
  readonly p: Processor;
  readonly data: Uint8Array;

  constructor(options: Pick<MachineOptions, 'translator' | 'translatorThreshold'> = {}) {
    const machine = new Machine({ processors: 1, ramSize: 4 << 20, profile: 'pc', ...options });
    const p = machine.processors[0]!;
    this.machine = machine;
    this.p = p;
    const { memory } = machine;
    machine.activate(p);
    // The first 2 MiB and the 2 MiB of the data, in 4 KiB pages.
    memory.write64(TABLES, BigInt(TABLES + 0x1000) | 7n);
    memory.write64(TABLES + 0x1000, BigInt(TABLES + 0x2000) | 7n);
    memory.write64(TABLES + 0x2000, BigInt(TABLES + 0x3000) | 7n);
    memory.write64(TABLES + 0x2008, BigInt(TABLES + 0x4000) | 7n);
    const map = (from: number, size: number, flags: bigint): void => {
      for (let at = from; at < from + size; at += 4096)
        memory.write64(TABLES + 0x3000 + (at / 4096) * 8, BigInt(at) | flags);
    };
    // What the machine itself needs is mapped in the upper half only, at SYSTEM.
    memory.write64(TABLES + 0x800, BigInt(TABLES + 0x5000) | 3n);
    memory.write64(TABLES + 0x5000, BigInt(TABLES + 0x6000) | 3n);
    memory.write64(TABLES + 0x6000, BigInt(TABLES + 0x7000) | 3n);
    for (let i = 0; i < 64; i++) memory.write64(TABLES + 0x7000 + i * 8, BigInt(i * 4096) | 3n);
    map(CODE, CODE_SIZE, 7n);
    map(DATA, DATA_SIZE - 0x1000, 7n);
    map(DATA + DATA_SIZE - 0x1000, 0x1000, 5n);
    memory.fill(CODE, CODE_SIZE, 0xcc);
    memory.write64(GDT + 8, 0x00af_9b00_0000_ffffn);
    memory.write64(GDT + 16, 0x00cf_9300_0000_ffffn);
    memory.write64(TSS + 4, SYSTEM + BigInt(STACK_TOP));
    memory.write16(TSS + 0x66, 0xffff);
    for (let vector = 0; vector < 32; vector++) {
      const to = HANDLERS + vector * 16;
      memory.write64(
        IDT + vector * 16,
        BigInt(to & 0xffff) | (8n << 16n) | (0xee00n << 32n) | (BigInt(to >> 16) << 48n),
      );
      memory.write64(IDT + vector * 16 + 8, SYSTEM >> 32n);
      memory.write8(to, 0xf4);
    }
    p.cr0 = (CR0_PE | CR0_PG | CR0_WP | CR0_NE | CR0_MP) >>> 0;
    p.cr3 = BigInt(TABLES);
    p.cr4 = CR4;
    p.xcr0 = 7n;
    p.efer = EFER_LME | EFER_LMA | EFER_NXE;
    Object.assign(p.gdtr, { base: SYSTEM + BigInt(GDT), limit: 0xff });
    Object.assign(p.idtr, { base: SYSTEM + BigInt(IDT), limit: 0xfff });
    Object.assign(p.tr, { selector: 0x20, base: SYSTEM + BigInt(TSS), limit: 0x67, attributes: 0x8b });
    this.data = memory.bytes.subarray(RAM_BASE + DATA, RAM_BASE + DATA + DATA_SIZE);
    this.userMode();
  }

  /** Privilege level 3, flat segments. */
  userMode(mode: 32 | 64 = 64): void {
    const { p } = this;
    p.cpl = 3;
    for (const s of p.segments) Object.assign(s, { selector: 0x2b, base: 0n, limit: 0xffff_ffff, attributes: 0xc0f3 });
    Object.assign(
      p.segments[1]!,
      mode === 64 ? { selector: 0x33, attributes: 0xa0fb } : { selector: 0x23, attributes: 0xc0fb },
    );
    p.segments[4]!.selector = p.segments[5]!.selector = 0;
    p.syncSegments();
    updateSlowFlags(p);
    tlbContextChanged(p);
  }

  /** Puts a case's state in place. */
  prepare(c: Case): void {
    const { p } = this;
    fillData(c, this.data);
    this.machine.memory.writeBytes(c.rip, c.code);
    c.gpr.forEach((value, n) => {
      p.setGpr(n, value);
    });
    p.rflags = c.flags;
    p.rip = BigInt(c.rip);
    p.write32(MXCSR, c.mxcsr);
    p.write16(FSW, 0);
    p.write8(FTOP, c.top);
    p.write8(FTAG, 0);
    for (let n = 0; n < 16; n++) p.xmm(n).set(c.xmm.subarray(n * 16, n * 16 + 16));
    const upper = upperHalves(c.xmm);
    for (let n = 0; n < 16; n++) p.ymmHigh(n).set(upper.subarray(n * 16, n * 16 + 16));
    for (let n = 0; n < 8; n++) p.fpr(n).set(c.fpr.subarray(n * 16, n * 16 + 10));
  }

  /** @param ready called when the state is in place */
  run(c: Case, ready: () => void = () => {}): Result {
    const { p, machine } = this;
    const { memory } = machine;
    this.userMode(c.mode);
    this.prepare(c);
    ready();
    p.activity = 0;
    runProcessor(p, machine.clock.now() + 10_000);
    const trap = p.activity === HLT ? (Number(p.rip & 0xffff_ffffn) - 1 - HANDLERS) / 16 : -1;
    const withError = WITH_ERROR.has(trap);
    const frame = STACK_TOP - (withError ? 48 : 40);
    const at = frame + (withError ? 8 : 0);
    const result: Result = {
      gpr: Array.from({ length: 16 }, (_, n) => (n === 4 ? memory.read64(at + 24) : p.gpr(n))),
      flags: memory.read32(at + 16),
      rip: memory.read64(at),
      trap,
      error: withError ? memory.read32(frame) : 0,
      cr2: trap === 14 ? p.cr2 : 0n,
      hash: hashData(this.data),
      mxcsr: p.read32(MXCSR),
      top: p.read8(FTOP),
      tag: p.read8(FTAG),
      xmm: Uint8Array.from({ length: 256 }, (_, i) => p.xmm(i >> 4)[i & 15]!),
      fpr: Uint8Array.from({ length: 128 }, (_, i) => ((i & 15) < 10 ? p.fpr(i >> 4)[i & 15]! : 0)),
      ymm: Uint8Array.from({ length: 256 }, (_, i) => p.ymmHigh(i >> 4)[i & 15]!),
    };
    machine.memory.fill(c.rip, c.code.length, 0xcc);
    return result;
  }
}
