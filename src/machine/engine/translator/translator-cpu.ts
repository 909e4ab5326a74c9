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
import { Code } from '../../isa/code.ts';
import type { AccessWidth } from '../../isa/cpu.ts';
import {
  add,
  type Expr,
  isZero,
  leU,
  low32,
  ltU,
  shl,
  sub,
  truncate,
  u32,
  u64,
  xor,
  zeroExtend,
} from '../../isa/expr.ts';
import type { Support } from '../../isa/support.ts';
import { CODE_MODE } from '../code-mode.ts';
import { ACCESS, EXIT, type Exit, FAULT_INFO, FAULT_VA, PAGE_RIP, RIP, TLB_EXECUTE, TSC_ORIGIN } from '../layout.ts';
import type { ModuleBuilder } from '../wasm.ts';
import { defineRegion, type RegionSite } from './frame.ts';
import { KeptPages } from './kept-pages.ts';
import { type EntryFlags, flagsAtEntries, needsFlags } from './known-flags.ts';
import { type Loop, Loops } from './loops.ts';
import type { Block, Edge, Region, Step } from './region.ts';
import { KEY, RegionLocals } from './region-locals.ts';
import { RegisterCpu } from './register-cpu.ts';
import { type BlockEmitter, emitBlocks } from './structure.ts';

/** Key of what is in a local of a kept page, less the local's index. */
const KEPT = 0x100;

export class TranslatorCpu extends RegisterCpu implements BlockEmitter {
  flagsWanted = true;
  readonly #region: Region;
  readonly #site: RegionSite;
  protected readonly locals: RegionLocals;
  readonly loops: Loops;
  readonly #kept: KeptPages;
  readonly #entryFlags: ReadonlyMap<Block, EntryFlags>;
  /** The flags in force are those in memory in a loop's first round, and what the locals say later. */
  #firstInMemory = false;
  #step!: Step;
  #block!: Block;
  /** Instructions of the block from this one on. */
  #remaining = 0;

  constructor(support: Support, region: Region, site: RegionSite) {
    super(new Code(2), support, site.mode);
    this.#region = region;
    this.#site = site;
    this.locals = new RegionLocals(this.code, region);
    this.loops = new Loops(region);
    this.#kept = new KeptPages(this.code, region, this.loops, site.mode);
    this.#entryFlags = flagsAtEntries(region, this.loops);
  }

  get target(): number {
    return this.locals.target;
  }

