/**
 * What an instruction touches, found by running its semantics function against a probe instead of a back-end.
 * Nothing about an instruction has to be declared twice.
 */
import { Code, type LoadWidth } from '../../isa/code.ts';
import { Cpu } from '../../isa/cpu.ts';
import { constant, type Expr, u32, u64, type Width } from '../../isa/expr.ts';
import type { Recipe } from '../../isa/flags.ts';
import type { Insn, Operand } from '../../isa/insn.ts';

/** What the translator wants to know of one instruction before it translates it. */
export interface Effects {
  /** Bit sets of GPRs, implicit and explicit. */
  readonly reads: number;
  readonly writes: number;
  /** Can leave before it commits. */
  readonly exits: boolean;
  readonly readsFlags: boolean;
  readonly writesFlags: 'no' | 'maybe' | 'always';
}

const NO_SUPPORT = { condition: [0, 0, 0, 0, 0, 0, 0, 0], statusWord: 0, mulHighU: 0, mulHighS: 0 };
/** State key of everything the probe pretends to read. */
const ANY = -2;

class Probe extends Cpu {
  readonly flagsWanted = true;
  #reads = 0;
  #writes = 0;
  #exits = false;
  #readsFlags = false;
  #writesFlags: Effects['writesFlags'] = 'no';

  constructor() {
    super(new Code(0, 16), NO_SUPPORT);
  }

  run(insn: Insn): Effects {
    this.#reads = this.#writes = 0;
    this.#exits = this.#readsFlags = false;
    this.#writesFlags = 'no';
    this.begin(insn);
    this.describe();
    if (insn.memory !== null) for (const r of [insn.memory.base, insn.memory.index]) if (r >= 0) this.#reads |= 1 << r;
    this.code.discard();
    return {
      reads: this.#reads,
      writes: this.#writes,
      exits: this.#exits,
      readsFlags: this.#readsFlags,
      writesFlags: this.#writesFlags,
    };
  }

  #unknown<W extends LoadWidth>(width: W): Expr<W> {
    return this.code.state(width, ANY, () => {});
  }

  protected readRegister<W extends LoadWidth>(operand: Operand, width: W): Expr<W> {
    if (operand.file === 'gpr') this.#reads |= 1 << operand.register;
    return this.#unknown(width);
  }
  protected writeRegister(operand: Operand): void {
    if (operand.file === 'gpr') this.#writes |= 1 << operand.register;
  }
  protected commitGpr(register: number): void {
    this.#writes |= 1 << register;
  }
  gpr64(register: number): Expr<64> {
    this.#reads |= 1 << register;
    return this.#unknown(64);
  }
  protected immediate(operand: Operand): Expr<Width> {
    return constant(operand.width as Width, this.insn.immediate);
  }
  protected rawAddress(): Expr<64> {
    return this.#unknown(64);
  }
  protected exitIf(): void {
    this.#exits = true;
  }
  protected commitFlags(_recipe: Recipe): void {
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
