/** Random programs with loops, from the rows of the instruction table, for lock-step between back-ends. */
import { encode, type OperandValue } from '../../src/machine/isa/assembler/encode.ts';
import { decode } from '../../src/machine/isa/decode.ts';
import type { Insn } from '../../src/machine/isa/insn.ts';
import { ASSIST, type Row } from '../../src/machine/isa/row.ts';
import { Random } from '../../src/util/random.ts';
import { type Case, CODE, DATA } from './case.ts';
import { testableRows } from './generate.ts';

/** R14 points into the data, R15 counts the loop, R13 the inner one: only the frame of a program writes them. */
const RESERVED = new Set([4, 13, 14, 15]);
const BASE = 14;

const usable = (row: Row): boolean => {
  const { operation } = row;
  const { mnemonic } = operation;
  if (operation.semantics === ASSIST || operation.flow !== 'next' || operation.string) return false;
  if (/^(LEAVE|ENTER|POPF|CLI|STI|POP|PUSH|XLAT|MASKMOV.*|IDIV|DIV|CMPXCHG16B|LDMXCSR)$/.test(mnemonic)) return false;
  // Bit offsets in registers reach anywhere.
  return !(/^BT.?$/.test(mnemonic) && row.text.includes('Gv'));
};
const candidates = testableRows(64).filter(usable);

export class Programs {
  readonly random: Random;

  constructor(seed: number) {
    this.random = new Random(seed);
  }

  #below(n: number): number {
    return this.random.below(n);
  }

  #operand(row: Row, letter: string, size: string): OperandValue {
    switch (letter) {
      case 'I':
        return { kind: 'immediate', value: this.#below(2) === 0 ? BigInt(this.#below(70)) : this.random.u64() };
      case 'fixed':
        return { kind: 'implicit' };
      case 'O': {
        const disp = DATA + 16 * this.#below(128);
        return { kind: 'memory', memory: { base: -1, index: -1, scale: 0, disp, ripRelative: false, segment: 3 } };
      }
    }
    const inMemory = letter === 'M' || row.form === 'mem' || ('EWQ'.includes(letter) && this.#below(3) === 0);
    if (inMemory && row.form !== 'reg') {
      const disp = (this.#below(128) - 64) * 16 * (size === 'qq' ? 2 : 1);
      return { kind: 'memory', memory: { base: BASE, index: -1, scale: 0, disp, ripRelative: false, segment: 3 } };
    }
    const high = size === 'b' && 'EGZ'.includes(letter) && this.#below(4) === 0;
    return { kind: 'register', register: this.#below(high ? 4 : 'PQN'.includes(letter) ? 8 : 13), high };
  }

  #sized(row: Row): 16 | 32 | 64 {
    if (row.rexW === 1 || row.operation.force64 || row.operation.default64) return 64;
    const sizes: (16 | 32 | 64)[] = row.prefix === '66' || row.prefix === 'NP' || row.vex >= 0 ? [32] : [16, 32];
    if (row.rexW < 0) sizes.push(64);
    return sizes[this.#below(sizes.length)]!;
  }

  /** One instruction that leaves the frame of the program alone. */
  #instruction(): Uint8Array {
    for (;;) {
      const row = candidates[this.#below(candidates.length)]!;
      const operands = row.operands.map((o) => this.#operand(row, o.letter, o.size));
      try {
        const code = encode({ row, mode: 64, operandSize: this.#sized(row), addressSize: 64, operands });
        const insn = decode(code, 0, code.length, 64);
        if (typeof insn !== 'string' && insn.row.operation === row.operation && !breaksFrame(insn)) return code;
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
      }
    }
  }

  /** An instruction, a jump over one, a push and pop, a string operation, or an inner loop. */
  #element(depth: number): number[] {
    const kind = this.#below(24);
    if (kind < 3) {
      const skipped = this.#element(1);
      return skipped.length > 120 ? skipped : [0x70 + this.#below(16), skipped.length, ...skipped];
    }
    if (kind === 3) return [0x50 + this.#register(), ...this.#instruction(), 0x58 + this.#register()];
    if (kind === 4) {
      const [source, target] = [DATA + 0x400 + this.#below(64), DATA + 0x800 + this.#below(64)];
      const little = (n: number): number[] => [n & 255, (n >> 8) & 255, (n >> 16) & 255, 0];
      const operation = [0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xa6, 0xae][this.#below(7)]!;
      return [0xb9, ...little(this.#below(9)), 0xbe, ...little(source), 0xbf, ...little(target), 0xf3, operation];
    }
    if (kind === 5 && depth === 0) {
      const body = [...this.#element(1), ...this.#element(1)];
      // mov r13d, n; body; dec r13d; jnz body
      const back = -(body.length + 5);
      if (back < -128) return body;
      return [0x41, 0xbd, 1 + this.#below(6), 0, 0, 0, ...body, 0x41, 0xff, 0xcd, 0x75, back & 255];
    }
    if (kind === 6) return [0xe8, 2, 0, 0, 0, 0xeb, 1, 0xc3]; // call a RET, jump over it
    return [...this.#instruction()];
  }
  /** One of RAX, RCX, RDX, RBX. */
  #register(): number {
    return this.#below(4);
  }

  /** A loop of `length` elements that runs `rounds` times and ends at INT3. */
  program(length: number, rounds: number): Case {
    const body: number[] = [];
    for (let i = 0; i < length; i++) body.push(...this.#element(0));
    const back = -(body.length + 9);
    const code = Uint8Array.from([
      ...body,
      ...[0x41, 0xff, 0xcf], // dec r15d
      ...[0x0f, 0x85, back & 255, (back >> 8) & 255, (back >> 16) & 255, back >>> 24], // jnz body
      0xcc,
    ]);
    const gpr = Array.from({ length: 16 }, () => this.random.u64());
    gpr[4] = BigInt(DATA + 0x1800);
    gpr[BASE] = BigInt(DATA + 0x400 + 0x400);
    gpr[15] = BigInt(rounds);
    const bytes = (n: number): Uint8Array => Uint8Array.from({ length: n }, () => this.random.u32() & 255);
    return {
      gpr,
      flags: 0x202 | (this.random.u32() & 0xcd5 & ~0x400),
      rip: CODE + 0x1000 * this.#below(4) + this.#below(0x800),
      mode: 64,
      seed: this.random.u32(),
      mxcsr: 0x1f80,
      top: 0,
      memoryAt: 0,
      memory: new Uint8Array(16),
      code,
      xmm: bytes(256),
      fpr: bytes(128).map((b, i) => ((i & 15) < 10 ? b : 0)),
    };
  }
}

const breaksFrame = (insn: Insn): boolean =>
  insn.lock || insn.operands.some((o) => o.file === 'gpr' && o.access !== 'r' && RESERVED.has(o.register));
