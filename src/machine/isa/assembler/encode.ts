/**
 * The encoder: from a row of the instruction table and operand values to bytes. The decoder's inverse, from the same rows.
 * @sdm "Instruction Format"
 */
import type { Insn, MemoryOperand } from '../insn.ts';
import type { OperandSpec, Row } from '../row.ts';

/** What stands for one operand. */
export type OperandValue =
  | { readonly kind: 'register'; readonly register: number; readonly high?: boolean }
  /** `offset`: a 64-bit absolute one (MOV moffs), in place of the displacement. */
  | { readonly kind: 'memory'; readonly memory: MemoryOperand; readonly offset?: bigint }
  | { readonly kind: 'immediate'; readonly value: bigint }
  /** Branch target, counted from the first byte of the instruction. */
  | { readonly kind: 'relative'; readonly displacement: number }
  | { readonly kind: 'far'; readonly selector: number; readonly offset: number }
  /** Named by the encoding, nothing to encode. */
  | { readonly kind: 'implicit' };

export interface Request {
  readonly row: Row;
  readonly mode: 16 | 32 | 64;
  readonly operandSize: 16 | 32 | 64;
  readonly addressSize: 16 | 32 | 64;
  readonly operands: readonly OperandValue[];
  readonly lock?: boolean;
  readonly rep?: 'none' | 'rep' | 'repne';
  /** Segment of implicit memory operands; DS needs no prefix. */
  readonly segment?: number;
  /** A REX prefix even where none is needed. */
  readonly forceRex?: boolean;
  /** A full-size displacement even where 8 bits or none would do. */
  readonly wideDisplacement?: boolean;
}

const SEGMENT_PREFIX = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65];
const NO_OVERRIDE = -1;

/** Index of the (base, index) pair of 16-bit addressing in ModRM.rm, -1 if there is none. */
const rm16 = (base: number, index: number): number => {
  const key = `${base},${index}`;
  return ['3,6', '3,7', '5,6', '5,7', '6,-1', '7,-1', '5,-1', '3,-1'].indexOf(key);
};

/** The segment an address uses without an override. */
export const defaultSegment = ({ base }: MemoryOperand): number => (base === 4 || base === 5 ? 2 : 3);

/** What the encoding of one instruction is put together from. */
class Parts {
  override: number = NO_OVERRIDE;
  rex = 0;
  modrm = -1;
  opcode: number;
  vvvv = 0;
  readonly address: number[] = [];
  readonly immediate: number[] = [];
  /** Size of a relative displacement, which stands at the end of the instruction. */
  relative: { size: number; displacement: number } | null = null;

  constructor(row: Row) {
    this.opcode = row.opcode;
    if (row.modrm >= 0) this.modrm = row.modrm;
    else if (row.hasModrm) this.modrm = row.extension < 0 ? 0 : row.extension << 3;
    if (row.form === 'reg' && row.modrm < 0) this.modrm |= 0xc0;
  }

  reg(n: number): void {
    this.modrm |= (n & 7) << 3;
    if (n & 8) this.rex |= 4;
  }
  rm(n: number): void {
    this.modrm |= 0xc0 | (n & 7);
    if (n & 8) this.rex |= 1;
  }
}

const little = (value: bigint, bytes: number): number[] =>
  Array.from({ length: bytes }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));

