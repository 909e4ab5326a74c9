/** Memory operands of x87 instructions. */
import type { Insn } from '../isa/insn.ts';
import { checkWritable, loadLinear, loadLinearBytes, storeLinear, storeLinearBytes } from '../mmu/access.ts';
import { FAULT, type Outcome } from '../outcome.ts';
import { memoryAddress } from '../processor/operands.ts';
import type { Processor } from '../processor.ts';
import { F32, F64, F80, type Float, normal, unpack, zero } from '../softfloat/float.ts';

export const isMemory = (insn: Insn): boolean => insn.operands[0]?.place === 'memory';
/** i of the ST(i) operand. */
export const stackIndex = (insn: Insn): number => insn.operands[0]!.register;
/** Of 80-bit numbers and decimals, where alignments are checked. */
const EXTENDED_ALIGNMENT = 8;
const sizeOf = (insn: Insn): number => insn.operands[0]!.width / 8;

/** The bits of the memory operand (10 bytes at most); undefined with p.outcome set where it cannot be read. */
export function loadBits(p: Processor, insn: Insn): bigint | undefined {
  const size = sizeOf(insn);
  const linear = memoryAddress(p, insn, size, false);
  if (linear === undefined) return undefined;
  if (size !== 10) return loadLinear(p, linear, size);
  const bytes = loadLinearBytes(p, linear, 10, false, false, EXTENDED_ALIGNMENT);
  if (bytes === undefined) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return view.getBigUint64(0, true) | (BigInt(view.getUint16(8, true)) << 64n);
}

/** A single or double in memory. */
export function loadFloat(p: Processor, insn: Insn): Float | undefined {
  const bits = loadBits(p, insn);
  if (bits === undefined) return undefined;
  return unpack(sizeOf(insn) === 4 ? F32 : sizeOf(insn) === 8 ? F64 : F80, bits);
}

/** A signed integer as an exact 80-bit number. */
export function floatOf(value: bigint): Float {
  if (value === 0n) return zero(0);
  const magnitude = value < 0n ? -value : value;
  const length = magnitude.toString(2).length;
  return normal(value < 0n ? 1 : 0, length - 1, magnitude << BigInt(64 - length));
}

/** A signed integer in memory. */
export function loadInteger(p: Processor, insn: Insn): Float | undefined {
  const bits = loadBits(p, insn);
  return bits === undefined ? undefined : floatOf(BigInt.asIntN(sizeOf(insn) * 8, bits));
}

/** Stores the low bits of a value into the memory operand. */
export function storeBits(p: Processor, insn: Insn, value: bigint): Outcome {
  const size = sizeOf(insn);
  const linear = memoryAddress(p, insn, size, true);
  if (linear === undefined) return FAULT;
  if (size !== 10) return storeLinear(p, linear, size, BigInt.asUintN(size * 8, value));
  const bytes = new Uint8Array(10);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt.asUintN(64, value), true);
  view.setUint16(8, Number((value >> 64n) & 0xffffn), true);
  return storeLinearBytes(p, linear, bytes, false, false, EXTENDED_ALIGNMENT);
}

/** Whether storeBits would succeed. */
export function canStore(p: Processor, insn: Insn): Outcome {
  const size = sizeOf(insn);
  const linear = memoryAddress(p, insn, size, true);
  if (linear === undefined) return FAULT;
  return size === 10 ? checkWritable(p, linear, 10, false, EXTENDED_ALIGNMENT) : checkWritable(p, linear, size);
}
