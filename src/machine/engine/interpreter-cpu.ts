/**
 * Back-end I: binds semantics to the fields of decoded records.
 *
 * A *hot* handler is an arm of the interpreter's loop: ip, budget and the TLB bank are locals. A *cold* handler is a
 * function (ip, tlb) → next ip, or 0 to leave with the reason in REASON; it reaches the budget through memory.
 */
import { type Code, LOAD, type LoadWidth, STORE } from '../isa/code.ts';
import { Cpu } from '../isa/cpu.ts';
import {
  add,
  and,
  constant,
  type Expr,
  isNegative,
  isZero,
  leU,
  ne,
  shl,
  shr,
  signExtend,
  sub,
  truncate,
  u32,
  u64,
  type Width,
  zeroExtend,
} from '../isa/expr.ts';
import { kindCode, type Recipe, storedA, storedB } from '../isa/flags.ts';
import type { Operand, RegisterFile } from '../isa/insn.ts';
import type { Support } from '../isa/support.ts';
import {
  BUDGET,
  CC_A,
  CC_B,
  CC_KIND,
  CODE_MASK,
  CS,
  ENTRY_COUNTERS,
  EXIT,
  type Exit,
  FAULT_INFO,
  FAULT_VA,
  FPR,
  GPR,
  JUMP_SOURCES,
  PAGE_RIP,
  REASON,
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
} from './layout.ts';
import { isAbsolute64, RECORD_SIZE, type Shaped } from './record.ts';

/** Local 0 of both kinds of handlers. */
export const IP = 0;
/** Keys of mutable state for code.ts. */
const KEY = { registers: 1, kind: 2, a: 3, b: 4, ip: 5, budget: 6, vector: 7, x87: 8, words: 9, upper: 10 };

const fileKey = (file: RegisterFile): number =>
  file === 'gpr' ? KEY.registers : file === 'xmm' ? KEY.vector : file === 'ymm' ? KEY.upper : KEY.x87;
const fileBase = (file: RegisterFile): number =>
  file === 'gpr' ? GPR : file === 'xmm' ? XMM : file === 'ymm' ? YMM_HIGH : FPR;
const fixedSlot = (o: Operand): number => (o.file === 'gpr' ? o.register * 8 + (o.high ? 1 : 0) : o.register * 16);

export interface InterpreterLocals {
  /** Local index of the budget, or -1 when it is in memory (cold). */
  readonly budget: number;
  readonly tlb: number;
  /** Local index of the exit reason, or -1 (cold). */
  readonly reason: number;
}

export class InterpreterCpu extends Cpu {
  readonly flagsWanted = true;
  readonly #locals: InterpreterLocals;
  #record = 0;
  #jumped = false;
  #recipe: Recipe | null = null;
  #local = false;

  constructor(code: Code, support: Support, locals: InterpreterLocals) {
    super(code, support);
    this.#locals = locals;
  }

  /** Describes one instruction whose record is at ip + 16 * n of the handler. */
  step({ insn, local }: Shaped, n: number): void {
    this.#record = n * RECORD_SIZE;
    this.#jumped = false;
    this.#local = local;
    this.begin(insn);
    if (n === 0) this.#recipe = null;
    else this.#setBudget(sub(this.#budget(), u32(1)));
    this.describe();
  }

  /** Goes on with the next record, unless the last instruction went elsewhere on every path. */
  advance(records: number): void {
    if (!this.#jumped) this.#setIp(add(this.#ip(), u32(records * RECORD_SIZE)));
  }

  // ---- operands

  protected readRegister<W extends LoadWidth>(operand: Operand, width: W): Expr<W> {
    const { file } = operand;
    if (operand.place === 'fixed' || file === 'st') {
      const at = fileBase(file) + fixedSlot(operand);
      return this.code.state(width, fileKey(file), () => this.code.out.i32(0).memory(LOAD[width], at));
    }
    const push = this.#slotOf(operand);
    return this.code.state(width, fileKey(file), () => {
      push();
      this.code.out.memory(LOAD[width], fileBase(file));
    });
  }

  protected writeRegister(operand: Operand, value: Expr<LoadWidth>): void {
    const { file } = operand;
    const whole = file === 'gpr' && value.width === 32 ? zeroExtend(value as Expr<32>, 64) : value;
    const fixed = operand.place === 'fixed' || file === 'st';
    const base = fileBase(file) + (fixed ? fixedSlot(operand) : 0);
    const push = fixed ? () => void this.code.out.i32(0) : this.#slotOf(operand);
    this.code.assign(fileKey(file), whole, () => this.code.out.memory(STORE[whole.width as LoadWidth], base), push);
    // Writing an MMX register sets the sign and exponent of the x87 register it lies in.
    if (file === 'mmx') this.code.assign(KEY.x87, u32(0xffff), () => this.code.out.memory(STORE[16], base + 8), push);
  }

  /** Pushes a register operand's slot. Captures the record offset: lowering happens later. */
  #slotOf(operand: Operand): () => void {
    const { out } = this.code;
    if (operand.place === 'vvvv') {
      const at = this.#record + 5;
      const xmm = operand.file === 'xmm' || operand.file === 'ymm';
      // byte 5 holds vvvv << 2: GPR slots are vvvv * 8, vector slots vvvv * 16
      return () =>
        void out
          .getLocal(IP)
          .memory(0x2d, at)
          .i32(0x3c)
          .u8(0x71)
          .i32(xmm ? 2 : 1)
          .u8(0x74);
    }
    if (operand.place === 'is4') {
      // the register is in the upper half of the immediate's low byte
      const at = this.#record + 12;
      return () => void out.getLocal(IP).memory(0x2d, at).i32(0xf0).u8(0x71);
    }
    const at = this.#record + (operand.place === 'reg' ? 2 : 3);
    return () => void out.getLocal(IP).memory(0x2d, at);
  }

