/**
 * Evaluates one instruction in TypeScript from the same semantics that generated code is made of.
 *
 * Nothing happens unless everything succeeds: register, flag and memory writes are collected and applied at the end, so an
 * access that cannot be served yet leaves the state as it was and the instruction can be evaluated again.
 */
import { ACCESS, type Exit, FPR, GPR, XMM, YMM_HIGH } from '../engine/layout.ts';
import type { LoadWidth } from './code.ts';
import { type AccessWidth, Cpu } from './cpu.ts';
import { EagerCode, Left } from './eager-code.ts';
import { constant, type Expr, type Width } from './expr.ts';
import { flagsFromWord, KIND, type Recipe, statusWord } from './flags.ts';
import type { Insn, Operand } from './insn.ts';
import type { Support } from './support.ts';

/** The world of one evaluation. Sizes are in bytes. */
export interface EvaluationContext {
  /** RIP of the instruction. */
  readonly rip: bigint;
  gpr(n: number): bigint;
  setGpr(n: number, value: bigint): void;
  /** The six status flags at their RFLAGS positions. */
  statusFlags(): number;
  setStatusFlags(word: number): void;
  setRip(rip: bigint): void;
  /** A word of the processor's state block by its layout address (segment bases, DIRECTION, XMM …). */
  readState(address: number, size: number): bigint;
  writeState(address: number, size: number, value: bigint): void;
  /** Reads linear memory; undefined stops the evaluation with 'memory'. `willWrite`: a read-modify-write. */
  read(linear: bigint, size: number, willWrite: boolean): bigint | undefined;
  /** Checks that a write will succeed; false stops the evaluation with 'memory'. */
  writable(linear: bigint, size: number): boolean;
  write(linear: bigint, size: number, value: bigint): void;
  timestamp(): bigint;
}

/** What became of it: complete; memory said no; generated code would have left for this EXIT; not expressible. */
export type Evaluation =
  | { readonly kind: 'done' }
  | { readonly kind: 'memory' }
  | { readonly kind: 'exit'; readonly reason: Exit }
  | { readonly kind: 'unsupported' };

const SUPPORT: Support = { condition: [], statusWord: -1, mulHighU: 1, mulHighS: 2 };
const FUNCTIONS: ReadonlyMap<number, (a: bigint, b: bigint) => bigint> = new Map([
  [1, (a: bigint, b: bigint) => (a * b) >> 64n],
  [2, (a: bigint, b: bigint) => (BigInt.asIntN(64, a) * BigInt.asIntN(64, b)) >> 64n],
]);
/** Reasons of Left that are no Exit. */
const MEMORY = -2;
/** Handles of accesses are this far apart. */
const HANDLE_SIZE = 64;

/** Evaluates `insn`. With a REP prefix: one iteration; the result is complete only when rCX says so (RIP moves then). */
export function evaluate(insn: Insn, context: EvaluationContext): Evaluation {
  // perf: one serves all, as an evaluation calls nobody that evaluates.
  evaluator ??= new EvaluatingCpu();
  try {
    evaluator.run(insn, context);
  } catch (left) {
    if (!(left instanceof Left)) throw left;
    if (left.reason === MEMORY) return { kind: 'memory' };
    if (left.reason < 0) return { kind: 'unsupported' };
    return { kind: 'exit', reason: left.reason as Exit };
  }
  return { kind: 'done' };
}

let evaluator: EvaluatingCpu | undefined;

const fileAddress = ({ file, register }: Operand): number =>
  (file === 'xmm' ? XMM : file === 'ymm' ? YMM_HIGH : FPR) + register * 16;

interface Access {
  readonly linear: bigint;
  readonly access: number;
}

class EvaluatingCpu extends Cpu {
  readonly flagsWanted = true;
  #context!: EvaluationContext;
  readonly #accesses: Access[] = [];
  readonly #effects: (() => void)[] = [];
  readonly #gprs: Map<number, bigint> = new Map();
  readonly #words: Map<string, bigint> = new Map();
  readonly #memory: Map<string, bigint> = new Map();
  #recipe: Recipe | null = null;
  #rip: bigint | null = null;
  #repeatHere = false;

  constructor() {
    const memory = {
      load: (handle: number, width: LoadWidth): bigint => this.#load(handle, width / 8),
      store: (handle: number, value: bigint, width: LoadWidth): void => this.#store(handle, value, width / 8),
    };
    super(new EagerCode(memory, FUNCTIONS), SUPPORT);
  }

