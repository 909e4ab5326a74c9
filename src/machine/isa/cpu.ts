/**
 * The processor as instruction semantics see it: operands, registers, memory, flags, control transfer.
 *
 * Semantics functions are written against this class only. A back-end supplies where operands, registers and flags
 * live; memory, segmentation, the stack and operand access are built here once for all.
 *
 * The rules for authors:
 *  1. An expression has the value it had where it was written, whatever is assigned later (code.ts keeps this).
 *  2. All checks before the first commit: read, load, writable and faultIf check; write, set… and storeAt commit.
 *  3. A read-modify-write operand is translated once, for writing, by its read.
 *  4. Back-ends may know more (constants), never differ.
 */
import {
  ACCESS,
  DIRECTION,
  EXIT,
  type Exit,
  FS,
  FSW,
  RCX,
  RSP,
  SEG_BASE,
  SEG_LOW,
  SEG_READ_SPAN,
  SEG_WRITE_SPAN,
  SEGMENT_SIZE,
  SEGMENTS,
  SLOW,
  SLOW_FLAGS,
  SS,
  STACK_MASK,
  TLB_INDEX_MASK,
  TLB_READ,
  TLB_WRITE,
} from '../engine/layout.ts';
import type { Code, LoadWidth } from './code.ts';
import {
  add,
  and,
  bit,
  callPure,
  constant,
  constantValue,
  type Expr,
  isZero,
  leS,
  low32,
  ltS,
  ltU,
  ne,
  negate,
  or,
  select,
  shl,
  shr,
  sub,
  truncate,
  u8,
  u32,
  u64,
  type Width,
  xor,
  zeroExtend,
} from './expr.ts';
import { conditionOn, type Recipe, statusWord } from './flags.ts';
import type { Insn, Operand } from './insn.ts';
import { ASSIST } from './row.ts';
import type { Support } from './support.ts';
import { type V, vZero } from './vector.ts';

/** Fewer iterations than this are done one by one. */
const LEAST_AT_ONCE = 8;

/** Widths of one memory access. */
export type AccessWidth = LoadWidth | 256;

/** What a string instruction accesses: elements from an offset of a segment on. */
export interface Element {
  readonly segment: number;
  readonly offset: Expr<64>;
  readonly write: boolean;
}

/** Exception summary: an unmasked x87 exception is pending. */
const FSW_ES = 0x80;

/** Stack mask where SS.B is set. */
const STACK_32 = 0xffff_ffff;
const cutBy = (e: Expr<64>, mask: Expr<64>): Expr<64> => (constantValue(mask) === STACK_32 ? low32(e) : and(e, mask));

/** Bits 255:128 of a vector register operand. */
const upperHalf = (operand: Operand): Operand => ({ ...operand, file: 'ymm', width: 128 });

export abstract class Cpu {
  readonly code: Code;
  readonly support: Support;
  /** The instruction being described; only its shape may be used (operand kinds and widths, sizes, mode, condition, prefixes). */
  insn!: Insn;
  /** Above 0 inside `if` and loops: what is assigned there may not happen. */
  protected nesting = 0;
  #committed = false;
  #host: Expr<32> | null = null;

  constructor(code: Code, support: Support) {
    this.code = code;
    this.support = support;
  }

  /** Called by back-ends before each instruction. */
  protected begin(insn: Insn): void {
    this.insn = insn;
    this.#committed = false;
    this.#host = null;
  }

  /** The instruction's semantics, after the checks that its register file asks for. */
  protected describe(): void {
    const { unit, semantics } = this.insn.row.operation;
    if (semantics !== ASSIST) {
      if (unit === 'sse') this.assistIfSlow(SLOW.sse);
      else if (unit === 'avx') this.assistIfSlow(SLOW.avx);
      else if (unit === 'x87') this.assistIfSlow(SLOW.x87);
      else if (unit === 'mmx') {
        this.assistIfSlow(SLOW.x87);
        this.assistIf(ne(and(this.state(FSW, 16), constant(16, FSW_ES)), constant(16, 0)));
      }
    }
    semantics(this);
  }

  // ---- what a back-end supplies