  gpr64(register: number): Expr<64> {
    return this.#word(64, KEY.registers, GPR + register * 8);
  }

  protected commitGpr(register: number, value: Expr<64>): void {
    this.writeRegister({ place: 'fixed', file: 'gpr', register, width: 64, access: 'w', high: false }, value);
  }

  protected immediate(operand: Operand): Expr<Width> {
    if (operand.place === 'immediate64') return this.#field(64, 8, 0x29);
    const width = operand.width as Width;
    if (width === 64) return signExtend(this.#field(32, 12, 0x28), 64);
    return this.#field(width, 12, LOAD[width]);
  }

  protected rawAddress(): Expr<64> {
    const { insn } = this;
    if (isAbsolute64(insn)) return this.#field(64, 8, 0x29);
    const { out } = this.code;
    const at = this.#record;
    const base = this.code.state(
      64,
      KEY.registers,
      () =>
        void out
          .getLocal(IP)
          .memory(0x2d, at + 3)
          .memory(0x29, GPR),
    );
    const disp = signExtend(this.#field(32, 8, 0x28), 64);
    if (insn.memory!.index < 0) return add(base, disp);
    const index = this.code.state(
      64,
      KEY.registers,
      () =>
        void out
          .getLocal(IP)
          .memory(0x2d, at + 4)
          .memory(0x29, GPR),
    );
    return add(add(base, shl(index, and(this.#field(8, 5, 0x2d), truncate(u32(3), 8)))), disp);
  }

  protected tlbBase(): Expr<32> {
    return this.code.local(32, this.#locals.tlb);
  }

  state<W extends LoadWidth>(address: number, width: W): Expr<W> {
    return this.#word(width, address >= FPR && address < XMM ? KEY.x87 : KEY.words, address);
  }
  setState(address: number, value: Expr<LoadWidth>): void {
    this.code.assign(
      address >= FPR && address < XMM ? KEY.x87 : KEY.words,
      value,
      () => this.code.out.memory(STORE[value.width as LoadWidth], address),
      () => void this.code.out.i32(0),
    );
    this.markCommitted();
  }

  switchBank(bank: Expr<32>): void {
    this.setState(TLB_BASE, bank);
    const { tlb } = this.#locals;
    this.code.assign(KEY.words, bank, () => this.code.out.setLocal(tlb));
  }

  // ---- control

  nextRip(): Expr<64> {
    const field = this.code.let(this.#field(16, 6, 0x2f));
    const wide = zeroExtend(field, 32);
    const end = add(and(wide, u32(0xfff)), shr(wide, u32(12)));
    const rip = add(this.#word(64, KEY.words, PAGE_RIP), zeroExtend(end, 64));
    return this.mode64 ? rip : and(rip, u64(0xffff_ffff));
  }

  timestamp(): Expr<64> {
    // The budget already counts this instruction; RDTSC reads the time before it.
    return sub(this.#word(64, KEY.words, TSC_ORIGIN), signExtend(add(this.#budget(), u32(1)), 64));
  }

  protected exitIf(condition: Expr<1>, reason: Exit, address: Expr<64> | null, info: number): void {
    const { code } = this;
    const record = this.#record;
    code.if(condition, () => {
      if (address !== null) {
        code.store(u32(0), address, FAULT_VA);
        code.store(u32(0), u32(info), FAULT_INFO);
      }
      if (record !== 0) this.#setIp(add(this.#ip(), u32(record)));
      this.#leave(reason);
    });
  }

  protected commitFlags(recipe: Recipe): void {
    const { code } = this;
    const a = code.let(storedA(recipe)),
      b = code.let(storedB(recipe));
    const kind = kindCode(recipe.kind, recipe.width);
    code.assign(
      KEY.kind,
      u32(kind),
      () => code.out.memory(0x36, CC_KIND),
      () => void code.out.i32(0),
    );
    code.assign(
      KEY.a,
      a,
      () => code.out.memory(0x37, CC_A),
      () => void code.out.i32(0),
    );
    code.assign(
      KEY.b,
      b,
      () => code.out.memory(0x37, CC_B),
      () => void code.out.i32(0),
    );
    this.#recipe = this.nesting > 0 ? null : { ...recipe, a: code.let(recipe.a), b: code.let(recipe.b) };
  }

  protected knownRecipe(): Recipe | null {
    return this.#recipe;
  }

  protected storedFlags(): [Expr<32>, Expr<64>, Expr<64>] {
    return [this.#word(32, KEY.kind, CC_KIND), this.#word(64, KEY.a, CC_A), this.#word(64, KEY.b, CC_B)];
  }

  protected override iterationsLeft(): Expr<32> {
    return this.#budget();
  }
  protected override spendIterations(count: Expr<32>): void {
    this.#setBudget(sub(this.#budget(), count));
  }

  protected spendIteration(): void {
    const { code } = this;
    const record = this.#record;
    this.#setBudget(sub(this.#budget(), u32(1)));
    code.if(isNegative(this.#budget()), () => {
      if (record !== 0) this.#setIp(add(this.#ip(), u32(record)));
      this.#leave(EXIT.budget);
    });
  }

  jump(): void {
    this.#jumped = true;
    this.#jumpRelative();
    this.#countEntry();
    this.#stopIfOverBudget();
  }

  jumpIf(condition: Expr<1>): void {
    this.#jumped = true;
    const record = this.#record;
    const taken = this.code.let(condition);
    this.code.if(
      taken,
      () => {
        this.#jumpRelative();
        this.#countEntry();
      },
      () => this.#setIp(add(this.#ip(), u32(record + RECORD_SIZE))),
    );
    this.#stopIfOverBudget();
  }

  jumpTo(target: Expr<64>): void {
    this.#jumped = true;
    const { flow, implicitMemory } = this.insn.row.operation;
    const isTable = flow === 'indirect' && !implicitMemory;
    const from = isTable ? this.code.let(add(this.#ip(), u32(this.#record))) : null;
    this.transfer(target);
    // The translator wants to know where jump tables lead.
    if (from !== null) this.code.store(shr(this.#ip(), u32(3)), truncate(shr(from, u32(4)), 16), JUMP_SOURCES);
    this.#countEntry();
    this.#stopIfOverBudget();
  }
  call(): void {
    this.jump();
  }
  callTo(target: Expr<64>): void {
    this.jumpTo(target);
  }
  returnTo(target: Expr<64>): void {
    this.jumpTo(target);
  }

  /** Counts the way to the record at ip, by a jump or from another run; leaves where that makes it hot. What is at ip has not begun: any reason may stop here. */
  #countEntry(): void {
    const { code } = this;
    const counter = code.let(shr(this.#ip(), u32(3)));
    const count = code.let(add(code.load(counter, 16, ENTRY_COUNTERS), constant(16, 1)));
    code.store(counter, count, ENTRY_COUNTERS);
    code.if(isZero(count), () => this.#leave(EXIT.hot));
  }

  #jumpRelative(): void {
    if (this.#local) {
      this.#goOnAtSlot(EXIT.lookup);
      return;
    }
    const target = add(this.#word(64, KEY.words, PAGE_RIP), signExtend(this.#field(32, 8, 0x28), 64));
    const size = this.operandSize;
    this.transfer(this.mode64 ? target : and(target, u64(size === 16 ? 0xffff : 0xffff_ffff)));
  }

  /** Goes on with another run. It is no transfer: where the budget is used up, nothing may stop here. */
  goOn(): void {
    this.#goOnAtSlot(EXIT.ahead);
    this.code.if(
      isNegative(this.#budget()),
      () => {},
      () => this.#countEntry(),
    );
  }

  /** Goes on at the record in the table slot that the record's disp names; leaves if there is none. */
  #goOnAtSlot(reason: Exit): void {
    const { code } = this;
    const slot = code.let(this.#field(32, 8, 0x28));
    const record = code.let(code.load(slot, 32));
    code.if(isZero(record), () => {
      const offset = shr(and(slot, u32(0x3fff)), u32(2));
      code.store(u32(0), this.#cut(add(this.#word(64, KEY.words, PAGE_RIP), zeroExtend(offset, 64))), RIP);
      this.#leave(reason);
    });
    this.#setIp(record);
  }

  /** Goes on at an offset of the code segment, through the execute TLB. */
  transfer(target: Expr<64>): void {
    const { code } = this;
    const to = code.let(target);
    const linear = code.let(this.#cut(add(this.#word(64, KEY.words, SEGMENTS + CS * SEGMENT_SIZE + SEG_BASE), to)));
    const entry = this.executeEntry(linear);
    const offset = code.let(sub(linear, code.load(entry, 64, TLB_EXECUTE)));
    const missing = (condition: Expr<1>) =>
      code.if(condition, () => {
        code.store(u32(0), to, RIP);
        this.#leave(EXIT.lookup);
      });
    missing(leU(u64(4096), offset));
    const slot = code.let(add(code.load(entry, 32, TLB_EXECUTE + 8), shl(truncate(offset, 32), u32(2))));
    const record = code.let(code.load(slot, 32));
    missing(isZero(record));
    this.#assignWord(PAGE_RIP, sub(to, offset));
    this.#setIp(record);
  }

  /** Falls into the next page. */
  nextPage(): void {
    this.transfer(this.#cut(add(this.#word(64, KEY.words, PAGE_RIP), u64(4096))));
    this.#countEntry();
    this.#stopIfOverBudget();
  }

  /** Goes on with the record in the immediate if the page that disp names is mapped behind the current one. */
  crossPage(): void {
    const { code } = this;
    const base = this.#word(64, KEY.words, SEGMENTS + CS * SEGMENT_SIZE + SEG_BASE);
    const linear = code.let(add(add(this.#word(64, KEY.words, PAGE_RIP), u64(4096)), base));
    const entry = this.executeEntry(linear);
    code.if(ne(code.load(entry, 64, TLB_EXECUTE), linear), () => this.#leave(EXIT.straddle));
    code.if(ne(code.load(entry, 32, TLB_EXECUTE + 8), this.#field(32, 8, 0x28)), () => this.#leave(EXIT.straddle));
    this.#setIp(this.#field(32, 12, 0x28));
  }

  /** Goes on in the next page, behind an instruction that crossed into it. */
  crossedPage(): void {
    this.transfer(add(this.#word(64, KEY.words, PAGE_RIP), zeroExtend(this.#field(32, 8, 0x28), 64)));
    this.#countEntry();
    this.#stopIfOverBudget();
  }

  /** Starts at RIP. */
  enter(): void {
    this.transfer(this.#word(64, KEY.words, RIP));
  }

  /** Takes back what the dispatch counted, for records that are no instruction. */
  uncount(): void {
    this.#setBudget(add(this.#budget(), u32(1)));
  }

  leave(reason: Exit): void {
    this.#leave(reason);
  }

  #cut(e: Expr<64>): Expr<64> {
    return and(e, this.#word(64, KEY.words, CODE_MASK));
  }

  #stopIfOverBudget(): void {
    this.code.if(isNegative(this.#budget()), () => this.#leave(EXIT.budget));
  }

  #leave(reason: Exit): void {
    const { code } = this;
    const { reason: local } = this.#locals;
    code.raw(() => {
      if (local >= 0) {
        code.out.i32(reason).setLocal(local);
        code.br('exit');
      } else {
        code.out.i32(0).i32(reason).memory(0x36, REASON).i32(0).getLocal(IP).memory(0x36, STOPPED_AT).i32(0).u8(0x0f);
      }
    });
  }

  #budget(): Expr<32> {
    const { budget } = this.#locals;
    if (budget < 0) return this.#word(32, KEY.budget, BUDGET);
    return this.code.state(32, KEY.budget, () => void this.code.out.getLocal(budget));
  }
  #setBudget(value: Expr<32>): void {
    const { budget } = this.#locals;
    const { out } = this.code;
    if (budget < 0)
      this.code.assign(
        KEY.budget,
        value,
        () => out.memory(0x36, BUDGET),
        () => void out.i32(0),
      );
    else this.code.assign(KEY.budget, value, () => out.setLocal(budget));
  }

  #ip(): Expr<32> {
    return this.code.state(32, KEY.ip, () => void this.code.out.getLocal(IP));
  }
  #setIp(value: Expr<32>): void {
    this.code.assign(KEY.ip, value, () => this.code.out.setLocal(IP));
  }
  #assignWord(address: number, value: Expr<64>): void {
    this.code.assign(
      KEY.words,
      value,
      () => this.code.out.memory(0x37, address),
      () => void this.code.out.i32(0),
    );
  }

  /** A field of the current record. Records do not change under a running handler, but ip does. */
  #field<W extends Width>(width: W, offset: number, opcode: number): Expr<W> {
    const at = offset + this.#record;
    return this.code.state(width, KEY.ip, () => void this.code.out.getLocal(IP).memory(opcode, at));
  }

  #word<W extends LoadWidth>(width: W, key: number, address: number): Expr<W> {
    return this.code.state(width, key, () => void this.code.out.i32(0).memory(LOAD[width], address));
  }
}
