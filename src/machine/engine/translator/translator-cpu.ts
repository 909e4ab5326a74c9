/**
 * Back-end J: binds semantics to constants and locals, and translates one region to one wasm function.
 *
 * A region has the interface of a cold handler, (ip, tlb) → next record, or 0 to leave with REASON and STOPPED_AT, so the
 * interpreter enters it like any other record. GPRs and lazy flags live in locals; every way out joins one epilogue that
 * stores them.
 *
 * The budget is tested at the entry and on backward edges only, against the longest way to the next test: with less left,
 * the interpreter executes, which stops exactly where it must.
 */
import { Code, LOAD, type LoadWidth, STORE } from '../../isa/code.ts';
import { Cpu } from '../../isa/cpu.ts';
import {
  add,
  and,
  constant,
  constantValue,
  type Expr,
  isZero,
  leU,
  or,
  shl,
  shr,
  sub,
  truncate,
  u32,
  u64,
  type Width,
  zeroExtend,
} from '../../isa/expr.ts';
import { kindCode, type Recipe, storedA, storedB, storedRecipe } from '../../isa/flags.ts';
import type { Operand, RegisterFile } from '../../isa/insn.ts';
import type { Support } from '../../isa/support.ts';
import {
  BUDGET,
  CC_A,
  CC_B,
  CC_KIND,
  CS,
  EXIT,
  type Exit,
  FAULT_INFO,
  FAULT_VA,
  FPR,
  GPR,
  PAGE_RIP,
  REASON,
  REGION_ENTRIES,
  REGION_INSNS,
  RIP,
  SEG_BASE,
  SEGMENT_SIZE,
  SEGMENTS,
  STOPPED_AT,
  TLB_BASE,
  TLB_EXECUTE,
  TSC_ORIGIN,
  XMM,
  YMM_HIGH,
} from '../layout.ts';
import { isAbsolute64 } from '../record.ts';
import { type Bytes, I32, I64, type ModuleBuilder } from '../wasm.ts';
import type { Block, Edge, Region, Step } from './region.ts';
import { type BlockEmitter, emitBlocks } from './structure.ts';

/** Where records, their table and their entry counters lie. */
export interface RegionSite {
  /** Address of the code page's table. */
  readonly table: number;
  /** Record of an instruction, by page offset. */
  recordAt(offset: number): number;
  /** Record that executes the region's first instruction in the interpreter. */
  readonly declined: number;
  /** Address of a record's entry counter: (record >>> 3) + this. */
  readonly counters: number;
  /** Count entries and instructions. */
  readonly counting: boolean;
  /** Handler number of the function table's first entry, and the lowest that is a region. */
  readonly firstFunction: number;
  readonly firstRegion: number;
}

const IP = 0,
  TLB = 1;
/** Keys of mutable state: 0 to 15 are GPRs. */
const KEY = {
  kind: 16,
  a: 17,
  b: 18,
  left: 19,
  vector: 20,
  x87: 21,
  words: 22,
  page: 23,
  next: 24,
  offset: 25,
  upper: 26,
};

export class TranslatorCpu extends Cpu implements BlockEmitter {
  flagsWanted = true;
  readonly target: number;
  readonly #region: Region;
  readonly #site: RegionSite;
  /** Locals of the GPRs, -1 for those that the region does not use. */
  readonly #gprs: number[] = new Array(16).fill(-1);
  readonly #dirty: number[] = [];
  readonly #writesFlags: boolean;
  readonly #kind: number;
  readonly #a: number;
  readonly #b: number;
  readonly #left: number;
  readonly #page: number;
  readonly #next: number;
  /** Offset that an indirect block goes to, from the page's first byte. */
  readonly #offset: number;
  readonly #why: number;
  #step!: Step;
  #block!: Block;
  /** Instructions of the block from this one on. */
  #remaining = 0;
  #recipe: { kind: number; zeroB: boolean } | null = null;
  /** The flags in force are those in memory; the locals hold nothing yet. */
  #flagsInMemory = false;

