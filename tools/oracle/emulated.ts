/** Runs frames on the emulated machine: 64-bit mode, identity mapping, everything else as the recorder has it. */
import '../../src/machine/handlers.ts';
import { EXIT, FSW, MXCSR } from '../../src/machine/engine/layout.ts';
import { decode } from '../../src/machine/isa/decode.ts';
import { handlerOf } from '../../src/machine/isa/handlers.ts';
import type { Insn } from '../../src/machine/isa/insn.ts';
import { Machine } from '../../src/machine/machine.ts';
import { handleMiss } from '../../src/machine/mmu/miss.ts';
import { tlbContextChanged } from '../../src/machine/mmu/tlb.ts';
import { DONE, GP, JUMPED, MF, UD } from '../../src/machine/outcome.ts';
import { advanceRip } from '../../src/machine/processor/rip.ts';
import { updateSlowFlags } from '../../src/machine/processor/slow-flags.ts';
import {
  AR_DB,
  AR_G,
  AR_L,
  AR_P,
  AR_S,
  CR0_ET,
  CR0_NE,
  CR0_PE,
  CR0_PG,
  CR4_OSFXSR,
  CR4_OSXMMEXCPT,
  CR4_OSXSAVE,
  CR4_PAE,
  EFER_LMA,
  EFER_LME,
  type Processor,
} from '../../src/machine/processor.ts';
import { fpuAvailable } from '../../src/machine/system/fpu-access.ts';
import { loadXmm, mxcsrIn, saveMxcsr, saveXmm, ymmBytes } from '../../src/machine/system/sse-state.ts';
import { loadX87, saveX87 } from '../../src/machine/system/x87-state.ts';
import { CODE, DATA, type Frame, GPR_ORDER, STATUS } from './frame.ts';

const TABLES = 0x10_0000;
const LARGE_PAGE = 0xe7n;
const CODE_SEGMENT = AR_P | AR_S | 11;
const DATA_SEGMENT = AR_P | AR_S | 3;

export class EmulatedProcessor {
  readonly p: Processor;
  readonly #machine: Machine = new Machine({ processors: 1, ramSize: 4 << 20, profile: 'pc' });
  readonly #decoded: Map<string, Insn | string> = new Map();
  /** Instructions that were left to TypeScript, and all. */
  assists = 0;
  executed = 0;

  constructor() {
    const { memory } = this.#machine;
    const p = this.#machine.processors[0]!;
    this.p = p;
    this.#machine.activate(p);
    memory.write64(TABLES, BigInt(TABLES + 0x1000) | 7n);
    memory.write64(TABLES + 0x1000, BigInt(TABLES + 0x2000) | 7n);
    memory.write64(TABLES + 0x2000, LARGE_PAGE);
    memory.write64(TABLES + 0x2008, 0x20_0000n | LARGE_PAGE);
    p.cr0 = (CR0_PE | CR0_ET | CR0_NE | CR0_PG) >>> 0;
    p.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    p.xcr0 = 7n;
    p.cr3 = BigInt(TABLES);
    p.efer = EFER_LME | EFER_LMA;
    p.segments.forEach((segment, n) => {
      const attributes = n === 1 ? CODE_SEGMENT | AR_L | AR_G : DATA_SEGMENT | AR_DB | AR_G;
      Object.assign(segment, { selector: n === 1 ? 8 : 16, base: 0n, limit: 0xffff_ffff, attributes });
    });
    p.syncSegments();
    updateSlowFlags(p);
    tlbContextChanged(p);
  }

  /** The state after one instruction, as a frame. */
  run(input: Frame): Frame {
    const { p } = this;
    const { memory } = this.#machine;
    const frame = input.copy();
    memory.writeBytes(CODE, frame.code);
    memory.writeBytes(DATA, frame.memory);
    loadX87(p, frame.fxView, true);
    loadXmm(p, frame.fxView);
    ymmBytes(p).set(frame.ymm);
    p.write32(MXCSR, mxcsrIn(frame.fxView));
    for (const [i, n] of GPR_ORDER.entries()) p.setGpr(n, frame.gpr(i));
    p.rflags = frame.flags;
    p.rip = BigInt(CODE);
    frame.trap = this.#step(frame.code);
    frame.memory.set(memory.readBytes(DATA, frame.memory.length));
    saveX87(p, frame.fxView, true);
    saveXmm(p, frame.fxView);
    frame.ymm.set(ymmBytes(p));
    saveMxcsr(p, frame.fxView);
    for (const [i, n] of GPR_ORDER.entries()) frame.setGpr(i, p.gpr(n));
    frame.flags = (frame.flags & ~STATUS) | (p.rflags & STATUS);
    return frame;
  }

  #decode(code: Uint8Array): Insn | string {
    const key = code.join();
    let insn = this.#decoded.get(key);
    if (insn === undefined) this.#decoded.set(key, (insn = decode(code, 0, code.length, 64)));
    return insn;
  }

  /** Executes; returns the exception vector or -1. */
  #step(code: Uint8Array): number {
    const { p } = this;
    const { engine } = this.#machine;
    const insn = this.#decode(code);
    if (typeof insn === 'string') return UD;
    this.executed++;
    for (;;) {
      engine.setCurrentInsn(insn);
      const reason = engine.step(p, insn);
      switch (reason) {
        case EXIT.stop:
          return -1;
        case EXIT.alignment:
          return GP;
        case EXIT.miss: {
          const outcome = handleMiss(p);
          if (outcome === JUMPED) return -1;
          if (outcome !== DONE) return p.fault.vector;
          break;
        }
        case EXIT.assist: {
          this.assists++;
          const { mnemonic, unit } = insn.row.operation;
          if (unit !== '' && fpuAvailable(p, unit) !== DONE) return p.fault.vector;
          if (unit === 'mmx' && p.read16(FSW) & 0x80) return MF;
          const handler = handlerOf(mnemonic);
          if (handler === undefined) throw new Error(`no handler for ${mnemonic}`);
          const outcome = handler(p, insn);
          if (outcome === DONE) advanceRip(p, insn);
          return outcome === DONE || outcome === JUMPED ? -1 : p.fault.vector;
        }
        default:
          throw new Error(`left by ${reason}`);
      }
    }
  }
}