  /** Emits the whole function. */
  define(module: ModuleBuilder, func: number, name: string): void {
    const { code, locals } = this;
    const region = this.#region;
    defineRegion({ code, locals, region, site: this.#site }, module, func, name, () => {
      if (!this.#startsInMemory(region.entry) && !this.#loopsWithMemory(region.entry)) this.loadFlags();
      emitBlocks(this, region);
    });
  }

  // ---- blocks, called by structure.ts

  beginLoop(loop: Loop): void {
    for (const { pointer, tag } of this.#kept.beginningWith(loop)) {
      const { base, index, scale } = pointer;
      const scaled = index < 0 ? u64(0) : shl(this.gpr64(index), u64(scale));
      const sum = base < 0 ? scaled : add(this.gpr64(base), scaled);
      const address = this.#site.mode === CODE_MODE.code64 ? sum : low32(sum);
      this.code.assign(KEPT + tag, xor(address, u64(1n << 63n)), () => this.code.out.setLocal(tag));
    }
    this.code.flush();
    const { header } = loop;
    if (loop !== this.loops.at(header).at(-1) || !this.#entryFlags.get(header)?.firstInMemory) return;
    if (!this.#loopsWithMemory(header)) this.storeFlags();
    this.code.out.getLocal(this.locals.left).setLocal(this.locals.first);
  }

  emitBlock(block: Block): void {
    const { code } = this;
    const { steps } = block;
    this.#block = block;
    this.#beginFlags(block);
    code.out.getLocal(this.locals.left).i32(steps.length).u8(0x6b).setLocal(this.locals.left);
    const wanted = flagsWantedIn(steps);
    steps.forEach((step, i) => {
      this.#step = step;
      this.#remaining = steps.length - i;
      this.flagsWanted = wanted[i]!;
      const { effects } = step;
      if (effects.readsFlags || effects.writesFlags === 'maybe') this.#settleFlags();
      this.begin(step.insn);
      this.describe();
      code.flush();
      if (effects.writesFlags === 'always') this.#firstInMemory = false;
    });
    // Other blocks of the region find the flags in locals.
    if (this.#firstInMemory || block.edges.some((e) => e.block !== null)) this.#settleFlags();
  }

  /** What is known of the flags where a block begins. */
  #beginFlags(block: Block): void {
    this.recipe = null;
    this.flagsInMemory = this.#startsInMemory(block);
    const known = this.#entryFlags.get(block);
    this.#firstInMemory = known?.firstInMemory ?? false;
    if (known === undefined) return;
    this.recallFlags(known);
    if (!this.#firstInMemory) this.recipe = { kind: known.kind, zeroB: known.b?.register === -1 && known.b.plus === 0 };
  }

  /** Makes the locals say what the flags are. */
  #settleFlags(): void {
    if (this.flagsInMemory) this.loadFlags();
    if (!this.#firstInMemory) return;
    const { code, locals } = this;
    code.out.getLocal(locals.left).i32(this.#block.steps.length).u8(0x6a).getLocal(locals.first).u8(0x46);
    code.hintUnlikely();
    code.block(0x04, 'first');
    this.loadFlags();
    code.end();
    this.#firstInMemory = false;
  }

  checkBudget(to: Block): void {
    const { code } = this;
    const { out } = code;
    out.getLocal(this.locals.left).i32(to.longest).u8(0x48);
    code.hintUnlikely();
    code.block(0x04, 'if');
    out.i32(this.#site.recordAt(to.offset)).setLocal(this.locals.next).i32(0).setLocal(this.locals.why);
    code.br('exit');
    code.end();
  }

  leaveBy(block: Block, edge: Edge): void {
    const { code } = this;
    this.#block = block;
    const { offset } = edge;
    if (offset < 0 || offset >= 4096) this.#transfer(this.#cut(add(this.#pageRip(), u64(offset))));
    else {
      const record = code.load(u32(0), 32, this.#site.table + offset * 4);
      this.#lookupIf(isZero(record), () => add(this.#pageRip(), u64(offset)));
      this.#goOn(record);
    }
    code.flush();
  }

  goesTo(edge: Edge): void {
    this.code.out.getLocal(this.locals.offset).i64(BigInt(edge.offset)).u8(0x51);
  }

  leaveIndirectly(block: Block): void {
    this.#block = block;
    this.flagsInMemory = false;
    this.#transfer(add(this.#pageRip(), this.code.local(64, this.locals.offset)));
    this.code.flush();
  }

  /** A loop that the region begins with finds the flags in memory in its first round, or does not want them. */
  #loopsWithMemory(block: Block): boolean {
    if (block !== this.#region.entry || this.loops.at(block).length !== 1) return false;
    return this.#entryFlags.get(block)?.firstInMemory ?? !needsFlags(block);
  }

  /** The flags are still in memory when control comes from outside. */
  #startsInMemory(block: Block): boolean {
    return block === this.#region.entry && !block.isLoop && this.#region.reducible;
  }

  // ---- control

  #pageRip(): Expr<64> {
    return this.code.local(64, this.locals.page);
  }

  /** Cuts an offset of the code segment to its width. */
  #cut(offset: Expr<64>): Expr<64> {
    return this.mode64 ? offset : low32(offset);
  }

  nextRip(): Expr<64> {
    return this.#cut(add(this.#pageRip(), u64(this.#step.offset + this.insn.length)));
  }

  /** RDTSC reads the time before it: the budget with this instruction and those after it in the block uncounted. */
  timestamp(): Expr<64> {
    const left = this.code.local(32, this.locals.left);
    return sub(this.state(TSC_ORIGIN, 64), zeroExtend(add(left, u32(this.#remaining)), 64));
  }

  /** Where an access through a kept page finds its bytes; what is kept changes where it is another page. */
  protected override translate(address: Expr<64>, width: AccessWidth, access: number): Expr<32> {
    const kept = this.#kept.find(this.#block, address, access !== ACCESS.read);
    if (kept === null) return super.translate(address, width, access);
    const { code } = this;
    const tag = code.state(64, KEPT + kept.tag, () => void code.out.getLocal(kept.tag));
    const va = code.let(address);
    const offset = code.variable(sub(va, tag));
    const beyond = (): Expr<1> => ltU(u64(4096 - width / 8), offset.get());
    code.ifEver(beyond(), () => {
      const entry = this.tlbEntry(va, access);
      code.assign(KEPT + kept.tag, entry.tag, () => code.out.setLocal(kept.tag));
      code.assign(KEPT + kept.host, entry.host(), () => code.out.setLocal(kept.host));
      offset.set(sub(va, entry.tag));
      this.exitIf(beyond(), EXIT.miss, va, (width / 8) | (access << 8));
    });
    const host = code.state(32, KEPT + kept.host, () => void code.out.getLocal(kept.host));
    return code.let(add(truncate(offset.get(), 32), host));
  }

  protected exitIf(condition: Expr<1>, reason: Exit, address: Expr<64> | null, info: number): void {
    const { code } = this;
    const record = this.#site.recordAt(this.#step.offset);
    // Who receives the exit adds the instruction that has not happened.
    const refund = this.#remaining - 1;
    const executed = this.#block.steps.length - refund;
    const first = this.#firstInMemory;
    const label = this.flagsInMemory ? 'saved' : 'exit';
    code.ifEver(condition, () => {
      if (address !== null) {
        code.store(u32(0), address, FAULT_VA);
        code.store(u32(0), u32(info), FAULT_INFO);
      }
      code.raw(() => {
        const { out } = code;
        if (refund !== 0) out.getLocal(this.locals.left).i32(refund).u8(0x6a).setLocal(this.locals.left);
        out.i32(record).setLocal(this.locals.next).i32(reason).setLocal(this.locals.why);
        if (first) {
          out.getLocal(this.locals.left).i32(executed).u8(0x6a).getLocal(this.locals.first).u8(0x46);
          out.u8(0x0d).unsigned(code.depth('saved'));
        }
        code.br(label);
      });
    });
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
    code.assign(KEY.offset, sub(target, this.#pageRip()), () => code.out.setLocal(this.locals.offset));
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
    // The code segment's base is 0.
    const to = code.let(target);
    const entry = this.executeEntry(to);
    const offset = code.let(sub(to, code.load(entry, 64, TLB_EXECUTE)));
    this.#lookupIf(leU(u64(4096), offset), () => to);
    const slot = code.let(add(code.load(entry, 32, TLB_EXECUTE + 8), shl(truncate(offset, 32), u32(2))));
    const record = code.let(code.load(slot, 32));
    this.#lookupIf(isZero(record), () => to);
    code.store(u32(0), sub(to, offset), PAGE_RIP);
    this.#goOn(record);
  }

  #goOn(record: Expr<32>): void {
    const { code } = this;
    const label = this.flagsInMemory ? 'saved' : 'exit';
    code.assign(KEY.next, record, () => code.out.setLocal(this.locals.next));
    code.raw(() => {
      code.out.i32(0).setLocal(this.locals.why);
      code.br(label);
    });
  }

  /** Leaves because nothing is decoded at `rip`. */
  #lookupIf(condition: Expr<1>, rip: () => Expr<64>): void {
    const { code } = this;
    const record = this.#site.recordAt(this.#block.steps[0]!.offset);
    const label = this.flagsInMemory ? 'saved' : 'exit';
    code.ifEver(condition, () => {
      code.store(u32(0), rip(), RIP);
      code.raw(() => {
        code.out.i32(record).setLocal(this.locals.next).i32(EXIT.lookup).setLocal(this.locals.why);
        code.br(label);
      });
    });
  }
}

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
