/** One processor of a real machine, for tests of instruction handlers: executes the bytes of one instruction at a time. */
import { CS, DS, ES, FS, GS, SS } from '../engine/layout.ts';
import { decode } from '../isa/decode.ts';
import { handlerOf } from '../isa/handlers.ts';
import '../isa/index.ts';
import type { Insn } from '../isa/insn.ts';
import { Machine } from '../machine.ts';
import { tlbContextChanged } from '../mmu/tlb.ts';
import type { Outcome } from '../outcome.ts';
import { updateSlowFlags } from '../processor/slow-flags.ts';
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
  CR4_OSXSAVE,
  CR4_PAE,
  EFER_LMA,
  EFER_LME,
  type Processor,
} from '../processor.ts';
import type { ProfileName } from '../profiles.ts';
import './index.ts';

const CODE = AR_P | AR_S | 11;
const DATA = AR_P | AR_S | 3;
const TABLES = 0x10_0000;
/** Present, writable, user, accessed, dirty, 2 MiB. */
const LARGE_PAGE = 0xe7n;

export class TestProcessor {
  readonly machine: Machine;
  readonly p: Processor;

  constructor(profile: ProfileName = 'pc', processors = 1) {
    this.machine = new Machine({ processors, ramSize: 4 << 20, profile });
    this.p = this.machine.processors[0]!;
    this.machine.activate(this.p);
  }

  /** Flat segments with this code attribute, at CPL 0. */
  #segments(code: number): void {
    const { p } = this;
    for (const n of [ES, CS, SS, DS, FS, GS]) {
      const attributes = n === CS ? CODE | code | AR_G : DATA | AR_DB | AR_G;
      Object.assign(p.segments[n]!, { selector: n === CS ? 8 : 16, base: 0n, limit: 0xffff_ffff, attributes });
    }
    this.changed();
  }

  /** After fields of the processor were set directly. */
  changed(): void {
    const { p } = this;
    p.syncSegments();
    updateSlowFlags(p);
    tlbContextChanged(p);
  }

  /** 32-bit protected mode without paging. */
  protectedMode(): this {
    const { p } = this;
    p.cr0 = CR0_PE | CR0_ET | CR0_NE;
    p.cr4 = CR4_OSFXSR | CR4_OSXSAVE;
    this.#segments(AR_DB);
    return this;
  }

  /** 64-bit mode; the first 4 MiB are mapped to themselves, for users too. */
  longMode(): this {
    const { p, machine } = this;
    const { memory } = machine;
    memory.write64(TABLES, BigInt(TABLES + 0x1000) | 7n);
    memory.write64(TABLES + 0x1000, BigInt(TABLES + 0x2000) | 7n);
    memory.write64(TABLES + 0x2000, LARGE_PAGE);
    memory.write64(TABLES + 0x2008, 0x20_0000n | LARGE_PAGE);
    p.cr0 = (CR0_PE | CR0_ET | CR0_NE | CR0_PG) >>> 0;
    p.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXSAVE;
    p.cr3 = BigInt(TABLES);
    p.efer = EFER_LME | EFER_LMA;
    this.#segments(AR_L);
    return this;
  }

  /** Changes the privilege level. */
  cpl(level: number): this {
    this.p.cpl = level;
    this.changed();
    return this;
  }

  decode(hex: string): Insn {
    const bytes = Uint8Array.from(hex.trim().split(/\s+/), (byte) => Number.parseInt(byte, 16));
    const insn = decode(bytes, 0, bytes.length, this.p.codeSize);
    if (typeof insn === 'string') throw new Error(`${hex}: ${insn}`);
    return insn;
  }

  /** Runs the TypeScript handler of an instruction given as hexadecimal bytes. RIP stays. */
  run(hex: string): Outcome {
    const insn = this.decode(hex);
    const { mnemonic } = insn.row.operation;
    const handler = handlerOf(mnemonic);
    if (!handler) throw new Error(`no handler for ${mnemonic}`);
    return handler(this.p, insn);
  }

  /** Outcome as text: `done`, `#13(0)`, `#6`, `exit 28`. */
  outcome(hex: string): string {
    return this.describe(this.run(hex));
  }

  describe(outcome: Outcome): string {
    const { fault, vtx } = this.p;
    if (outcome === 1) return fault.errorCode < 0 ? `#${fault.vector}` : `#${fault.vector}(${fault.errorCode})`;
    if (outcome === 2) return `exit ${vtx.exit.reason}`;
    return outcome === 0 ? 'done' : 'jumped';
  }
}
