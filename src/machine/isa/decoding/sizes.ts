/**
 * Operand and address size of an instruction, and the width of each operand.
 * @sdm "Operand-Size and Address-Size Attributes"
 */

import type { OperandWidth } from '../insn.ts';
import type { OperandSpec, Row } from '../row.ts';
import type { Encoding } from './encoding.ts';

export function operandSizeOf(e: Encoding, row: Row): 16 | 32 | 64 {
  // 66 is an operand size prefix unless it chose the row; next to a mandatory F3/F2 it still is.
  const small = e.size66 && row.prefix !== '66';
  if (e.mode !== 64) return (e.mode === 32) !== small ? 32 : 16;
  const { operation } = row;
  if (operation.force64 || e.w === 1) return 64;
  if (small) return 16;
  return operation.default64 ? 64 : 32;
}

export function addressSizeOf(e: Encoding): 16 | 32 | 64 {
  if (e.mode === 64) return e.size67 ? 32 : 64;
  return (e.mode === 32) !== e.size67 ? 32 : 16;
}

/** Bits of an operand. @param w REX.W or VEX.W */
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
