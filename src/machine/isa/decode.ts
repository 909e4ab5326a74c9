/**
 * The decoder: finds the row of an encoding and binds its operands. Table-driven; the assembler and the tests use the same rows.
 * @sdm "Instruction Format", "Intel 64 Architecture" (prefixes, REX, ModRM, SIB, displacement, immediates), "VEX Prefix"
 */
import { Encoding } from './decoding/encoding.ts';
import { readMemory } from './decoding/memory.ts';
import { findRow } from './decoding/opcode.ts';
import { bindOperands } from './decoding/operands.ts';
import { addressSizeOf, operandSizeOf } from './decoding/sizes.ts';
import type { Insn } from './insn.ts';

/** Not an instruction: #UD. */
export const INVALID = 'invalid';
/** The bytes at hand end before the instruction does. */
export const TRUNCATED = 'truncated';
/** Longer than 15 bytes: #GP(0). */
export const TOO_LONG = 'too long';

const encoding: Encoding = new Encoding();

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
  encoding.begin(bytes, offset, limit, mode);
  const result = decodeInto(encoding);
  if (!encoding.truncated) return result ?? INVALID;
  return encoding.end < limit || encoding.end - offset === 15 ? TOO_LONG : TRUNCATED;
}

function decodeInto(e: Encoding): Insn | undefined {
  const row = findRow(e);
  if (row === undefined) return undefined;
  e.operandSize = operandSizeOf(e, row);
  e.addressSize = addressSizeOf(e);
  if (!readMemory(e, row)) return undefined;
  const operands = bindOperands(e, row);
  if (e.invalid || e.truncated) return undefined;
  if (e.namesRegister && !row.operands.some((o) => o.letter === 'B' || o.letter === 'H')) return undefined;
  const { memory, vvvv } = e;
  // A gather's destination, index and mask are three registers.
  if (memory?.vectorIndex && (memory.index === e.reg || memory.index === vvvv || e.reg === vvvv)) return undefined;
  if (e.lock && !(row.operation.lock && operands[0]?.place === 'memory')) return undefined;

  const length = e.at - e.start;
  const repeated = e.repeat !== 0 && row.prefix !== 'F3' && row.prefix !== 'F2';
  return {
    row,
    mode: e.mode,
    length,
    operandSize: e.operandSize,
    addressSize: e.addressSize,
    operands,
    memory,
    segment: e.segmentOr(3),
    immediate: e.immediate,
    immediate2: e.immediate2,
    displacement: e.displacement + length,
    lock: e.lock,
    rep: !repeated ? 'none' : e.repeat === 0xf3 ? 'rep' : 'repne',
    rex: e.rex,
    condition: row.condition,
    handler: -1,
  };
}
