/**
 * The decoder: finds the row of an encoding and binds its operands. Table-driven; the assembler and the tests use the same rows.
 * @sdm "Instruction Format", "Intel 64 Architecture" (prefixes, REX, ModRM, SIB, displacement, immediates), "VEX Prefix"
 */
import type { Insn, MemoryOperand, Operand, OperandWidth, RegisterFile } from './insn.ts';
import { type OperandSpec, type Row, rows } from './row.ts';

/** Not an instruction: #UD. */
export const INVALID = 'invalid';
/** The bytes at hand end before the instruction does. */
export const TRUNCATED = 'truncated';
/** Longer than 15 bytes: #GP(0). */
export const TOO_LONG = 'too long';

/** [vex][map][opcode] → candidate rows. Rows that demand a prefix come first. */
const tables: Row[][][][] = [];
let built = 0;

function build(): void {
  tables.length = 0;
  for (let vex = 0; vex < 2; vex++) tables.push([0, 1, 2, 3].map(() => Array.from({ length: 256 }, () => [])));
  for (const row of rows) tables[row.vex < 0 ? 0 : 1]![row.map]![row.opcode]!.push(row);
  const rank = (row: Row) => (row.modrm >= 0 ? 0 : 2) + (row.prefix === '' ? 1 : 0);
  for (const maps of tables) for (const map of maps) for (const list of map) list.sort((a, b) => rank(a) - rank(b));
  built = rows.length;
}

const NO_MEMORY: MemoryOperand = { base: -1, index: -1, scale: 0, disp: 0, ripRelative: false, segment: 3 };

// The cursor of the decode under way: module state, so that decoding allocates only the Insn.
let code: Uint8Array;
let at = 0;
let end = 0;
let failure: typeof TRUNCATED | null = null;

function u8(): number {
  if (at >= end) {
    failure = TRUNCATED;
    return 0;
  }
  return code[at++]!;
}
const i8 = (): number => (u8() << 24) >> 24;
const u16 = (): number => u8() | (u8() << 8);
const i32 = (): number => u8() | (u8() << 8) | (u8() << 16) | (u8() << 24);

/**
 * Decodes the instruction at `offset`.
 * @param bytes code; only [offset, limit) may be read
 * @param mode 16, 32 or 64: default code size
 */
export function decode(
  bytes: Uint8Array,
  offset: number,
  limit: number,
  mode: 16 | 32 | 64,
): Insn | typeof INVALID | typeof TRUNCATED | typeof TOO_LONG {
  if (built !== rows.length) build();
  code = bytes;
  at = offset;
  end = Math.min(limit, offset + 15);
  failure = null;
  const result = decodeBody(offset, mode);
  if (failure !== null) return end < limit || end - offset === 15 ? TOO_LONG : TRUNCATED;
  return result;
}