  get #eager(): EagerCode {
    return this.code as EagerCode;
  }

  run(insn: Insn, context: EvaluationContext): void {
    this.#context = context;
    this.#accesses.length = 0;
    this.#effects.length = 0;
    this.#gprs.clear();
    this.#words.clear();
    this.#memory.clear();
    this.#recipe = null;
    this.#rip = null;
    this.#repeatHere = false;
    this.#eager.restart();
    this.begin(insn);
    this.describe();
    const next = BigInt.asUintN(insn.mode === 64 ? 64 : 32, this.#context.rip + BigInt(insn.length));
    for (const [n, value] of this.#gprs) this.#context.setGpr(n, value);
    if (this.#recipe !== null) this.#context.setStatusFlags(Number(this.#eager.value(statusWord(this.#recipe))));
    for (const effect of this.#effects) effect();
    if (!this.#repeatHere) this.#context.setRip(this.#rip ?? next);
  }

  // ---- memory

  protected override translate(address: Expr<64>, width: AccessWidth, access: number): Expr<32> {
    const linear = this.#eager.value(address);
    if (access === ACCESS.write && !this.#context.writable(linear, width / 8)) throw new Left(MEMORY);
    this.#accesses.push({ linear, access });
    return constant(32, this.#accesses.length * HANDLE_SIZE);
  }
  #load(handle: number, size: number): bigint {
    const access = this.#accesses[Math.floor(handle / HANDLE_SIZE) - 1]!;
    const linear = access.linear + BigInt(handle % HANDLE_SIZE);
    const staged = this.#memory.size === 0 ? undefined : this.#memory.get(`${linear}/${size}`);
    if (staged !== undefined) return staged;
    const value = this.#context.read(linear, size, access.access !== ACCESS.read);
    if (value === undefined) throw new Left(MEMORY);
    return value;
  }
  #store(handle: number, value: bigint, size: number): void {
    const access = this.#accesses[Math.floor(handle / HANDLE_SIZE) - 1]!;
    const linear = access.linear + BigInt(handle % HANDLE_SIZE);
    this.#memory.set(`${linear}/${size}`, value);
    this.#effects.push(() => this.#context.write(linear, size, value));
  }

  // ---- registers

  protected readRegister<W extends LoadWidth>(operand: Operand, width: W): Expr<W> {
    if (operand.file === 'gpr') {
      const whole = this.#gpr(operand.register);
      return this.#eager.constant(width, BigInt.asUintN(width, operand.high ? whole >> 8n : whole));
    }
    return this.state(fileAddress(operand), width);
  }
  protected writeRegister(operand: Operand, value: Expr<LoadWidth>): void {
    const now = this.#eager.value(value);
    if (operand.file !== 'gpr') {
      const at = fileAddress(operand);
      this.setState(at, value);
      // Writing an MMX register sets the sign and exponent of the x87 register it lies in.
      if (operand.file === 'mmx') this.setState(at + 8, constant(16, 0xffff));
      return;
    }
    const old = this.#gpr(operand.register);
    const { width } = value;
    if (width >= 32) this.#gprs.set(operand.register, now);
    else {
      const shift = operand.high ? 8n : 0n;
      const mask = ((1n << BigInt(width)) - 1n) << shift;
      this.#gprs.set(operand.register, (old & ~mask) | (now << shift));
    }
  }
  #gpr(n: number): bigint {
    return this.#gprs.get(n) ?? this.#context.gpr(n);
  }
  gpr64(register: number): Expr<64> {
    return constant(64, BigInt.asIntN(64, this.#gpr(register)));
  }
  protected commitGpr(register: number, value: Expr<64>): void {
    this.#gprs.set(register, this.#eager.value(value));
  }
  state<W extends LoadWidth>(address: number, width: W): Expr<W> {
    if (address >= GPR && address < GPR + 128)
      return this.#eager.constant(width, BigInt.asUintN(width, this.#gpr((address - GPR) >> 3)));
    const written = this.#words.size === 0 ? undefined : this.#words.get(`${address}/${width}`);
    return this.#eager.constant(width, written ?? this.#context.readState(address, width / 8));
  }
  setState(address: number, value: Expr<LoadWidth>): void {
    const now = this.#eager.value(value);
    const size = value.width / 8;
    this.#words.set(`${address}/${value.width}`, now);
    this.#effects.push(() => this.#context.writeState(address, size, now));
    this.markCommitted();
  }
  switchBank(): void {
    this.markCommitted();
  }
  protected immediate(operand: Operand): Expr<Width> {
    const { insn } = this;
    const second = insn.operands.filter((o) => o.place === 'immediate').indexOf(operand) > 0;
    return constant(operand.width as Width, second ? insn.immediate2 : BigInt.asIntN(operand.width, insn.immediate));
  }
  protected rawAddress(): Expr<64> {
    const { insn } = this;
    if (insn.row.operands.some((o) => o.letter === 'O') && insn.addressSize === 64) return constant(64, insn.immediate);
    const { base, index, scale, disp, ripRelative } = insn.memory!;
    let address = BigInt(disp);
    if (ripRelative) address += this.#context.rip + BigInt(insn.length);
    if (base >= 0) address += this.#gpr(base);
    if (index >= 0) address += this.#gpr(index) << BigInt(scale);
    return constant(64, BigInt.asIntN(64, address));
  }
  protected tlbBase(): Expr<32> {
    return constant(32, 0);
  }

  // ---- flags

  protected exitIf(condition: Expr<1>, reason: Exit): void {
    if (this.#eager.value(condition) !== 0n) throw new Left(reason);
  }
  protected commitFlags(recipe: Recipe): void {
    this.#recipe = { ...recipe, a: this.#eager.let(recipe.a), b: this.#eager.let(recipe.b) };
  }
  protected knownRecipe(): Recipe {
    return this.#recipe ?? flagsFromWord(constant(32, this.#context.statusFlags()));
  }
  protected storedFlags(): [Expr<32>, Expr<64>, Expr<64>] {
    return [constant(32, KIND.WORD), constant(64, 0), constant(64, 0)];
  }

  // ---- control

  nextRip(): Expr<64> {
    return constant(64, BigInt.asIntN(64, this.#context.rip + BigInt(this.insn.length)));
  }
  timestamp(): Expr<64> {
    return constant(64, BigInt.asIntN(64, this.#context.timestamp()));
  }
  /** One iteration at a time: the loop is not taken again, and RIP stays while there is more to do. */
  protected spendIteration(): void {
    this.#repeatHere = true;
    this.#eager.stopLoop();
  }
  jump(): void {
    this.#rip = this.#cut(this.#context.rip + BigInt(this.insn.displacement));
  }
  jumpIf(condition: Expr<1>): void {
    if (this.#eager.value(condition) !== 0n) this.jump();
  }
  jumpTo(target: Expr<64>): void {
    this.#rip = this.#eager.value(target);
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
  #cut(rip: bigint): bigint {
    return BigInt.asUintN(this.mode64 ? 64 : this.operandSize === 16 ? 16 : 32, rip);
  }
}
