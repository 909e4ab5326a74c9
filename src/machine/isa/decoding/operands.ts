/** Binds the operands of a row to what an encoding says: one letter of the tables, one way. */

import type { Operand, OperandWidth, Place, RegisterFile } from '../insn.ts';
import type { OperandSpec, Row } from '../row.ts';
import type { Encoding } from './encoding.ts';
import { readOffset } from './memory.ts';
import { widthOf } from './sizes.ts';

/** Where a letter's operand is. */
interface Binding {
  /** The field with the register's number. */
  readonly field: 'reg' | 'rm' | 'opcode' | 'vvvv' | 'none';
  readonly file: RegisterFile;
  /** Whether ModRM may or must name memory instead; 'no' is also for letters that do not ask ModRM.mod. */
  readonly memory: 'no' | 'may' | 'must' | 'never';
}

const BINDINGS: Readonly<Record<string, Binding>> = {
  G: { field: 'reg', file: 'gpr', memory: 'no' },
  Z: { field: 'opcode', file: 'gpr', memory: 'no' },
  B: { field: 'vvvv', file: 'gpr', memory: 'no' },
  R: { field: 'rm', file: 'gpr', memory: 'no' },
  E: { field: 'rm', file: 'gpr', memory: 'may' },
  M: { field: 'none', file: 'gpr', memory: 'must' },
  V: { field: 'reg', file: 'xmm', memory: 'no' },
  H: { field: 'vvvv', file: 'xmm', memory: 'no' },
  K: { field: 'none', file: 'gpr', memory: 'must' },
  W: { field: 'rm', file: 'xmm', memory: 'may' },
  U: { field: 'rm', file: 'xmm', memory: 'never' },
  P: { field: 'reg', file: 'mmx', memory: 'no' },
  Q: { field: 'rm', file: 'mmx', memory: 'may' },
  N: { field: 'rm', file: 'mmx', memory: 'never' },
  T: { field: 'rm', file: 'st', memory: 'no' },
  S: { field: 'reg', file: 'segment', memory: 'no' },
  C: { field: 'reg', file: 'control', memory: 'no' },
  D: { field: 'reg', file: 'debug', memory: 'no' },
};

const LAST_SEGMENT = 5;

/** Reads and binds all operands. Sets `e.invalid` for one that there is not; what follows it is read all the same. */
export function bindOperands(e: Encoding, row: Row): Operand[] {
  const { operation } = row;
  const operands: Operand[] = [];
  for (let i = 0; i < row.operands.length; i++) {
    const spec = row.operands[i]!;
    const width = widthOf(spec, e.operandSize, e.w, e.mode);
    const access = i === 0 ? operation.dst : i === 1 ? operation.src : 'r';
    operands.push(bindOperand(e, spec, width, access));
  }
  return operands;
}

function bindOperand(e: Encoding, spec: OperandSpec, width: OperandWidth, access: Operand['access']): Operand {
  const binding = BINDINGS[spec.letter];
  if (binding !== undefined) return bound(e, binding, width, access);
  switch (spec.letter) {
    case 'X':
    case 'Y':
      return without('memory', width, access);
    case 'fixed':
      return { place: 'fixed', file: spec.file, register: spec.register, width, access, high: false };
    case 'L': {
      const byte = e.mode === 64 ? e.u8() : e.u8() & 0x7f;
      e.immediate = BigInt(byte & 0xf0);
      return { place: 'is4', file: 'xmm', register: byte >> 4, width, access, high: false };
    }
    case 'O':
      readOffset(e);
      return without('memory', width, access);
    case 'A':
      e.immediate = BigInt((e.operandSize === 16 ? e.u16() : e.i32()) >>> 0);
      e.immediate2 = e.u16();
      return without('far', width, access);
    case 'J':
      e.displacement = spec.size === 'b' ? e.i8() : e.operandSize === 16 ? e.i16() : e.i32();
      return without('relative', width, access);
    default:
      return without(readImmediate(e, spec, width), width, access);
  }
}

function bound(e: Encoding, { field, file, memory }: Binding, width: OperandWidth, access: Operand['access']): Operand {
  if (memory === (e.memory === null ? 'must' : 'never')) e.invalid = true;
  if (memory === 'must' || (memory === 'may' && e.memory !== null)) return without('memory', width, access);
  const place = field === 'opcode' ? 'rm' : (field as 'reg' | 'rm' | 'vvvv');
  const number = numberIn(e, field) & (file === 'mmx' || file === 'st' || file === 'segment' ? 7 : 15);
  if (file === 'segment' && number > LAST_SEGMENT) e.invalid = true;
  const high = file === 'gpr' && width === 8 && e.rex === 0 && number >= 4 && number < 8;
  return { place, file, register: high ? number - 4 : number, width, access, high };
}

function numberIn(e: Encoding, field: Binding['field']): number {
  switch (field) {
    case 'reg':
      return e.reg;
    case 'vvvv':
      return e.vvvv;
    case 'opcode':
      return (e.opcode & 7) | ((e.rex & 1) << 3);
    default:
      return e.rm;
  }
}

/** An operand that is in no register. */
const without = (place: Place, width: OperandWidth, access: Operand['access']): Operand => ({
  place,
  file: 'gpr',
  register: -1,
  width,
  access,
  high: false,
});

/** Reads an immediate; a second one follows the first (ENTER). */
function readImmediate(e: Encoding, spec: OperandSpec, width: OperandWidth): 'immediate' | 'immediate64' {
  const whole = width === 64 && spec.size === 'v';
  let value: bigint;
  if (spec.size === 'b' || spec.size === 's') value = BigInt(e.i8());
  else if (spec.size === 'w' || width === 16) value = BigInt(e.i16());
  else {
    value = BigInt(e.i32());
    if (whole) value = (BigInt(e.i32()) << 32n) | BigInt.asUintN(32, value);
  }
  if (e.immediates++ === 0) e.immediate = value;
  else e.immediate2 = Number(value);
  return whole ? 'immediate64' : 'immediate';
}