/** Encodes one instruction; throws a RangeError where the operands do not fit the row. */
export function encode(request: Request): Uint8Array {
  const { row, mode, operandSize, addressSize, operands } = request;
  if (operands.length !== row.operands.length) throw new RangeError(`${row.text}: ${operands.length} operands`);
  const { operation } = row;
  const parts = new Parts(row);
  if (request.segment !== undefined && request.segment !== 3) parts.override = request.segment;
  row.operands.forEach((spec, i) => {
    place(parts, request, spec, operands[i]!);
  });

  if (request.forceRex === true) parts.rex |= 0x40;
  const wide =
    row.rexW === 1 || (row.rexW < 0 && operandSize === 64 && mode === 64 && !operation.force64 && !operation.default64);
  if (wide) parts.rex |= 8;
  if (mode !== 64 && row.vex < 0 && parts.rex !== 0) throw new RangeError(`${row.text}: needs 64-bit mode`);

  const legacy: number[] = [];
  if (parts.override !== NO_OVERRIDE) legacy.push(SEGMENT_PREFIX[parts.override]!);
  if (addressSize !== mode) legacy.push(0x67);
  if (request.lock === true) legacy.push(0xf0);
  const small = mode === 16 ? operandSize === 32 : operandSize === 16;
  if (row.vex < 0 && (row.prefix === '66' || (small && !operation.force64) || (small && mode !== 64)))
    legacy.push(0x66);
  if (request.rep === 'rep') legacy.push(0xf3);
  if (request.rep === 'repne') legacy.push(0xf2);

  let head: number[];
  if (row.vex >= 0) head = vexPrefix(row, parts);
  else {
    if (row.prefix === 'F3') legacy.push(0xf3);
    if (row.prefix === 'F2') legacy.push(0xf2);
    head = parts.rex === 0 ? [] : [0x40 | parts.rex];
    if (row.map > 0) head.push(0x0f);
    if (row.map > 1) head.push(row.map === 2 ? 0x38 : 0x3a);
  }
  const body = [...legacy, ...head, parts.opcode, ...(parts.modrm < 0 ? [] : [parts.modrm]), ...parts.address];
  body.push(...parts.immediate);
  if (parts.relative !== null) {
    const { size, displacement } = parts.relative;
    const distance = displacement - body.length - size;
    if (size === 1 && (distance < -128 || distance > 127))
      throw new RangeError(`${row.text}: does not reach ${displacement}`);
    body.push(...little(BigInt.asUintN(64, BigInt(distance)), size));
  }
  if (body.length > 15) throw new RangeError(`${row.text}: longer than 15 bytes`);
  return Uint8Array.from(body);
}

function vexPrefix(row: Row, parts: Parts): number[] {
  const { rex } = parts;
  const tail = ((~parts.vvvv & 15) << 3) | ((row.vex & 1) << 2) | ['NP', '66', 'F3', 'F2'].indexOf(row.prefix);
  if (row.map === 1 && (rex & 11) === 0) return [0xc5, ((~rex & 4) << 5) | tail];
  return [0xc4, ((~rex & 4) << 5) | ((~rex & 2) << 5) | ((~rex & 1) << 5) | row.map, ((rex & 8) << 4) | tail];
}

function place(parts: Parts, request: Request, spec: OperandSpec, value: OperandValue): void {
  const { row, mode, operandSize } = request;
  const byte = spec.size === 'b';
  const register = (): number => {
    if (value.kind !== 'register') throw new RangeError(`${row.text}: ${spec.letter} is a register`);
    const gpr = 'EGRZB'.includes(spec.letter);
    if (byte && gpr && value.high !== true && value.register >= 4) parts.rex |= 0x40;
    return value.high === true ? value.register + 4 : value.register;
  };
  switch (spec.letter) {
    case 'G':
    case 'V':
    case 'P':
    case 'S':
    case 'C':
    case 'D':
      parts.reg(register());
      return;
    case 'B':
    case 'H':
      parts.vvvv = register();
      return;
    case 'R':
    case 'U':
    case 'N':
    case 'T':
      parts.rm(register());
      return;
    case 'Z': {
      const n = register();
      parts.opcode = (parts.opcode & ~7) | (n & 7);
      if (n & 8) parts.rex |= 1;
      return;
    }
    case 'E':
    case 'W':
    case 'Q':
    case 'M':
    case 'K':
      if (value.kind === 'memory') placeMemory(parts, request, value.memory);
      else parts.rm(register());
      return;
    case 'L':
      parts.immediate.push(register() << 4);
      return;
    case 'O': {
      if (value.kind !== 'memory') throw new RangeError(`${row.text}: needs an address`);
      const { segment, disp } = value.memory;
      const offset = value.offset ?? BigInt(disp);
      if (segment !== 3) parts.override = segment;
      parts.address.push(...little(BigInt.asUintN(64, offset), request.addressSize / 8));
      return;
    }
    case 'I': {
      if (value.kind !== 'immediate') throw new RangeError(`${row.text}: needs an immediate`);
      const bytes =
        spec.size === 'b' || spec.size === 's'
          ? 1
          : spec.size === 'w' || operandSize === 16
            ? 2
            : operandSize === 64 && spec.size === 'v'
              ? 8
              : 4;
      parts.immediate.push(...little(BigInt.asUintN(64, value.value), bytes));
      return;
    }
    case 'J':
      if (value.kind !== 'relative') throw new RangeError(`${row.text}: needs a branch target`);
      parts.relative = { size: byte ? 1 : operandSize === 16 ? 2 : 4, displacement: value.displacement };
      return;
    case 'A':
      if (value.kind !== 'far') throw new RangeError(`${row.text}: needs a far pointer`);
      parts.immediate.push(...little(BigInt(value.offset), operandSize === 16 ? 2 : 4));
      parts.immediate.push(...little(BigInt(value.selector), 2));
      return;
    case 'X':
      if (value.kind === 'memory' && value.memory.segment !== 3) parts.override = value.memory.segment;
      return;
    default:
      void mode;
  }
}