  constructor(support: Support, region: Region, site: RegionSite) {
    super(new Code(2), support);
    this.#region = region;
    this.#site = site;
    const { code } = this;
    let reads = 0,
      writes = 0,
      flags = false;
    for (const block of region.order) {
      for (const { effects } of block.steps) {
        reads |= effects.reads;
        writes |= effects.writes;
        flags ||= effects.writesFlags !== 'no';
      }
    }
    for (let r = 0; r < 16; r++) {
      if ((reads | writes) & (1 << r)) this.#gprs[r] = code.newLocal(I64);
      if (writes & (1 << r)) this.#dirty.push(r);
    }
    this.#writesFlags = flags;
    this.#kind = code.newLocal(I32);
    this.#a = code.newLocal(I64);
    this.#b = code.newLocal(I64);
    this.#left = code.newLocal(I32);
    this.#page = code.newLocal(I64);
    this.#next = code.newLocal(I32);
    this.#offset = code.newLocal(I64);
    this.#why = code.newLocal(I32);
    this.target = code.newLocal(I32);
  }

  /** Emits the whole function. */
  define(module: ModuleBuilder, func: number, name: string): void {
    const { code } = this;
    const { out } = code;
    const { entry } = this.#region;
    // The dispatch has counted the record of the region; it counts again whatever it goes on with.
    out.i32(0).memory(0x28, BUDGET).i32(1).u8(0x6a).teeLocal(this.#left);
    out.i32(entry.longest).u8(0x48);
    code.block(0x04, 'if');
    out.i32(0).getLocal(this.#left).memory(0x36, BUDGET).i32(this.#site.declined).u8(0x0f);
    code.end();
    if (this.#site.counting) {
      addTo(out, REGION_ENTRIES, () => out.i64(1n));
      addTo(out, REGION_INSNS, () => out.getLocal(this.#left).u8(0xac));
    }
    out.i32(0).memory(0x29, PAGE_RIP).setLocal(this.#page);
    this.#gprs.forEach((local, r) => {
      if (local >= 0)
        out
          .i32(0)
          .memory(0x29, GPR + r * 8)
          .setLocal(local);
    });
    code.block(0x02, 'saved');
    code.block(0x02, 'exit');
    if (!this.#startsInMemory(entry)) this.#loadFlags();
    emitBlocks(this, this.#region);
    code.end();
    if (this.#writesFlags) {
      out.i32(0).getLocal(this.#kind).memory(0x36, CC_KIND);
      out.i32(0).getLocal(this.#a).memory(0x37, CC_A);
      out.i32(0).getLocal(this.#b).memory(0x37, CC_B);
    }
    code.end();
    for (const r of this.#dirty)
      out
        .i32(0)
        .getLocal(this.#gprs[r]!)
        .memory(0x37, GPR + r * 8);
    out.i32(0).getLocal(this.#left).memory(0x36, BUDGET);
    if (this.#site.counting) addTo(out, REGION_INSNS, () => out.i64(0n).getLocal(this.#left).u8(0xac).u8(0x7d));
    this.#emitDeparture(module.type([I32, I32], [I32]));
    module.define(func, [I32, I32], [I32], code.locals, out, name);
  }

  /** With `why` 0 goes on at record `next`, by a tail call if that is a region, and counts its entry; else leaves, stopped there. */
  #emitDeparture(regionType: number): void {
    const { code } = this;
    const { out } = code;
    out.getLocal(this.#why).u8(0x45);
    code.block(0x04, 'if');
    out.getLocal(this.#next).memory(0x2f, 0).teeLocal(this.target).i32(this.#site.firstRegion).u8(0x4f);
    code.block(0x04, 'if');
    // The region takes for granted that its record has been counted.
    out.i32(0).getLocal(this.#left).i32(1).u8(0x6b).memory(0x36, BUDGET);
    out.getLocal(this.#next).getLocal(TLB);
    out.getLocal(this.target).i32(this.#site.firstFunction).u8(0x6b);
    out.u8(0x13).unsigned(regionType).u8(0);
    code.end();
    // IP is free here: it holds the counter's address.
    out.getLocal(this.#next).i32(3).u8(0x76).teeLocal(IP);
    out.getLocal(IP).memory(0x2f, this.#site.counters).i32(1).u8(0x6a).teeLocal(this.target);
    out.memory(0x3b, this.#site.counters);
    out.getLocal(this.target).i32(0xffff).u8(0x71);
    code.block(0x04, 'if');
    out.getLocal(this.#next).u8(0x0f);
    code.end();
    out.i32(EXIT.hot).setLocal(this.#why);
    code.end();
    out.i32(0).getLocal(this.#why).memory(0x36, REASON);
    out.i32(0).getLocal(this.#next).memory(0x36, STOPPED_AT);
    out.i32(0);
  }

  // ---- blocks, called by structure.ts

  emitBlock(block: Block): void {
    const { code } = this;
    const { steps } = block;
    this.#block = block;
    this.#recipe = null;
    this.#flagsInMemory = this.#startsInMemory(block);
    code.out.getLocal(this.#left).i32(steps.length).u8(0x6b).setLocal(this.#left);
    const wanted = flagsWantedIn(steps);
    steps.forEach((step, i) => {
      this.#step = step;
      this.#remaining = steps.length - i;
      this.flagsWanted = wanted[i]!;
      const { effects } = step;
      if (this.#flagsInMemory && (effects.readsFlags || effects.writesFlags === 'maybe')) this.#loadFlags();
      this.begin(step.insn);
      this.describe();
      code.flush();
    });
    // Other blocks of the region find the flags in locals.
    if (this.#flagsInMemory && block.edges.some((e) => e.block !== null)) this.#loadFlags();
  }

  checkBudget(to: Block): void {
    const { code } = this;
    const { out } = code;
    out.getLocal(this.#left).i32(to.longest).u8(0x48);
    code.block(0x04, 'if');
    out.i32(this.#site.recordAt(to.offset)).setLocal(this.#next).i32(0).setLocal(this.#why);
    code.br('exit');
    code.end();
  }

  leaveBy(block: Block, edge: Edge): void {
    const { code } = this;
    this.#block = block;
    const { offset } = edge;
    if (offset < 0 || offset >= 4096) this.#transfer(add(this.#pageRip(), u64(offset)));
    else {
      const record = code.load(u32(0), 32, this.#site.table + offset * 4);
      this.#lookupIf(isZero(record), () => add(this.#pageRip(), u64(offset)));
      this.#goOn(record);
    }
    code.flush();
  }

  goesTo(edge: Edge): void {
    this.code.out.getLocal(this.#offset).i64(BigInt(edge.offset)).u8(0x51);
  }

  leaveIndirectly(block: Block): void {
    this.#block = block;
    this.#flagsInMemory = false;
    this.#transfer(add(this.#pageRip(), this.code.local(64, this.#offset)));
    this.code.flush();
  }

  /** The flags are still in memory when control comes from outside. */
  #startsInMemory(block: Block): boolean {
    return block === this.#region.entry && !block.isLoop && this.#region.reducible;
  }

  // ---- operands

  protected readRegister<W extends LoadWidth>(operand: Operand, width: W): Expr<W> {
    if (operand.file === 'gpr') {
      const whole = this.gpr64(operand.register);
      return truncate(operand.high ? shr(whole, u64(8)) : whole, width as Width) as Expr<LoadWidth> as Expr<W>;
    }
    const at = fileAddress(operand);
    return this.code.state(width, fileKey(operand.file), () => this.code.out.i32(0).memory(LOAD[width], at));
  }

  protected writeRegister(operand: Operand, value: Expr<LoadWidth>): void {
    const { code } = this;
    const { file, register } = operand;
    if (file === 'gpr') {
      const narrow = value as Expr<Width>;
      this.commitGpr(register, value.width >= 32 ? zeroExtend(narrow, 64) : this.#inserted(operand, narrow));
      return;
    }
    const at = fileAddress(operand);
    const push = (): void => void code.out.i32(0);
    code.assign(fileKey(file), value, () => code.out.memory(STORE[value.width as LoadWidth], at), push);
    // Writing an MMX register sets the sign and exponent of the x87 register it lies in.
    if (file === 'mmx') code.assign(KEY.x87, u32(0xffff), () => code.out.memory(STORE[16], at + 8), push);
  }

  #inserted(operand: Operand, value: Expr<Width>): Expr<64> {
    const shift = operand.high ? 8 : 0;
    const mask = (value.width === 8 ? 0xff : 0xffff) << shift;
    return or(and(this.gpr64(operand.register), u64(~mask)), shl(zeroExtend(value, 64), u64(shift)));
  }

  gpr64(register: number): Expr<64> {
    const local = this.#gprs[register]!;
    if (local < 0) throw new Error(`register ${register} was not announced`);
    return this.code.state(64, register, () => void this.code.out.getLocal(local));
  }

  protected commitGpr(register: number, value: Expr<64>): void {
    const local = this.#gprs[register]!;
    this.code.assign(register, value, () => this.code.out.setLocal(local));
  }

  protected immediate(operand: Operand): Expr<Width> {
    return constant(operand.width as Width, this.insn.immediate);
  }

  protected rawAddress(): Expr<64> {
    const { insn } = this;
    if (isAbsolute64(insn)) return u64(insn.immediate);
    const { base, index, scale, disp, ripRelative } = insn.memory!;
    if (ripRelative) return add(this.#pageRip(), u64(this.#step.offset + insn.length + disp));
    let address: Expr<64> | null = base < 0 ? null : this.gpr64(base);
    if (index >= 0) {
      const scaled = shl(this.gpr64(index), u64(scale));
      address = address === null ? scaled : add(address, scaled);
    }
    return address === null ? u64(disp) : add(address, u64(disp));
  }

  protected tlbBase(): Expr<32> {
    return this.code.local(32, TLB);
  }

  state<W extends LoadWidth>(address: number, width: W): Expr<W> {
    return this.code.state(width, wordKey(address), () => void this.code.out.i32(0).memory(LOAD[width], address));
  }

  setState(address: number, value: Expr<LoadWidth>): void {
    const { code } = this;
    code.assign(
      wordKey(address),
      value,
      () => code.out.memory(STORE[value.width as LoadWidth], address),
      () => void code.out.i32(0),
    );
    this.markCommitted();
  }

  switchBank(bank: Expr<32>): void {
    this.setState(TLB_BASE, bank);
    this.code.assign(KEY.words, bank, () => this.code.out.setLocal(TLB));
  }

  // ---- control

  #pageRip(): Expr<64> {
    return this.code.local(64, this.#page);
  }

  nextRip(): Expr<64> {
    return add(this.#pageRip(), u64(this.#step.offset + this.insn.length));
  }

  /** RDTSC reads the time before it: the budget with this instruction and those after it in the block uncounted. */
  timestamp(): Expr<64> {
    const left = this.code.local(32, this.#left);
    return sub(this.state(TSC_ORIGIN, 64), zeroExtend(add(left, u32(this.#remaining)), 64));
  }

  protected exitIf(condition: Expr<1>, reason: Exit, address: Expr<64> | null, info: number): void {
    const { code } = this;
    const record = this.#site.recordAt(this.#step.offset);
    // Who receives the exit adds the instruction that has not happened.
    const refund = this.#remaining - 1;
    const label = this.#flagsInMemory ? 'saved' : 'exit';
    code.if(condition, () => {
      if (address !== null) {
        code.store(u32(0), address, FAULT_VA);
        code.store(u32(0), u32(info), FAULT_INFO);
      }
      code.raw(() => {
        const { out } = code;
        if (refund !== 0) out.getLocal(this.#left).i32(refund).u8(0x6a).setLocal(this.#left);
        out.i32(record).setLocal(this.#next).i32(reason).setLocal(this.#why);
        code.br(label);
      });
    });
  }

  protected commitFlags(recipe: Recipe): void {
    const { code } = this;
    const kind = kindCode(recipe.kind, recipe.width);
    const a = code.let(storedA(recipe)),
      b = code.let(storedB(recipe));
    code.assign(KEY.kind, u32(kind), () => code.out.setLocal(this.#kind));
    code.assign(KEY.a, a, () => code.out.setLocal(this.#a));
    code.assign(KEY.b, b, () => code.out.setLocal(this.#b));
    this.#recipe = this.nesting > 0 ? null : { kind, zeroB: constantValue(b) === 0 };
    if (this.nesting === 0) this.#flagsInMemory = false;
  }

  protected knownRecipe(): Recipe | null {
    const known = this.#recipe;
    if (known === null) return null;
    const [, a, b] = this.storedFlags();
    return storedRecipe(known.kind, a, known.zeroB ? u64(0) : b);
  }

  protected storedFlags(): [Expr<32>, Expr<64>, Expr<64>] {
    const { code } = this;
    return [
      code.state(32, KEY.kind, () => void code.out.getLocal(this.#kind)),
      code.state(64, KEY.a, () => void code.out.getLocal(this.#a)),
      code.state(64, KEY.b, () => void code.out.getLocal(this.#b)),
    ];
  }

  /** Repetitions are the interpreter's. */
  protected spendIteration(): void {
    throw new Error('a repeated string instruction in a region');
  }

  jump(): void {}
  jumpIf(condition: Expr<1>): void {
    this.code.raw(() => {}, condition);
  }
  /** The block's edge leaves. */
  call(): void {}
  jumpTo(target: Expr<64>): void {
    if (this.#block.end !== 'indirect') return this.#transfer(target);
    // The block's edges, or leaveIndirectly, do the rest.
    const { code } = this;
    code.assign(KEY.offset, sub(target, this.#pageRip()), () => code.out.setLocal(this.#offset));
  }
  callTo(target: Expr<64>): void {
    this.jumpTo(target);
  }
  returnTo(target: Expr<64>): void {
    this.jumpTo(target);
  }

  /** Leaves to an offset of the code segment, through the execute TLB. */
  #transfer(target: Expr<64>): void {
    const { code } = this;
    const to = code.let(target);
    const linear = code.let(add(this.state(SEGMENTS + CS * SEGMENT_SIZE + SEG_BASE, 64), to));
    const entry = this.executeEntry(linear);
    const offset = code.let(sub(linear, code.load(entry, 64, TLB_EXECUTE)));
    this.#lookupIf(leU(u64(4096), offset), () => to);
    const slot = code.let(add(code.load(entry, 32, TLB_EXECUTE + 8), shl(truncate(offset, 32), u32(2))));
    const record = code.let(code.load(slot, 32));
    this.#lookupIf(isZero(record), () => to);
    code.store(u32(0), sub(to, offset), PAGE_RIP);
    this.#goOn(record);
  }

  #goOn(record: Expr<32>): void {
    const { code } = this;
    const label = this.#flagsInMemory ? 'saved' : 'exit';
    code.assign(KEY.next, record, () => code.out.setLocal(this.#next));
    code.raw(() => {
      code.out.i32(0).setLocal(this.#why);
      code.br(label);
    });
  }

  /** Leaves because nothing is decoded at `rip`. */
  #lookupIf(condition: Expr<1>, rip: () => Expr<64>): void {
    const { code } = this;
    const record = this.#site.recordAt(this.#block.steps[0]!.offset);
    const label = this.#flagsInMemory ? 'saved' : 'exit';
    code.if(condition, () => {
      code.store(u32(0), rip(), RIP);
      code.raw(() => {
        code.out.i32(record).setLocal(this.#next).i32(EXIT.lookup).setLocal(this.#why);
        code.br(label);
      });
    });
  }

  /** Leaves the operand stack alone. */
  #loadFlags(): void {
    const { out } = this.code;
    out.i32(0).memory(0x28, CC_KIND).setLocal(this.#kind);
    out.i32(0).memory(0x29, CC_A).setLocal(this.#a);
    out.i32(0).memory(0x29, CC_B).setLocal(this.#b);
    this.#flagsInMemory = false;
  }
}

/** Adds what `value` pushes (i64) to a counter. */
function addTo(out: Bytes, counter: number, value: () => void): void {
  out.i32(0).i32(0).memory(0x29, counter);
  value();
  out.u8(0x7c).memory(0x37, counter);
}

const fileKey = (file: RegisterFile): number => (file === 'xmm' ? KEY.vector : file === 'ymm' ? KEY.upper : KEY.x87);
const fileAddress = (o: Operand): number =>
  (o.file === 'xmm' ? XMM : o.file === 'ymm' ? YMM_HIGH : FPR) + o.register * 16;
const wordKey = (address: number): number => (address >= FPR && address < XMM ? KEY.x87 : KEY.words);

/** Backward over a block: flags are wanted unless overwritten before anything reads them or can leave. */
function flagsWantedIn(steps: readonly Step[]): boolean[] {
  const wanted = new Array<boolean>(steps.length);
  let live = true;
  for (let i = steps.length - 1; i >= 0; i--) {
    wanted[i] = live;
    const { effects } = steps[i]!;
    if (effects.writesFlags === 'always') live = false;
    if (effects.exits || effects.readsFlags) live = true;
  }
  return wanted;
}