function decodeBody(start: number, mode: 16 | 32 | 64): Insn | typeof INVALID {
  // ---- legacy prefixes and REX
  let size66 = false,
    size67 = false,
    lock = false,
    repeat = 0,
    override = -1,
    rex = 0;
  let byte = 0;
  for (;;) {
    byte = u8();
    if (failure !== null) return INVALID;
    if (mode === 64 && (byte & 0xf0) === 0x40) {
      rex = byte;
      continue;
    }
    const before = rex;
    rex = 0; // REX counts only directly before the opcode
    switch (byte) {
      case 0x66:
        size66 = true;
        continue;
      case 0x67:
        size67 = true;
        continue;
      case 0xf0:
        lock = true;
        continue;
      case 0xf2:
      case 0xf3:
        repeat = byte;
        continue;
      case 0x26:
      case 0x2e:
      case 0x36:
      case 0x3e:
        if (mode !== 64) override = (byte >> 3) & 3;
        continue;
      case 0x64:
      case 0x65:
        override = byte - 0x60;
        continue;
    }
    rex = before;
    break;
  }

  // ---- opcode
  let map: 0 | 1 | 2 | 3 = 0,
    opcode = byte,
    vex = false,
    vexL = 0,
    vexPrefix = 0,
    vvvv = 0,
    namesRegister = false,
    w = (rex >> 3) & 1;
  if ((byte === 0xc4 || byte === 0xc5) && at < end && (mode === 64 || code[at]! >= 0xc0)) {
    if (rex !== 0 || size66 || lock || repeat !== 0) return INVALID;
    vex = true;
    const first = u8();
    let last = first;
    rex = ((~first >> 7) & 1) << 2;
    if (byte === 0xc4) {
      rex |= (((~first >> 6) & 1) << 1) | ((~first >> 5) & 1);
      last = u8();
      w = last >> 7;
      const mmmmm = first & 31;
      if (mmmmm < 1 || mmmmm > 3) return INVALID;
      map = mmmmm as 1 | 2 | 3;
    } else {
      w = 0;
      map = 1;
    }
    rex |= 0x40 | (w << 3);
    vvvv = (~last >> 3) & 15;
    vexL = (last >> 2) & 1;
    vexPrefix = last & 3;
    namesRegister = vvvv !== 0;
    if (mode !== 64) {
      rex &= ~7;
      vvvv &= 7;
    }
    opcode = u8();
  } else if (byte === 0x0f) {
    opcode = u8();
    map = 1;
    if (opcode === 0x38 || opcode === 0x3a) {
      map = opcode === 0x38 ? 2 : 3;
      opcode = u8();
    }
  }
  if (failure !== null) return INVALID;

  // ---- row
  const list = tables[vex ? 1 : 0]![map]![opcode]!;
  if (list.length === 0) return INVALID;
  const mandatory = vex
    ? (['NP', '66', 'F3', 'F2'] as const)[vexPrefix]!
    : repeat === 0xf3
      ? 'F3'
      : repeat === 0xf2
        ? 'F2'
        : size66
          ? '66'
          : 'NP';
  const withModrm = list[0]!.hasModrm || list[list.length - 1]!.hasModrm;
  const modrm = withModrm ? u8() : 0;
  let row: Row | undefined;
  for (const candidate of list) {
    if (candidate.prefix === 'NR' ? repeat !== 0 : candidate.prefix !== '' && candidate.prefix !== mandatory) continue;
    if (candidate.only !== 'all' && (candidate.only === '64') !== (mode === 64)) continue;
    if (candidate.modrm >= 0) {
      if (candidate.modrm !== modrm) continue;
    } else {
      if (candidate.extension >= 0 && candidate.extension !== ((modrm >> 3) & 7)) continue;
      if (candidate.form !== 'any' && (candidate.form === 'reg') !== modrm >= 0xc0) continue;
    }
    // Outside 64-bit mode VEX.W counts only where it is no operand size.
    if (candidate.rexW >= 0 && candidate.rexW !== (mode === 64 || (vex && !hasGpr(candidate)) ? w : 0)) continue;
    if (vex && candidate.vex !== vexL && candidate.vex !== 2) continue;
    // 90 is NOP; with REX.B it is XCHG r8, rAX.
    if (opcode === 0x90 && map === 0 && (rex & 1) !== 0 && candidate.operation.mnemonic === 'NOP') continue;
    row = candidate;
    break;
  }
  if (failure !== null || row === undefined) return INVALID;
  const { operation } = row;

  // ---- sizes
  // 66 is an operand size prefix unless it chose the row; next to a mandatory F3/F2 it still is.
  const small = size66 && row.prefix !== '66';
  const operandSize: 16 | 32 | 64 =
    mode === 64
      ? operation.force64 || w === 1
        ? 64
        : operation.default64
          ? small
            ? 16
            : 64
          : small
            ? 16
            : 32
      : (mode === 32) !== small
        ? 32
        : 16;
  const addressSize: 16 | 32 | 64 = mode === 64 ? (size67 ? 32 : 64) : (mode === 32) !== size67 ? 32 : 16;

  // ---- ModRM, SIB, displacement
  const reg = ((modrm >> 3) & 7) | ((rex & 4) << 1);
  const rm = (modrm & 7) | ((rex & 1) << 3);
  let memory: MemoryOperand | null = null;
  if (
    row.hasModrm &&
    row.modrm < 0 &&
    modrm < 0xc0 &&
    !row.operands.some((o) => o.letter === 'R' || o.letter === 'C' || o.letter === 'D')
  ) {
    const vsib = vex && row.operands.some((o) => o.letter === 'K');
    if (vsib && (addressSize === 16 || (modrm & 7) !== 4)) return INVALID;
    memory = addressSize === 16 ? memory16(modrm, override) : memory32(modrm, rex, mode, override, vsib);
  }

  // ---- operands
  let immediate = 0n,
    immediate2 = 0,
    displacement = 0,
    immediates = 0;
  let bad = false;
  const operands: Operand[] = [];
  for (let i = 0; i < row.operands.length; i++) {
    const spec = row.operands[i]!;
    const width = widthOf(spec, operandSize, w, mode);
    const access = i === 0 ? operation.dst : i === 1 ? operation.src : 'r';
    switch (spec.letter) {
      case 'G':
        operands.push(registerOperand(reg, 'reg', 'gpr', width, access, rex));
        break;
      case 'Z':
        operands.push(registerOperand((opcode & 7) | ((rex & 1) << 3), 'rm', 'gpr', width, access, rex));
        break;
      case 'B':
        operands.push(registerOperand(vvvv, 'vvvv', 'gpr', width, access, rex));
        break;
      case 'R':
        operands.push(registerOperand(rm, 'rm', 'gpr', width, access, rex));
        break;
      case 'E':
        operands.push(memory === null ? registerOperand(rm, 'rm', 'gpr', width, access, rex) : inMemory(width, access));
        break;
      case 'M':
        if (memory === null) bad = true;
        operands.push(inMemory(width, access));
        break;
      case 'V':
        operands.push(registerOperand(reg, 'reg', 'xmm', width, access, rex));
        break;
      case 'H':
        operands.push(registerOperand(vvvv, 'vvvv', 'xmm', width, access, rex));
        break;
      case 'K':
        if (memory === null) bad = true;
        operands.push(inMemory(width, access));
        break;
      case 'L': {
        const byte = mode === 64 ? u8() : u8() & 0x7f;
        immediate = BigInt(byte & 0xf0);
        operands.push(registerOperand(byte >> 4, 'is4', 'xmm', width, access, rex));
        break;
      }
      case 'W':
        operands.push(memory === null ? registerOperand(rm, 'rm', 'xmm', width, access, rex) : inMemory(width, access));
        break;
      case 'U':
        if (memory !== null) bad = true;
        operands.push(registerOperand(rm, 'rm', 'xmm', width, access, rex));
        break;
      case 'P':
        operands.push(registerOperand(reg & 7, 'reg', 'mmx', width, access, rex));
        break;
      case 'Q':
        operands.push(
          memory === null ? registerOperand(rm & 7, 'rm', 'mmx', width, access, rex) : inMemory(width, access),
        );
        break;
      case 'N':
        if (memory !== null) bad = true;
        operands.push(registerOperand(rm & 7, 'rm', 'mmx', width, access, rex));
        break;
      case 'T':
        operands.push(registerOperand(modrm & 7, 'rm', 'st', width, access, rex));
        break;
      case 'S':
        if ((reg & 7) > 5) bad = true;
        operands.push(registerOperand(reg & 7, 'reg', 'segment', width, access, rex));
        break;
      case 'C':
        operands.push(registerOperand(reg, 'reg', 'control', width, access, rex));
        break;
      case 'D':
        operands.push(registerOperand(reg, 'reg', 'debug', width, access, rex));
        break;
      case 'X':
      case 'Y':
        operands.push(inMemory(width, access));
        break;
      case 'fixed':
        operands.push({ place: 'fixed', file: spec.file, register: spec.register, width, access, high: false });
        break;
      case 'O': {
        const low = addressSize === 16 ? u16() : i32();
        const high = addressSize === 64 ? i32() : 0;
        memory = {
          ...NO_MEMORY,
          disp: addressSize === 64 ? Number((BigInt(high) << 32n) | BigInt(low >>> 0)) : low >>> 0,
          segment: override >= 0 ? override : 3,
        };
        // Absolute 64-bit offsets beyond 32 bits travel as an immediate.
        if (addressSize === 64) immediate = (BigInt(high) << 32n) | BigInt(low >>> 0);
        operands.push(inMemory(width, access));
        break;
      }
      case 'A': {
        const target = operandSize === 16 ? u16() : i32();
        immediate = BigInt(target >>> 0);
        immediate2 = u16();
        operands.push({ place: 'far', file: 'gpr', register: -1, width, access, high: false });
        break;
      }
      case 'J': {
        displacement = spec.size === 'b' ? i8() : operandSize === 16 ? (u16() << 16) >> 16 : i32();
        operands.push({ place: 'relative', file: 'gpr', register: -1, width, access, high: false });
        break;
      }
      default: {
        // I: a second immediate follows the first (ENTER)
        const bytes =
          spec.size === 'b' || spec.size === 's'
            ? 1
            : spec.size === 'w' || width === 16
              ? 2
              : width === 64 && spec.size === 'v'
                ? 8
                : 4;
        let value: bigint;
        if (bytes === 8) {
          const low = i32() >>> 0;
          value = (BigInt(i32()) << 32n) | BigInt(low);
        } else value = BigInt(bytes === 1 ? i8() : bytes === 2 ? (u16() << 16) >> 16 : i32());
        if (immediates++ === 0) immediate = value;
        else immediate2 = Number(value);
        operands.push({
          place: bytes === 8 ? 'immediate64' : 'immediate',
          file: 'gpr',
          register: -1,
          width,
          access,
          high: false,
        });
      }
    }
  }
  if (bad || failure !== null) return INVALID;
  if (namesRegister && !row.operands.some((o) => o.letter === 'B' || o.letter === 'H')) return INVALID;
  // A gather's destination, index and mask are three registers.
  if (memory?.vectorIndex && (memory.index === reg || memory.index === vvvv || reg === vvvv)) return INVALID;
  if (lock && !(operation.lock && operands[0]?.place === 'memory')) return INVALID;

  const length = at - start;
  return {
    row,
    mode,
    length,
    operandSize,
    addressSize,
    operands,
    memory,
    segment: override >= 0 ? override : 3,
    immediate,
    immediate2,
    displacement: displacement + length,
    lock,
    rep: repeat === 0 || row.prefix === 'F3' || row.prefix === 'F2' ? 'none' : repeat === 0xf3 ? 'rep' : 'repne',
    rex,
    condition: row.condition,
    handler: -1,
  };
}

