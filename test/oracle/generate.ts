/** Random cases from the rows of the instruction table: an encoding that the encoder makes, and a state that suits it. */
import { encode, type OperandValue, type Request } from '../../src/machine/isa/assembler/encode.ts';
import { decode } from '../../src/machine/isa/decode.ts';
import '../../src/machine/isa/index.ts';
import type { Insn, MemoryOperand } from '../../src/machine/isa/insn.ts';
import { ASSIST, type OperandSpec, type Row, rows } from '../../src/machine/isa/row.ts';
import { Random } from '../../src/util/random.ts';
import { type Case, CODE, DATA, DATA_SIZE } from './case.ts';

const EDGES = [
  0, 1, -1, 2, 7, 15, 16, 0x1f, 0x20, 0x3f, 0x40, 0x7f, -0x80, 0x80, 0xff, 0x7fff, -0x8000, 0x7fffffff, -0x80000000,
  0x80000000, 0xffffffff, 0x55555555,
];
/** What TypeScript handlers do that user mode may do, or may not: #GP. */
const ASSISTS = new Set([
  'ENTER',
  'CLFLUSH',
  'CLFLUSHOPT',
  'CLWB',
  'MOVDIR64B',
  'UD2',
  'HLT',
  'CLTS',
  'LMSW',
  'INVLPG',
  'INVD',
  'WBINVD',
  'INT1',
  'RDMSR',
  'SYSEXIT',
  'IN',
  'OUT',
  'LLDT',
  'LTR',
  'LGDT',
  'LIDT',
  'PUSHA',
  'POPA',
  'INTO',
  'FWAIT',
]);
/** Depend on what is not the same here and there. */
const SKIPPED = new Set([
  'RDTSC',
  'RDTSCP',
  'RDFSBASE',
  'RDGSBASE',
  // The native runner could not go on.
  'WRFSBASE',
  'WRGSBASE',
  'SYSCALL',
  'PAUSE',
  'INT1',
  // The operating system's descriptor tables and EFER decide.
  'INT',
  'INT3',
  'IRET',
  'SYSRET',
]);

const testable = (row: Row, mode: 32 | 64): boolean => {
  const { operation } = row;
  if (row.only === (mode === 64 ? 'no64' : '64') || (mode === 32 && row.rexW === 1 && row.vex < 0)) return false;
  if (SKIPPED.has(operation.mnemonic)) return false;
  if (operation.unit === 'x87') return false;
  return operation.semantics !== ASSIST || operation.unit !== '' || ASSISTS.has(operation.mnemonic);
};

export interface GeneratedCase {
  readonly case: Case;
  readonly insn: Insn;
}

export class Generator {
  readonly random: Random;
  readonly mode: 32 | 64;
  readonly #gpr: bigint[] = [];
  /** Registers whose value an address already depends on. */
  #fixed: number = 0;

  constructor(seed: number, mode: 32 | 64 = 64) {
    this.mode = mode;
    this.random = new Random(seed);
  }

