/** Finds the shortest encoding of a mnemonic with parsed operands, among all rows that fit. */
import { decode } from '../decode.ts';
import { widthOf } from '../decoding/sizes.ts';
import type { OperandSpec, Row } from '../row.ts';
import { rows } from '../row.ts';
import { encode, type OperandValue, type Request } from './encode.ts';
import { meaningsOf } from './mnemonics.ts';
import type { ParsedOperand } from './operand.ts';

export interface Statement {
  readonly mnemonic: string;
  readonly operands: readonly ParsedOperand[];
  readonly mode: 16 | 32 | 64;
  readonly address: bigint;
  readonly lock: boolean;
  readonly rep: 'none' | 'rep' | 'repne';
  /** `short`, `near` or `far` before the operands, or ''. */
  readonly distance: string;
}

const FILES: Readonly<Record<string, string>> = {
  E: 'gpr',
  G: 'gpr',
  R: 'gpr',
  Z: 'gpr',
  B: 'gpr',
  V: 'xmm',
  L: 'xmm',
  W: 'xmm',
  U: 'xmm',
  H: 'xmm',
  P: 'mmx',
  Q: 'mmx',
  N: 'mmx',
  S: 'segment',
  C: 'control',
  D: 'debug',
  T: 'st',
};
const IN_MEMORY = 'EWQMO';
const IMPLICIT = (spec: OperandSpec): boolean => spec.letter === 'X' || spec.letter === 'Y' || spec.letter === 'fixed';

const byMnemonic: Map<string, Row[]> = new Map();
let counted = 0;
function rowsOf(mnemonic: string): readonly Row[] {
  for (; counted < rows.length; counted++) {
    const row = rows[counted]!;
    const known = byMnemonic.get(row.operation.mnemonic);
    if (known === undefined) byMnemonic.set(row.operation.mnemonic, [row]);
    else known.push(row);
  }
  return byMnemonic.get(mnemonic) ?? [];
}

/** The bytes of a statement; throws a SyntaxError where nothing fits. */
export function select(statement: Statement): Uint8Array {
  const { mnemonic, operands, mode } = statement;
  let best: Uint8Array | null = null;
  for (const { mnemonic: name, size, condition } of meaningsOf(mnemonic, operands.length)) {
    for (const row of rowsOf(name)) {
      if (row.only === (mode === 64 ? 'no64' : '64') || (condition >= 0 && row.condition !== condition)) continue;
      if (/^(JMPF|CALLF)$/.test(name) !== isFar(statement)) {
        if (/^(JMPF?|CALLF?)$/.test(name)) continue;
      }
      for (const operandSize of size === 0 ? sizesFor(row, mode) : [size as 16 | 32 | 64]) {
        const code = attempt(statement, row, operandSize, size !== 0);
        if (code !== null && (best === null || code.length < best.length)) best = code;
      }
    }
  }
  if (best === null) throw new SyntaxError(`no such instruction: ${mnemonic} with these operands in ${mode}-bit code`);
  return best;
}

const isFar = ({ operands, distance }: Statement): boolean => distance === 'far' || operands[0]?.kind === 'far';

/** Operand sizes to try, the default first. */
function sizesFor({ operation, rexW }: Row, mode: 16 | 32 | 64): (16 | 32 | 64)[] {
  if (mode !== 64) return mode === 32 ? [32, 16] : [16, 32];
  if (operation.force64) return [64];
  if (operation.default64) return [64, 16];
  return rexW === 1 ? [64] : rexW === 0 ? [32, 16] : [32, 64, 16];
}