  /** The low `width` bits of a register operand of any file. */
  protected abstract readRegister<W extends LoadWidth>(operand: Operand, width: W): Expr<W>;
  /** Writes a register operand: GPRs by x86's width rules, vector registers only the low `value.width` bits. */
  protected abstract writeRegister(operand: Operand, value: Expr<LoadWidth>): void;
  protected abstract immediate(operand: Operand): Expr<Width>;
  /** Leaves with the state as it was before this instruction if the condition holds. */
  protected abstract exitIf(condition: Expr<1>, reason: Exit, address: Expr<64> | null, info: number): void;
  protected abstract commitFlags(recipe: Recipe): void;
  /** The recipe in force if this back-end knows it here, else null. */
  protected abstract knownRecipe(): Recipe | null;
  protected abstract storedFlags(): [kind: Expr<32>, a: Expr<64>, b: Expr<64>];
  protected abstract commitGpr(register: number, value: Expr<64>): void;
  /** Base plus scaled index plus displacement, not yet cut to the address size. */
  protected abstract rawAddress(): Expr<64>;
  protected abstract tlbBase(): Expr<32>;
  /** The TLB bank in force. */
  currentBank(): Expr<32> {
    return this.tlbBase();
  }
  /** Makes another TLB bank the one in force. A commit. */
  abstract switchBank(bank: Expr<32>): void;
  /** Counts one REP iteration; leaves at this instruction when the budget is used up. */
  protected abstract spendIteration(): void;

  /** A word of the state block, by its layout address. */
  abstract state<W extends LoadWidth>(address: number, width: W): Expr<W>;
  /** Overwrites a word of the state block (not a GPR, not the flags). A commit. */
  abstract setState(address: number, value: Expr<LoadWidth>): void;
  abstract gpr64(register: number): Expr<64>;
  /** RIP of the next instruction. */
  abstract nextRip(): Expr<64>;
  /** The TSC as RDTSC reads it. */
  abstract timestamp(): Expr<64>;
  /** False where nothing can observe the status flags this instruction would write. */
  abstract readonly flagsWanted: boolean;
  /** Transfers to the relative target of the encoding. */
  abstract jump(): void;
  abstract jumpIf(condition: Expr<1>): void;
  /** Near transfer to an offset in the code segment; already cut to the operand size. */
  abstract jumpTo(target: Expr<64>): void;
  abstract call(): void;
  abstract callTo(target: Expr<64>): void;
  abstract returnTo(target: Expr<64>): void;

  // ---- shape

  get operandSize(): Width {
    return this.insn.operandSize;
  }
  get mode64(): boolean {
    return this.insn.mode === 64;
  }
  get condition(): number {
    return this.insn.condition;
  }
  width(index: number): Width {
    return this.insn.operands[index]!.width as Width;
  }
  isMemory(index: number): boolean {
    return this.insn.operands[index]!.place === 'memory';
  }

  // ---- operands

  read(index: number): Expr<Width> {
    return this.#read(index, false) as Expr<Width>;
  }

  #read(index: number, aligned: boolean): Expr<LoadWidth> {
    const operand = this.insn.operands[index]!;
    const width = operand.width as LoadWidth;
    switch (operand.place) {
      case 'memory': {
        const address = this.operandAddress(width, operand.access !== 'r');
        if (aligned) this.#requireAligned(address);
        if (operand.access === 'r') return this.#loadLinear(address, width);
        this.#host = this.#translate(address, width, operand.access === 'w' ? ACCESS.write : ACCESS.readWrite);
        return this.code.load(this.#host, width);
      }
      case 'immediate':
      case 'immediate64':
        return this.immediate(operand);
      default:
        return this.readRegister(operand, width);
    }
  }

  write(index: number, value: Expr<Width>): void {
    this.#write(index, value, false);
  }

