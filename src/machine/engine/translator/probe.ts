/**
 * What an instruction touches, found by running its semantics function against a probe instead of a back-end.
 * Nothing about an instruction has to be declared twice.
 */
import { Code, type LoadWidth } from '../../isa/code.ts';
import { type AccessWidth, Cpu } from '../../isa/cpu.ts';
import { constant, type Expr, low32, truncate, u32, u64, type Width } from '../../isa/expr.ts';
import type { Recipe } from '../../isa/flags.ts';
import type { Insn, Operand } from '../../isa/insn.ts';
import { ACCESS, CS, FS } from '../layout.ts';
import { afterInsn, type KnownFlags } from './known-flags.ts';
import { addressOf, type Pointer, pointerOf } from './pointer.ts';

/** An access to memory through registers as wide as addresses are. */
export interface PointerAccess {
  readonly pointer: Pointer;
  readonly writes: boolean;
}

/** What the translator wants to know of one instruction before it translates it. */
export interface Effects {
  /** Bit sets of GPRs, implicit and explicit. */
  readonly reads: number;
  readonly writes: number;
  /** Those of the written GPRs that only move by a constant. */
  readonly moves: number;
  readonly accesses: readonly PointerAccess[];
  /** Selects another TLB bank. */
  readonly switchesBank: boolean;
  /** Can leave before it commits. */
  readonly exits: boolean;
  readonly readsFlags: boolean;
  readonly writesFlags: 'no' | 'maybe' | 'always';
  /** The flags that it leaves, where it always writes them. */
  readonly flags: KnownFlags | null;
}

const NO_SUPPORT = { condition: [0, 0, 0, 0, 0, 0, 0, 0], statusWord: 0, mulHighU: 0, mulHighS: 0 };
/** State key of everything the probe pretends to read, but for GPRs: their keys are their numbers. */
const ANY = -2;

class Probe extends Cpu {
  readonly flagsWanted = true;
  #reads = 0;
  #writes = 0;
  #changes = 0;
  #accesses: PointerAccess[] = [];
  #switchesBank = false;
  #exits = false;
  #readsFlags = false;
  #writesFlags: Effects['writesFlags'] = 'no';
  #recipe: Recipe | null = null;
  readonly #written: Map<number, Expr> = new Map();

  constructor() {
    super(new Code(0, 16), NO_SUPPORT);
  }

  run(insn: Insn): Effects {
    this.#reads = this.#writes = this.#changes = 0;
    this.#accesses = [];
    this.#exits = this.#readsFlags = this.#switchesBank = false;
    this.#writesFlags = 'no';
    this.#recipe = null;
    this.#written.clear();
    this.begin(insn);
    this.describe();
    if (insn.memory !== null) for (const r of [insn.memory.base, insn.memory.index]) if (r >= 0) this.#reads |= 1 << r;
    this.code.discard();
    return {
      reads: this.#reads,
      writes: this.#writes,
      moves: this.#writes & ~this.#changes,
      accesses: this.#accesses,
      switchesBank: this.#switchesBank,
      exits: this.#exits,
      readsFlags: this.#readsFlags,
      writesFlags: this.#writesFlags,
      flags: this.#recipe === null ? null : afterInsn(this.#recipe, this.#written),
    };
  }

  #unknown<W extends LoadWidth>(width: W): Expr<W> {
    return this.code.state(width, ANY, () => {});
  }

  protected readRegister<W extends LoadWidth>(operand: Operand, width: W): Expr<W> {
    if (operand.file !== 'gpr') return this.#unknown(width);
    const whole = this.gpr64(operand.register);
    return operand.high ? this.#unknown(width) : (truncate(whole, width as Width) as Expr as Expr<W>);
  }
  protected writeRegister(operand: Operand, value: Expr<LoadWidth>): void {
    if (operand.file !== 'gpr') return;
    this.commitGpr(operand.register, value);
    if (operand.high) this.#written.set(operand.register, this.#unknown(64));
  }
  protected commitGpr(register: number, value: Expr): void {
    this.#writes |= 1 << register;
    this.#written.set(register, this.nesting > 0 ? this.#unknown(64) : value);
    const from = this.nesting > 0 ? null : pointerOf(value, !this.mode64);
    if (from?.base !== register || from.index >= 0) this.#changes |= 1 << register;
  }
  gpr64(register: number): Expr<64> {
    this.#reads |= 1 << register;
    return this.code.state(64, register, () => {});
  }
  protected immediate(operand: Operand): Expr<Width> {
    return constant(operand.width as Width, this.insn.immediate);
  }
  protected rawAddress(): Expr<64> {
    return addressOf(this, this.insn);
  }
  /** Of 32-bit code as if segments were flat, which is what pays. */
  override linear(segment: number, offset: Expr<64>, width: AccessWidth, write: boolean): Expr<64> {
    if (this.mode64 || segment === CS || segment >= FS) return super.linear(segment, offset, width, write);
    return low32(offset);
  }
  protected override stackMask(): Expr<64> {
    return u64(0xffff_ffff);
  }
  protected override translate(address: Expr<64>, width: AccessWidth, access: number): Expr<32> {
    const pointer = pointerOf(address, !this.mode64);
    if (pointer !== null) this.#accesses.push({ pointer, writes: access !== ACCESS.read });
    return super.translate(address, width, access);
  }
  protected exitIf(): void {
    this.#exits = true;
  }
  protected commitFlags(recipe: Recipe): void {
    this.#recipe = this.nesting === 0 ? recipe : null;
    if (this.nesting === 0) this.#writesFlags = 'always';
    else if (this.#writesFlags === 'no') this.#writesFlags = 'maybe';
  }
  protected knownRecipe(): null {
    return null;
  }
  protected storedFlags(): [Expr<32>, Expr<64>, Expr<64>] {
    this.#readsFlags = true;
    return [u32(0), u64(0), u64(0)];
  }
  protected tlbBase(): Expr<32> {
    return u32(0);
  }
  protected spendIteration(): void {
    this.#exits = true;
  }
  state<W extends LoadWidth>(_address: number, width: W): Expr<W> {
    return this.#unknown(width);
  }
  switchBank(): void {
    this.#switchesBank = true;
    this.markCommitted();
  }
  setState(): void {
    this.markCommitted();
  }
  nextRip(): Expr<64> {
    return this.#unknown(64);
  }
  timestamp(): Expr<64> {
    return this.#unknown(64);
  }
  jump(): void {}
  jumpIf(): void {}
  jumpTo(): void {}
  call(): void {}
  callTo(): void {}
  returnTo(): void {}
}

/** One instance serves all: the code it records is never lowered. */
const probe = new Probe();

/** The effects of one instruction with its registers and immediates. */
export const effectsOf = (insn: Insn): Effects => probe.run(insn);