const hasGpr = (row: Row): boolean => row.operands.some((o) => 'EGRB'.includes(o.letter));

function registerOperand(
  number: number,
  place: Operand['place'],
  file: RegisterFile,
  width: OperandWidth,
  access: Operand['access'],
  rex: number,
): Operand {
  const high = file === 'gpr' && width === 8 && rex === 0 && number >= 4 && number < 8;
  return { place, file, width, access, register: high ? number - 4 : number, high };
}

const inMemory = (width: OperandWidth, access: Operand['access']): Operand => ({
  place: 'memory',
  file: 'gpr',
  width,
  access,
  register: -1,
  high: false,
});

function memory32(modrm: number, rex: number, mode: number, override: number, vsib: boolean): MemoryOperand {
  const mod = modrm >> 6;
  let base = (modrm & 7) | ((rex & 1) << 3),
    index = -1,
    scale = 0,
    ripRelative = false;
  if ((modrm & 7) === 4) {
    const sib = u8();
    index = ((sib >> 3) & 7) | ((rex & 2) << 2);
    if (index === 4 && !vsib) index = -1;
    if (index >= 0) scale = sib >> 6;
    base = (sib & 7) | ((rex & 1) << 3);
    if ((sib & 7) === 5 && mod === 0) base = -1;
  } else if ((modrm & 7) === 5 && mod === 0) {
    base = -1;
    ripRelative = mode === 64;
  }
  const disp = mod === 1 ? i8() : mod === 2 || base < 0 ? i32() : 0;
  const segment = override >= 0 ? override : base === 4 || base === 5 ? 2 : 3;
  const operand = { base, index, scale, disp, ripRelative, segment };
  return vsib ? { ...operand, vectorIndex: true } : operand;
}

