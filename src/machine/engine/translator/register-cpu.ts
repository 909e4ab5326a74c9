/** The part of back-end J that binds operands to constants and locals: registers and lazy flags live in locals, the rest in the state block. */
import { type Code, LOAD, type LoadWidth, STORE } from '../../isa/code.ts';
import { type AccessWidth, Cpu } from '../../isa/cpu.ts';
import {
  and,
  constant,
  constantValue,
  type Expr,
  low32,
  or,
  shl,
  shr,
  truncate,
  u32,
  u64,
  type Width,
  zeroExtend,
} from '../../isa/expr.ts';
import { kindCode, type Recipe, storedA, storedB, storedRecipe } from '../../isa/flags.ts';
import type { Operand, RegisterFile } from '../../isa/insn.ts';
import type { Support } from '../../isa/support.ts';
import { CODE_MODE, type CodeMode } from '../code-mode.ts';
import { CC_A, CC_B, CC_KIND, CS, FPR, FS, TLB_BASE, XMM, YMM_HIGH } from '../layout.ts';
import type { FlagValue, KnownFlags } from './known-flags.ts';
import { addressOf } from './pointer.ts';
import { KEY, type RegionLocals, TLB } from './region-locals.ts';

export abstract class RegisterCpu extends Cpu {
  protected abstract readonly locals: RegionLocals;
  /** The flags in force as far as they are known here. */
  protected recipe: { kind: number; zeroB: boolean } | null = null;
  /** The flags in force are those in memory; the locals hold nothing yet. */
  protected flagsInMemory = false;

  /** ES, SS and DS are flat. */
  readonly #flat: boolean;

  constructor(code: Code, support: Support, mode: CodeMode) {
    super(code, support);
    this.#flat = mode === CODE_MODE.flat32;
  }

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
    const local = this.locals.gprs[register]!;
    if (local < 0) throw new Error(`register ${register} was not announced`);
    return this.code.state(64, register, () => void this.code.out.getLocal(local));
  }

  protected commitGpr(register: number, value: Expr<64>): void {
    const local = this.locals.gprs[register]!;
    this.code.assign(register, value, () => this.code.out.setLocal(local));
  }

  protected immediate(operand: Operand): Expr<Width> {
    return constant(operand.width as Width, this.insn.immediate);
  }

  protected rawAddress(): Expr<64> {
    return addressOf(this, this.insn);
  }

  override linear(segment: number, offset: Expr<64>, width: AccessWidth, write: boolean): Expr<64> {
    if (!this.#flat || segment === CS || segment >= FS) return super.linear(segment, offset, width, write);
    return low32(offset);
  }

  protected override stackMask(): Expr<64> {
    return this.#flat ? u64(0xffff_ffff) : super.stackMask();
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

  // ---- flags

  protected commitFlags(recipe: Recipe): void {
    const { code } = this;
    const kind = kindCode(recipe.kind, recipe.width);
    const a = code.let(storedA(recipe)),
      b = code.let(storedB(recipe));
    code.assign(KEY.kind, u32(kind), () => code.out.setLocal(this.locals.kind));
    code.assign(KEY.a, a, () => code.out.setLocal(this.locals.a));
    code.assign(KEY.b, b, () => code.out.setLocal(this.locals.b));
    this.recipe = this.nesting > 0 ? null : { kind, zeroB: constantValue(b) === 0 };
    if (this.nesting === 0) this.flagsInMemory = false;
  }

  protected knownRecipe(): Recipe | null {
    const known = this.recipe;
    if (known === null) return null;
    const [, a, b] = this.storedFlags();
    return storedRecipe(known.kind, a, known.zeroB ? u64(0) : b);
  }

  protected storedFlags(): [Expr<32>, Expr<64>, Expr<64>] {
    const { code } = this;
    return [
      code.state(32, KEY.kind, () => void code.out.getLocal(this.locals.kind)),
      code.state(64, KEY.a, () => void code.out.getLocal(this.locals.a)),
      code.state(64, KEY.b, () => void code.out.getLocal(this.locals.b)),
    ];
  }

  /** Makes the locals say what is known of the flags. */
  protected recallFlags({ kind, a, b }: KnownFlags): void {
    const { out } = this.code;
    out.i32(kind).setLocal(this.locals.kind);
    this.#recall(a, this.locals.a);
    this.#recall(b, this.locals.b);
  }
  #recall(value: FlagValue | null, local: number): void {
    if (value === null) return;
    const { out } = this.code;
    const { register, plus } = value;
    if (register < 0) out.i64(plus);
    else out.getLocal(this.locals.gprs[register]!);
    if (register >= 0 && plus !== 0) out.i64(plus).u8(0x7c);
    out.setLocal(local);
  }

  /** Leaves the operand stack alone. */
  protected storeFlags(): void {
    const { out } = this.code;
    out.i32(0).getLocal(this.locals.kind).memory(0x36, CC_KIND);
    out.i32(0).getLocal(this.locals.a).memory(0x37, CC_A);
    out.i32(0).getLocal(this.locals.b).memory(0x37, CC_B);
  }
  /** Leaves the operand stack alone. */
  protected loadFlags(): void {
    const { out } = this.code;
    out.i32(0).memory(0x28, CC_KIND).setLocal(this.locals.kind);
    out.i32(0).memory(0x29, CC_A).setLocal(this.locals.a);
    out.i32(0).memory(0x29, CC_B).setLocal(this.locals.b);
    this.flagsInMemory = false;
  }
}

const fileKey = (file: RegisterFile): number => (file === 'xmm' ? KEY.vector : file === 'ymm' ? KEY.upper : KEY.x87);
const fileAddress = (o: Operand): number =>
  (o.file === 'xmm' ? XMM : o.file === 'ymm' ? YMM_HIGH : FPR) + o.register * 16;
const wordKey = (address: number): number => (address >= FPR && address < XMM ? KEY.x87 : KEY.words);