function placeMemory(parts: Parts, request: Request, memory: MemoryOperand): void {
  const { mode, addressSize, wideDisplacement = false } = request;
  const { base, index, scale, disp, ripRelative, segment } = memory;
  if (request.row.form === 'reg') throw new RangeError(`${request.row.text}: a register, not memory`);
  const standard = defaultSegment(memory);
  if (segment !== standard) parts.override = segment;
  if (addressSize === 16) {
    const pair = rm16(base, index);
    if (base < 0 && index < 0) {
      parts.modrm |= 6;
      parts.address.push(...little(BigInt.asUintN(64, BigInt(disp)), 2));
      return;
    }
    if (pair < 0) throw new RangeError('not an address of 16 bits');
    parts.modrm |= pair | displacement(parts, disp, 2, pair === 6, wideDisplacement);
    return;
  }
  if (ripRelative || (base < 0 && index < 0 && mode !== 64)) {
    parts.modrm |= 5;
    parts.address.push(...little(BigInt.asUintN(64, BigInt(disp)), 4));
    return;
  }
  if (index === 4 && memory.vectorIndex !== true) throw new RangeError('the stack pointer cannot be an index');
  if (index >= 0 || base < 0 || (base & 7) === 4) {
    parts.modrm |= 4;
    parts.address.push((scale << 6) | (((index < 0 ? 4 : index) & 7) << 3) | ((base < 0 ? 5 : base) & 7));
    if (index >= 0 && index & 8) parts.rex |= 2;
  } else parts.modrm |= base & 7;
  if (base >= 8) parts.rex |= 1;
  if (base < 0) parts.address.push(...little(BigInt.asUintN(64, BigInt(disp)), 4));
  else parts.modrm |= displacement(parts, disp, 4, (base & 7) === 5, wideDisplacement);
}

/** Appends the displacement and returns ModRM.mod in place. */
function displacement(parts: Parts, disp: number, size: 2 | 4, needed: boolean, wide: boolean): number {
  if (disp === 0 && !needed && !wide) return 0;
  const short = disp >= -128 && disp < 128 && !wide;
  parts.address.push(...little(BigInt.asUintN(64, BigInt(disp)), short ? 1 : size));
  return short ? 0x40 : 0x80;
}

/** The request that encodes a decoded instruction again; the bytes may differ where x86 has several encodings. */
export function requestOf(insn: Insn): Request {
  const { row, memory } = insn;
  const taken = { immediates: 0 };
  const operands = insn.operands.map((o, i): OperandValue => {
    switch (o.place) {
      case 'memory':
        return memory === null || 'XY'.includes(row.operands[i]!.letter)
          ? { kind: 'implicit' }
          : row.operands[i]!.letter === 'O' && insn.addressSize === 64
            ? { kind: 'memory', memory, offset: insn.immediate }
            : { kind: 'memory', memory };
      case 'immediate':
      case 'immediate64':
        return { kind: 'immediate', value: taken.immediates++ === 0 ? insn.immediate : BigInt(insn.immediate2) };
      case 'relative':
        return { kind: 'relative', displacement: insn.displacement };
      case 'far':
        return { kind: 'far', selector: insn.immediate2, offset: Number(insn.immediate) };
      case 'fixed':
        return { kind: 'implicit' };
      default:
        return { kind: 'register', register: o.register, high: o.high };
    }
  });
  return {
    row,
    mode: insn.mode,
    operandSize: insn.operandSize,
    addressSize: insn.addressSize,
    operands,
    lock: insn.lock,
    rep: insn.rep,
    ...(memory === null ? { segment: insn.segment } : {}),
    forceRex: insn.rex !== 0 && row.vex < 0,
  };
}