const BASE16 = [3, 3, 5, 5, 6, 7, 5, 3];
const INDEX16 = [6, 7, 6, 7, -1, -1, -1, -1];

function memory16(modrm: number, override: number): MemoryOperand {
  const mod = modrm >> 6,
    rm = modrm & 7;
  const absolute = mod === 0 && rm === 6;
  const base = absolute ? -1 : BASE16[rm]!;
  const disp = mod === 1 ? i8() : mod === 2 || absolute ? (u16() << 16) >> 16 : 0;
  return {
    base,
    index: INDEX16[rm]!,
    scale: 0,
    disp,
    ripRelative: false,
    segment: override >= 0 ? override : base === 5 ? 2 : 3,
  };
}

export function widthOf(spec: OperandSpec, operandSize: 16 | 32 | 64, w: number, mode: number): OperandWidth {
  switch (spec.size) {
    case 'b':
      return 8;
    case 'w':
      return 16;
    case 'd':
      return 32;
    case 'q':
      return 64;
    case 'dq':
      return 128;
    case 'qq':
      return 256;
    case 't':
      return 80;
    case 'y':
      return mode === 64 && w === 1 ? 64 : 32;
    case 'z':
      return spec.letter === 'I' || spec.letter === 'J' ? operandSize : operandSize === 64 ? 32 : operandSize;
    default:
      return operandSize;
  }
}