  #below(n: number): number {
    return this.random.below(n);
  }
  #pick<T>(items: readonly T[]): T {
    return items[this.#below(items.length)]!;
  }
  #value(): bigint {
    return BigInt.asUintN(this.mode, this.#below(2) === 0 ? BigInt(this.#pick(EDGES)) : this.random.u64());
  }

  /** A case of the row, or null where the dice made no valid encoding. */
  make(row: Row): GeneratedCase | null {
    const { operation } = row;
    const rip = CODE + 0x4000 + this.#below(0x8000);
    for (let n = 0; n < 16; n++) this.#gpr[n] = n < this.#registers ? this.#value() : 0n;
    this.#fixed = 0;
    const memory = new Uint8Array(16);
    const edge = this.#value();
    new DataView(memory.buffer).setBigUint64(0, edge, true);
    new DataView(memory.buffer).setBigUint64(8, this.#value(), true);

    const operandSize = this.#operandSize(row);
    const addressSize = this.mode === 32 || this.#below(8) === 0 ? 32 : 64;
    const wild = this.mode === 64 && this.#below(64) === 0;
    // Locked accesses that cross a cache line make the host intervene: they are kept aligned.
    const locked = operation.lock && (operation.mnemonic === 'XCHG' || this.#below(4) === 0);
    const anywhere =
      wild && this.#below(2) === 0 ? (1n << 47n) + BigInt(this.#below(1 << 20)) : BigInt(this.#address(row));
    const target = locked ? anywhere & ~15n : anywhere;
    const forceRex = this.mode === 64 && this.#below(6) === 0 && row.vex < 0;
    const byteRegisters = !forceRex && this.#below(2) === 0;
    const ripRelative =
      this.mode === 64 &&
      row.operands.some((o) => 'EWQM'.includes(o.letter)) &&
      row.form !== 'reg' &&
      this.#below(10) === 0;
    let memoryOperand: MemoryOperand | null = null;
    const operands = row.operands.map((spec): OperandValue => {
      if (spec.letter === 'K') {
        memoryOperand = this.#gathered();
        return { kind: 'memory', memory: memoryOperand };
      }
      if (
        'EWQM'.includes(spec.letter) &&
        row.form !== 'reg' &&
        (spec.letter === 'M' || row.form === 'mem' || this.#below(2) === 0)
      ) {
        memoryOperand = ripRelative
          ? { base: -1, index: -1, scale: 0, disp: 0, ripRelative: true, segment: 3 }
          : this.#memoryOperand(target, addressSize);
        return { kind: 'memory', memory: memoryOperand };
      }
      return this.#operand(row, spec, operandSize, rip, byteRegisters);
    });
    const lock = locked && memoryOperand !== null && operands[0]!.kind === 'memory' && this.#below(2) === 0;
    const rep = operation.string && this.#below(2) === 0 ? this.#pick(['rep', 'repne'] as const) : 'none';
    const request: Request = {
      row,
      mode: this.mode,
      operandSize,
      addressSize,
      operands,
      lock,
      rep,
      forceRex,
      wideDisplacement: this.#below(4) === 0,
    };
    let code: Uint8Array;
    try {
      code = encode(request);
      if (memoryOperand !== null && ripRelative) {
        const disp = Number(BigInt.asIntN(32, target - BigInt(rip + code.length)));
        const there: OperandValue = {
          kind: 'memory',
          memory: { base: -1, index: -1, scale: 0, disp, ripRelative: true, segment: 3 },
        };
        code = encode({ ...request, operands: operands.map((o) => (o.kind === 'memory' ? there : o)) });
      }
    } catch (error) {
      if (error instanceof RangeError) return null;
      throw error;
    }
    const insn = decode(code, 0, code.length, this.mode);
    if (typeof insn === 'string') return null;
    const c: Case = {
      gpr: this.#gpr.slice(),
      flags: 0x202 | (this.random.u32() & 0xcd5),
      rip,
      mode: this.mode,
      seed: this.random.u32(),
      mxcsr: 0x1f80,
      top: this.#below(8),
      memoryAt: target >= DATA && target <= DATA + DATA_SIZE - 16 ? Number(target) : 0,
      memory,
      code,
      xmm: this.#vectors(256),
      fpr: this.#vectors(128).map((b, i) => ((i & 15) < 10 ? b : 0)),
    };
    this.#implicit(c, insn, target);
    if (insn.memory?.vectorIndex) this.#indexes(c.xmm, insn);
    return { case: c, insn };
  }

  get #registers(): number {
    return this.mode === 64 ? 16 : 8;
  }

  #vectors(size: number): Uint8Array {
    const bytes = new Uint8Array(size);
    for (let i = 0; i < size; i += 4) {
      const word = this.#below(3) === 0 ? this.#pick(EDGES) : this.random.u32();
      new DataView(bytes.buffer).setInt32(i, word | 0, true);
    }
    return bytes;
  }

  /** Somewhere in the data; often aligned, sometimes across a page or over the end. */
  #address(row: Row): number {
    const where = this.#below(32);
    // Which byte of a masked store faults, if any, is the processor's choice.
    if (/^VP?MASKMOV/.test(row.operation.mnemonic)) return DATA + 0x100 + this.#below(0x1e00);
    if (where === 0) return DATA + 0x1000 - this.#below(16);
    if (where === 1) return DATA + 0x2000 - this.#below(20);
    if (where === 2) return DATA + DATA_SIZE - this.#below(20);
    const at = DATA + 0x100 + this.#below(0x1e00);
    if (row.operands.some((o) => o.size === 'qq') && this.#below(8) !== 0) return at & ~31;
    return row.operands.some((o) => o.size === 'dq') && this.#below(8) !== 0 ? at & ~15 : at;
  }

  #operandSize(row: Row): 16 | 32 | 64 {
    const { operation } = row;
    if (this.mode === 32) return row.prefix === '66' || row.prefix === 'NP' || row.vex >= 0 ? 32 : this.#pick([16, 32]);
    if (operation.force64) return 64;
    if (operation.default64) return this.#below(4) === 0 && row.prefix === '' ? 16 : 64;
    if (row.rexW === 1) return 64;
    const sizes: (16 | 32 | 64)[] = row.prefix === '66' || row.prefix === 'NP' || row.vex >= 0 ? [32] : [16, 32];
    if (row.rexW < 0) sizes.push(64);
    return this.#pick(sizes);
  }

  #operand(row: Row, spec: OperandSpec, _operandSize: number, rip: number, byteRegisters: boolean): OperandValue {
    const gpr = 'EGRZB'.includes(spec.letter);
    switch (spec.letter) {
      case 'I': {
        const counts = spec.size === 'b' && this.#below(2) === 0;
        return { kind: 'immediate', value: counts ? BigInt(this.#below(70)) : this.#value() };
      }
      case 'J': {
        const reach = spec.size === 'b' ? 100 : 0x3000;
        const far = 20 + this.#below(reach);
        // Not into the instruction itself: it would never end.
        return { kind: 'relative', displacement: this.#below(2) === 0 ? far : -far };
      }
      case 'fixed':
      case 'X':
      case 'Y':
        return { kind: 'implicit' };
      case 'O': {
        const disp = this.#address(row);
        return { kind: 'memory', memory: { base: -1, index: -1, scale: 0, disp, ripRelative: false, segment: 3 } };
      }
      case 'A':
        return { kind: 'far', selector: 0, offset: rip };
      default: {
        const byte = gpr && spec.size === 'b';
        const high = byte && (this.mode === 32 || byteRegisters) && this.#below(2) === 0;
        const count = high || (byte && this.mode === 32) ? 4 : 'PQNT'.includes(spec.letter) ? 8 : this.#registers;
        const register = this.#below(spec.letter === 'S' ? 6 : count);
        return { kind: 'register', register, high };
      }
    }
  }

  /** An operand that comes to `target`, by choosing registers' values where needed. */
  #memoryOperand(target: bigint, addressSize: 32 | 64): MemoryOperand {
    const form = this.#below(16);
    const base = form === 0 ? -1 : this.#below(this.#registers);
    let index = form === 0 || this.#below(2) === 0 ? -1 : this.#below(this.#registers);
    if (index === 4) index = -1;
    const scale = index < 0 ? 0 : this.#below(4);
    const plain = { base, index, scale, ripRelative: false };
    const gpr = this.#gpr;
    const offset = index < 0 ? 0n : gpr[index]! << BigInt(scale);
    const segment = base === 4 || base === 5 ? 2 : 3;
    if (addressSize === 32 || base < 0 || base === index) {
      if (addressSize === 64) {
        // Small register values, so that the displacement makes up the difference.
        if (base >= 0) gpr[base] = BigInt(this.#below(0x10000));
        if (index >= 0) gpr[index] = BigInt(this.#below(0x10000));
      }
      const sum = (base < 0 ? 0n : gpr[base]!) + (index < 0 ? 0n : gpr[index]! << BigInt(scale));
      return { ...plain, disp: Number(BigInt.asIntN(32, target - sum)), segment };
    }
    const disp = this.#pick([0, 0, this.#below(256) - 128, this.random.u32() | 0]);
    gpr[base] = BigInt.asUintN(64, target - offset - BigInt(disp));
    this.#fixed |= 1 << base;
    return { ...plain, disp, segment };
  }

  /** Memory with a vector index around the middle of the data. */
  #gathered(): MemoryOperand {
    const base = this.#below(this.#registers);
    const disp = this.#pick([0, 0x40, -0x300]);
    this.#gpr[base] = BigInt(DATA + 0x1000 - disp);
    const segment = base === 4 || base === 5 ? 2 : 3;
    return {
      base,
      index: this.#below(this.#registers),
      vectorIndex: true,
      scale: this.#below(4),
      disp,
      ripRelative: false,
      segment,
    };
  }
  /** Indexes that stay within the data. */
  #indexes(xmm: Uint8Array, insn: Insn): void {
    const view = new DataView(xmm.buffer, insn.memory!.index * 16, 16);
    const wide = insn.row.operation.mnemonic.includes('GATHERQ');
    for (let at = 0; at < 16; at += wide ? 8 : 4) {
      const index = this.#below(400) - 200;
      if (wide) view.setBigInt64(at, BigInt(index), true);
      else view.setInt32(at, index, true);
    }
  }

  /** Sets what the instruction uses without naming it: stack, string registers, counts, branch targets. */
  #implicit(c: Case, insn: Insn, target: bigint): void {
    const { operation } = insn.row;
    const { mnemonic } = operation;
    const free = (n: number): boolean => insn.memory === null || (insn.memory.base !== n && insn.memory.index !== n);
    const put = (n: number, value: bigint): void => {
      const garbage =
        this.mode === 64 && insn.addressSize === 32 && operation.string ? this.random.u64() & ~0xffff_ffffn : 0n;
      if (free(n)) c.gpr[n] = value | garbage;
    };
    const place = (): number => this.#address(insn.row);
    if (operation.string || /^V?MASKMOV(DQU|Q)$/.test(mnemonic)) {
      put(6, BigInt(place()));
      // Which byte of a masked store faults, if any, is the processor's choice.
      if (!operation.string) return put(7, BigInt(DATA + 0x100 + this.#below(0x1e00)));
      put(7, this.#below(4) === 0 ? BigInt.asUintN(32, c.gpr[6]!) + BigInt(this.#below(32) - 16) : BigInt(place()));
      if (insn.rep !== 'none') put(1, BigInt(this.#below(this.#below(4) === 0 ? 400 : 20)));
      // Comparisons go on for a while when the data repeat.
      if (this.#below(2) === 0) c.gpr[0] = BigInt.asUintN(64, BigInt(this.#pick(EDGES)));
      return;
    }
    if (mnemonic === 'XLAT') put(3, target & (insn.addressSize === 32 ? 0xffff_ffffn : ~0n));
    if (/^LOOP|JRCXZ/.test(mnemonic))
      c.gpr[1] = BigInt.asUintN(this.mode, this.#pick([0n, 1n, 2n, 1n << 32n, (1n << 32n) + 1n, c.gpr[1]!]));
    const stack = operation.implicitMemory && /PUSH|POP|RET|CALL|ENTER|LEAVE/.test(mnemonic);
    if (stack) {
      if (free(4)) c.gpr[4] = BigInt(place());
      if (mnemonic === 'LEAVE' || mnemonic === 'ENTER') c.gpr[5] = BigInt(place());
    }
    const landing = (): bigint => (this.#below(12) === 0 ? this.#value() : BigInt(CODE + this.#below(0x3000)));
    if (mnemonic === 'RET' || mnemonic === 'POPF') {
      const at = Number(c.gpr[4]!);
      if (at <= DATA + DATA_SIZE - 16) {
        c.memoryAt = at;
        // No trap flag, no alignment checks, and nothing that would stay for the next case.
        const value = mnemonic === 'RET' ? landing() : this.random.u64() & ~0x244100n;
        new DataView(c.memory.buffer).setBigUint64(0, value, true);
      } else if (mnemonic === 'POPF') c.gpr[4] = BigInt(DATA + 0x800);
    }
    if ((mnemonic === 'JMP' || mnemonic === 'CALL') && operation.flow === 'indirect') {
      const [to] = insn.operands;
      if (to!.place === 'memory') new DataView(c.memory.buffer).setBigUint64(0, landing(), true);
      else c.gpr[to!.register] = landing();
    }
    if (mnemonic === 'DIV' || mnemonic === 'IDIV') this.#divide(c);
    if (mnemonic === 'CMPXCHG') this.#equal(c, insn);
    if (mnemonic.startsWith('CMPXCHG') && mnemonic !== 'CMPXCHG' && this.#below(2) === 0) {
      const view = new DataView(c.memory.buffer);
      const wide = mnemonic === 'CMPXCHG16B';
      c.gpr[0] = wide ? view.getBigUint64(0, true) : BigInt(view.getUint32(0, true));
      c.gpr[2] = wide ? view.getBigUint64(8, true) : BigInt(view.getUint32(4, true));
    }
  }

  /** Dividends with small upper halves, so that some quotients fit. */
  #divide(c: Case): void {
    const kind = this.#below(4);
    if (kind === 0) c.gpr[2] = 0n;
    if (kind === 1) c.gpr[2] = BigInt.asUintN(64, BigInt(this.#below(16) - 8));
    if (kind === 2) c.gpr[2] = BigInt.asUintN(64, BigInt.asIntN(64, c.gpr[0]!) >> 63n);
  }

  /** Makes the comparison succeed half of the time. */
  #equal(c: Case, insn: Insn): void {
    if (this.#below(2) === 0) return;
    const [dst] = insn.operands;
    if (dst!.place === 'memory') c.gpr[0] = new DataView(c.memory.buffer).getBigUint64(0, true);
    else c.gpr[0] = dst!.high ? c.gpr[dst!.register]! >> 8n : c.gpr[dst!.register]!;
  }
}

/** Rows whose effect in user mode is the same on any processor that has them. */
export const testableRows = (mode: 32 | 64): Row[] => rows.filter((row) => testable(row, mode));