function attempt(statement: Statement, row: Row, operandSize: 16 | 32 | 64, sized: boolean): Uint8Array | null {
  const { operands, mode, address } = statement;
  const given = operands.length === 0 && row.operands.every(IMPLICIT) ? [] : operands;
  if (given.length !== 0 && given.length !== row.operands.length) return null;
  if (given.length === 0 && row.operands.length !== 0 && !row.operands.every(IMPLICIT)) return null;
  const standard = sizesFor(row, mode)[0]!;
  const [to] = row.operands;
  if (to?.letter === 'J' && statement.distance === (to.size === 'b' ? 'near' : 'short')) return null;
  if (given[0]?.kind === 'far' && given[0].size !== 0 && given[0].size !== operandSize) return null;
  // Without an operand that shows it, the size is the standard one.
  const shown = sized || given.some((o, i) => showsSize(o, row.operands[i]!));
  if (operandSize !== standard && !shown) return null;
  if (needsSize(row, given)) return null;
  const memory = given.find((o) => o.kind === 'memory');
  const addressSize = memory !== undefined && memory.addressSize !== 0 ? (memory.addressSize as 16 | 32 | 64) : mode;
  const values: OperandValue[] = [];
  for (const [i, spec] of row.operands.entries()) {
    const value =
      given.length === 0 ? ({ kind: 'implicit' } as const) : fitOperand(spec, given[i]!, operandSize, mode, address);
    if (value === null) return null;
    values.push(value);
  }
  const request: Request = {
    row,
    mode,
    operandSize,
    addressSize,
    operands: values,
    lock: statement.lock,
    rep: statement.rep,
  };
  try {
    let code = encode(request);
    if (memory?.relative === true) {
      const disp = Number(memory.disp - address - BigInt(code.length));
      const fixed = values.map((v) => (v.kind === 'memory' ? { ...v, memory: { ...v.memory, disp } } : v));
      code = encode({ ...request, operands: fixed });
    }
    const insn = decode(code, 0, code.length, mode);
    return typeof insn !== 'string' && insn.row.operation === row.operation && insn.operandSize === operandSize
      ? code
      : null;
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

const showsSize = (operand: ParsedOperand, spec: OperandSpec): boolean =>
  'vzypx'.includes(spec.size) && (operand.kind === 'register' ? operand.file === 'gpr' : operand.size !== 0);

/** A memory operand without a size keyword, and nothing else that says it. */
function needsSize(row: Row, given: readonly ParsedOperand[]): boolean {
  const bare = given.some(
    (o, i) =>
      o.kind === 'memory' && o.size === 0 && row.operands[i]!.letter === 'E' && 'bwvd'.includes(row.operands[i]!.size),
  );
  if (!bare) return false;
  const others = given.filter((o) => o.kind === 'register' && o.file !== 'segment');
  const counts = row.operands.some((s) => s.letter === 'fixed' && s.register === 1);
  if (others.length === 0 || counts)
    return rowsOf(row.operation.mnemonic).some((r) => r.operands[0]?.letter === 'E' && r.operands[0].size === 'b');
  // MOVZX and MOVSX have memory operands of two sizes.
  return /^MOV[SZ]X$/.test(row.operation.mnemonic);
}

function fitOperand(
  spec: OperandSpec,
  operand: ParsedOperand,
  operandSize: 16 | 32 | 64,
  mode: 16 | 32 | 64,
  address: bigint,
): OperandValue | null {
  const width = widthOf(spec, operandSize, operandSize === 64 ? 1 : 0, mode);
  switch (operand.kind) {
    case 'register': {
      if (spec.letter === 'fixed')
        return spec.register === operand.register &&
          !operand.high &&
          spec.file === operand.file &&
          (operand.file !== 'gpr' || width === operand.width)
          ? { kind: 'implicit' }
          : null;
      if (FILES[spec.letter] !== operand.file) return null;
      if (operand.file === 'gpr' && operand.width !== width) return null;
      // XMM registers stand for scalars of any width; YMM registers for nothing else.
      if (operand.file === 'xmm' && (operand.width === 256) !== (width === 256)) return null;
      return { kind: 'register', register: operand.register, high: operand.high };
    }
    case 'memory': {
      if (!IN_MEMORY.includes(spec.letter)) return null;
      if (operand.size !== 0 && !'xp'.includes(spec.size) && operand.size !== width) return null;
      if (spec.letter === 'O' && (operand.base >= 0 || operand.index >= 0 || operand.relative)) return null;
      const { base, index, scale, disp, relative } = operand;
      const standard = base === 4 || base === 5 ? 2 : 3;
      const segment = operand.segment < 0 ? standard : operand.segment;
      const bits = operand.addressSize === 0 ? mode : operand.addressSize;
      const signed = BigInt.asIntN(bits, disp);
      const cut = bits === 16 ? Number(BigInt.asIntN(16, disp)) : Number(signed);
      if (spec.letter !== 'O' && bits === 64 && !relative && BigInt.asIntN(32, signed) !== signed) return null;
      const inMemory = { base, index, scale, disp: relative ? 0 : cut, ripRelative: relative, segment };
      return { kind: 'memory', memory: inMemory, ...(spec.letter === 'O' ? { offset: disp } : {}) };
    }
    case 'far':
      return spec.letter === 'A'
        ? { kind: 'far', selector: Number(operand.selector), offset: Number(operand.offset) }
        : null;
    default: {
      if (spec.letter === 'J') return { kind: 'relative', displacement: Number(operand.value - address) };
      if (spec.letter !== 'I') return null;
      return immediateFits(spec, operand.value, operandSize) ? { kind: 'immediate', value: operand.value } : null;
    }
  }
}

function immediateFits({ size }: OperandSpec, value: bigint, operandSize: 16 | 32 | 64): boolean {
  if (size === 'b') return value >= -128n && value <= 255n;
  if (size === 'w') return value >= -0x8000n && value <= 0xffffn;
  const limit = 1n << BigInt(operandSize);
  if (value < -(limit >> 1n) || value >= limit) return false;
  const signed = BigInt.asIntN(operandSize, value);
  if (size === 's') return signed >= -128n && signed <= 127n;
  return size === 'v' || operandSize < 64 || BigInt.asIntN(32, signed) === signed;
}