  #write(index: number, value: Expr<LoadWidth>, aligned: boolean): void {
    const operand = this.insn.operands[index]!;
    if (operand.place !== 'memory') {
      this.writeRegister(operand, value);
    } else {
      let host = this.#host;
      if (host === null) {
        const address = this.operandAddress(value.width as LoadWidth, true);
        if (aligned) this.#requireAligned(address);
        host = this.#translate(address, value.width as LoadWidth, ACCESS.write);
      }
      this.code.store(host, value);
    }
    this.#committed = true;
  }

  /** A 128-bit operand; memory must be 16-byte aligned unless `unaligned`. */
  readVector(index: number, unaligned = false): V {
    return this.#read(index, !unaligned) as V;
  }
  writeVector(index: number, value: V, unaligned = false): void {
    this.#write(index, value, !unaligned);
  }

  /** The halves of a vector operand, lowest first: one of 128 bits, two of 256. `aligned`: memory must be, to its size. */
  readHalves(index: number, aligned = false): readonly V[] {
    const operand = this.insn.operands[index]!;
    if (operand.place !== 'memory') {
      const low = this.readRegister(operand, 128);
      return operand.width === 256 ? [low, this.readRegister(upperHalf(operand), 128)] : [low];
    }
    const host = this.#vectorMemory(operand, ACCESS.read, aligned);
    const low = this.code.load(host, 128);
    return operand.width === 256 ? [low, this.code.load(host, 128, 16)] : [low];
  }
  /** Writes a vector operand as VEX instructions do: in a register the bits above are cleared. */
  writeHalves(index: number, [low, high]: readonly V[], aligned = false): void {
    const operand = this.insn.operands[index]!;
    if (operand.place !== 'memory') {
      this.writeRegister(operand, low!);
      this.writeRegister(upperHalf(operand), high ?? vZero());
    } else {
      const host = this.#vectorMemory(operand, ACCESS.write, aligned);
      this.code.store(host, low!);
      if (high !== undefined) this.code.store(host, high, 16);
    }
    this.#committed = true;
  }
  #vectorMemory({ width }: Operand, access: number, aligned: boolean): Expr<32> {
    const size = width as AccessWidth;
    const address = this.operandAddress(size, access !== ACCESS.read);
    if (aligned) this.#requireAligned(address, size / 8);
    return this.#translate(address, size, access);
  }

  #requireAligned(address: Expr<64>, bytes = 16): void {
    this.faultIf(negate(isZero(and(truncate(address, 32), u32(bytes - 1)))), EXIT.alignment);
  }

  // ---- addresses

  /** Offset of the memory operand in its segment, cut to the address size. */
  effectiveAddress(): Expr<64> {
    return this.cutToAddressSize(this.rawAddress());
  }

  cutToAddressSize(e: Expr<64>): Expr<64> {
    const size = this.insn.addressSize;
    return size === 64 ? e : size === 32 ? low32(e) : and(e, u64(0xffff));
  }

  /** Linear address of the memory operand, segment-checked for an access of `width` bits. */
  operandAddress(width: AccessWidth, write: boolean): Expr<64> {
    return this.linear(this.insn.memory!.segment, this.effectiveAddress(), width, write);
  }

  /** Linear address of an offset in a segment (ES to GS), checked against limit and type outside 64-bit mode. */
  linear(segment: number, offset: Expr<64>, width: AccessWidth, write: boolean): Expr<64> {
    const at = SEGMENTS + segment * SEGMENT_SIZE;
    if (this.mode64) return this.linearUnchecked(segment, offset);
    const within = zeroExtend(sub(truncate(offset, 32), this.state(at + SEG_LOW, 32)), 64);
    const last = add(within, u64(width / 8 - 1));
    this.faultIf(ltS(this.state(at + (write ? SEG_WRITE_SPAN : SEG_READ_SPAN), 64), last), EXIT.segment);
    return this.linearUnchecked(segment, offset);
  }

  /** The same without the checks. */
  linearUnchecked(segment: number, offset: Expr<64>): Expr<64> {
    if (this.mode64 && segment < FS) return offset;
    const linear = add(this.state(SEGMENTS + segment * SEGMENT_SIZE + SEG_BASE, 64), offset);
    return this.mode64 ? linear : low32(linear);
  }

  /** Whether an access to `bytes` bytes, at most a page, passes the checks. */
  #allows(segment: number, offset: Expr<64>, bytes: Expr<64>, write: boolean): Expr<1> {
    const at = SEGMENTS + segment * SEGMENT_SIZE;
    const within = zeroExtend(sub(truncate(offset, 32), this.state(at + SEG_LOW, 32)), 64);
    const last = this.code.let(sub(add(within, bytes), u64(1)));
    const span = this.state(at + (write ? SEG_WRITE_SPAN : SEG_READ_SPAN), 64);
    return leS(last, span);
  }

  // ---- registers

  gpr<W extends Width>(register: number, width: W): Expr<W> {
    return truncate(this.gpr64(register), width);
  }

  /** Writes a whole register; 32-bit results are zero-extended by the caller with zeroExtend. */
  setGpr(register: number, value: Expr<64>): void {
    this.commitGpr(register, value);
    this.#committed = true;
  }

  /** Writes the low `value.width` bits by x86's rules: 32-bit writes clear the upper half, narrower ones keep the rest. */
  setGprPart(register: number, value: Expr<Width>): void {
    this.writeRegister({ place: 'fixed', file: 'gpr', register, width: value.width, access: 'w', high: false }, value);
    this.#committed = true;
  }

  /** A register used as an address or counter by the address size (RSI, RDI, RCX of string instructions). */
  addressRegister(register: number): Expr<64> {
    return this.cutToAddressSize(this.gpr64(register));
  }
  setAddressRegister(register: number, value: Expr<64>): void {
    this.setGprPart(register, truncate(value, this.insn.addressSize));
  }

  // ---- memory

  load<W extends LoadWidth>(segment: number, offset: Expr<64>, width: W): Expr<W> {
    return this.#loadLinear(this.linear(segment, offset, width, false), width);
  }

  #loadLinear<W extends LoadWidth>(address: Expr<64>, width: W): Expr<W> {
    return this.code.load(this.#translate(address, width, ACCESS.read), width);
  }

  /** Checks that a store will succeed and returns where it goes. */
  writable(segment: number, offset: Expr<64>, width: LoadWidth): Expr<32> {
    return this.#translate(this.linear(segment, offset, width, true), width, ACCESS.write);
  }

  /** Checks that a load will succeed and returns where from. */
  readable(linear: Expr<64>, width: LoadWidth): Expr<32> {
    return this.#translate(linear, width, ACCESS.read);
  }

  /** Checks a memory operand for reading and writing at a linear address of the author's making (BTS m, r). Returns where it is. */
  modifiable(linear: Expr<64>, width: LoadWidth): Expr<32> {
    return this.#translate(linear, width, ACCESS.readWrite);
  }
  /** Reads what `writable` or `modifiable` found. */
  loadAt<W extends LoadWidth>(host: Expr<32>, width: W): Expr<W> {
    return this.code.load(host, width);
  }
  loadFrom<W extends LoadWidth>(linear: Expr<64>, width: W): Expr<W> {
    return this.#loadLinear(linear, width);
  }

  storeAt(host: Expr<32>, value: Expr<LoadWidth>): void {
    this.code.store(host, value);
    this.#committed = true;
  }

  /** Pushes the low bits of a value; the width is 16, 32 or 64. */
  push(value: Expr<Width>): void {
    const bytes = value.width / 8;
    const top = this.stackOffset(sub(this.gpr64(RSP), u64(bytes)));
    const host = this.writable(SS, top, value.width);
    this.storeAt(host, value);
    this.setStackPointer(top);
  }

  pop<W extends Width>(width: W): Expr<W> {
    const top = this.stackOffset(this.gpr64(RSP));
    const value = this.load(SS, top, width);
    this.setStackPointer(this.stackOffset(add(top, u64(width / 8))));
    return value;
  }

  /** Cuts a stack offset to the stack address size. */
  stackOffset(e: Expr<64>): Expr<64> {
    return this.mode64 ? e : cutBy(e, this.stackMask());
  }
  /** Of a 16-bit stack pointer the upper half of ESP stays; the upper half of RSP is cleared. */
  setStackPointer(offset: Expr<64>): void {
    const mask = this.mode64 ? null : this.stackMask();
    if (mask === null || constantValue(mask) === STACK_32) return this.setGpr(RSP, this.stackOffset(offset));
    this.setGpr(RSP, or(and(offset, mask), and(this.gpr64(RSP), xor(mask, u64(STACK_32)))));
  }
  /** Mask of stack offsets outside 64-bit mode. */
  protected stackMask(): Expr<64> {
    return this.state(STACK_MASK, 64);
  }

  /** Looks the address up in the TLB; a miss, or an access that leaves the page, exits before the instruction. */
  #translate(address: Expr<64>, width: AccessWidth, access: number): Expr<32> {
    this.#check();
    return this.translate(address, width, access);
  }

  /** Where generated code finds the bytes of a linear address. Back-ends without a TLB supply their own. */
  protected translate(address: Expr<64>, width: AccessWidth, access: number): Expr<32> {
    const va = this.code.let(address);
    const entry = this.tlbEntry(va, access);
    const offset = this.code.let(sub(va, entry.tag));
    this.exitIf(ltU(u64(4096 - width / 8), offset), EXIT.miss, va, (width / 8) | (access << 8));
    return this.code.let(add(truncate(offset, 32), entry.host()));
  }

  /** The TLB entry for a linear address: the page that it is for, and where that is. */
  protected tlbEntry(va: Expr<64>, access: number): { tag: Expr<64>; host: () => Expr<32> } {
    const tlb = access === ACCESS.read ? TLB_READ : TLB_WRITE;
    const at = this.code.let(add(and(shr(truncate(va, 32), u8(8)), u32(TLB_INDEX_MASK)), this.tlbBase()));
    return { tag: this.code.load(at, 64, tlb), host: () => this.code.load(at, 32, tlb + 8) };
  }

  /**
   * Where `bytes` at a linear address lie, by an entry of any bank; where that has none, or they leave the page, the instruction is
   * TypeScript's. For what is not the access of an operand.
   */
  atHand(linear: Expr<64>, bytes: Expr<64>, access: number, bank: Expr<32> = this.tlbBase()): Expr<32> {
    const tlb = access === ACCESS.read ? TLB_READ : TLB_WRITE;
    const va = this.code.let(linear);
    const entry = this.code.let(add(and(truncate(shr(va, u64(8)), 32), u32(TLB_INDEX_MASK)), bank));
    const offset = this.code.let(sub(va, this.code.load(entry, 64, tlb)));
    this.assistIf(ltU(sub(u64(4096), bytes), offset));
    return this.code.let(add(truncate(offset, 32), this.code.load(entry, 32, tlb + 8)));
  }

  /** Address of the execute TLB entry for a linear address, less TLB_EXECUTE. @see executeOffset */
  protected executeEntry(linear: Expr<64>): Expr<32> {
    const low = this.code.let(truncate(linear, 32));
    const index = and(xor(shr(low, u8(8)), shr(low, u8(18))), u32(TLB_INDEX_MASK));
    return this.code.let(add(index, this.tlbBase()));
  }

  // ---- flags

  setFlags(recipe: Recipe): void {
    if (this.flagsWanted) this.commitFlags(recipe);
    this.#committed = true;
  }

  /** The value of a condition code (0 to 15). */
  evaluate(code: number): Expr<1> {
    const recipe = this.knownRecipe();
    if (recipe !== null) return conditionOn(recipe, code);
    const [kind, a, b] = this.storedFlags();
    const even = callPure(1, this.support.condition[code >> 1]!, kind, a, b);
    return code & 1 ? negate(even) : even;
  }

  carry(): Expr<1> {
    return this.evaluate(2);
  }

  statusWord(): Expr<32> {
    const recipe = this.knownRecipe();
    if (recipe !== null) return statusWord(recipe);
    const [kind, a, b] = this.storedFlags();
    return callPure(32, this.support.statusWord, kind, a, b);
  }

  // ---- faults and structure

  /** Raises an exception, or leaves the instruction to TypeScript, if the condition holds. */
  faultIf(condition: Expr<1>, reason: Exit): void {
    this.#check();
    this.exitIf(condition, reason, null, 0);
  }

  /** Leaves the whole instruction to its TypeScript handler. */
  assist(): void {
    this.exitIf(bit(true), EXIT.assist, null, 0);
  }
  assistIf(condition: Expr<1>): void {
    this.faultIf(condition, EXIT.assist);
  }
  /** Leaves to TypeScript while any of the SLOW bits is set. */
  assistIfSlow(bits: number): void {
    this.assistIf(ne(and(this.state(SLOW_FLAGS, 32), u32(bits)), u32(0)));
  }

  if(condition: Expr<1>, then: () => void, otherwise: (() => void) | null = null): void {
    const known = constantValue(condition) !== null;
    if (!known) this.nesting++;
    this.code.if(condition, then, otherwise);
    if (!known) this.nesting--;
  }

  /**
   * A string instruction: once, or with REP as often as rCX says. Registers are up to date after every iteration, so a
   * fault or an interrupt resumes with what is left. `body` returns the condition to go on, or null; `end` describes what
   * happens when a repetition ends, unless there was none.
   * With 32-bit addresses in 64-bit mode processors first clear the upper half of RCX and of the index registers named,
   * even for a count of zero or before a fault.
   * @param bulk does some iterations at once, where that is possible, and leaves at least one (see atOnce)
   */
  repeat(
    body: () => Expr<1> | null,
    end: (() => void) | null = null,
    indexes: readonly number[] = [],
    bulk: (() => void) | null = null,
  ): void {
    if (this.insn.rep === 'none') {
      body();
      return;
    }
    if (this.mode64 && this.insn.addressSize === 32)
      for (const n of [RCX, ...indexes]) this.commitGpr(n, zeroExtend(this.gpr(n, 32), 64));
    this.nesting++;
    this.code.loop('repeat', () => {
      this.#committed = false;
      this.#host = null;
      this.code.if(negate(isZero(this.addressRegister(RCX))), () => {
        const wide = this.insn.addressSize === (this.mode64 ? 64 : 32);
        if (bulk !== null && wide && this.iterationsLeft() !== null) {
          bulk();
          this.#committed = false;
          this.#host = null;
        }
        const goOn = body();
        const left = this.code.let(sub(this.addressRegister(RCX), u64(1)));
        this.setAddressRegister(RCX, left);
        const more = negate(isZero(left));
        this.code.if(
          goOn === null ? more : and(more, goOn),
          () => {
            this.spendIteration();
            this.code.raw(() => this.code.br('repeat'));
          },
          end,
        );
      });
    });
    this.nesting--;
  }

  /**
   * How many iterations, beyond the one that has begun, can be done at once: all but the last, as many as the budget lasts,
   * ascending, within the pages of the first elements; null where the back-end counts one by one.
   * @param offsets of the elements in their pages
   */
  iterationsAtOnce(width: Width, offsets: readonly Expr<64>[]): Expr<32> {
    const least = (a: Expr<32>, b: Expr<32>): Expr<32> => select(ltS(a, b), a, b);
    const wanted = this.code.let(sub(this.addressRegister(RCX), u64(1)));
    let count = this.code.let(truncate(select(ltU(wanted, u64(4096)), wanted, u64(4096)), 32));
    for (const offset of offsets) {
      const room = shr(sub(u32(4096), and(truncate(offset, 32), u32(4095))), u8(Math.log2(width / 8)));
      count = this.code.let(least(count, this.code.let(room)));
    }
    return this.code.let(least(count, this.iterationsLeft()!));
  }
  /** Whether a direction and a number of iterations make it worth while, and the segments of the elements allow it. */
  worthAtOnce(count: Expr<32>, width: Width, elements: readonly Element[]): Expr<1> {
    let worth = and(ltS(u32(LEAST_AT_ONCE - 1), count), ne(this.state(DIRECTION, 64), u64(-1)));
    if (this.mode64) return worth;
    const bytes = this.code.let(shl(zeroExtend(count, 64), u8(Math.log2(width / 8))));
    for (const { segment, offset, write } of elements) worth = and(worth, this.#allows(segment, offset, bytes, write));
    return worth;
  }
  /** After `count` iterations at once: counts them and moves RCX and the index registers. */
  advanceAtOnce(count: Expr<32>, width: Width, indexes: readonly number[]): void {
    const wide = this.code.let(zeroExtend(count, 64));
    this.spendIterations(count);
    this.setAddressRegister(RCX, sub(this.gpr64(RCX), wide));
    const bytes = this.code.let(shl(wide, u8(Math.log2(width / 8))));
    for (const register of indexes) this.setAddressRegister(register, add(this.gpr64(register), bytes));
  }
  /** Iterations that the budget lasts for, signed; null where iterations are counted one by one. */
  protected iterationsLeft(): Expr<32> | null {
    return null;
  }
  protected spendIterations(_count: Expr<32>): void {}

  /** For back-ends whose own setters commit. */
  protected markCommitted(): void {
    this.#committed = true;
  }

  #check(): void {
    if (this.#committed)
      throw new Error(
        `${this.insn.row.operation.mnemonic}: a check after the first commit: the fault would not be precise`,
      );
  }
}
