/** Operands of TypeScript handlers: effective and linear addresses, reading and writing. */
import { ES, GS, SS } from '../engine/layout.ts';
import type { Insn, Operand } from '../isa/insn.ts';
import { loadLinear, storeLinear } from '../mmu/access.ts';
import { DONE, FAULT, GP, type Outcome, SS_FAULT } from '../outcome.ts';
import { AR_DB, AR_P, AR_UNUSABLE, type Processor, type Segment } from '../processor.ts';
import { isCanonical } from './canonical.ts';
import { nextRip } from './rip.ts';

/** Offset of the memory operand within its segment, cut to the address size. */
export function effectiveAddress(p: Processor, insn: Insn): bigint {
  const memory = insn.memory!;
  let offset = BigInt(memory.disp);
  if (memory.base >= 0) offset += p.gpr(memory.base);
  if (memory.index >= 0) offset += p.gpr(memory.index) << BigInt(memory.scale);
  if (memory.ripRelative) offset += nextRip(p, insn.length);
  return BigInt.asUintN(insn.addressSize, offset);
}

/**
 * Whether [offset, offset + size) may be accessed through a segment outside 64-bit mode: usable, of a fitting type,
 * within the limit (above it, for expand-down data).
 *
 * @sdm "Limit Checking", "Type Checking"
 */
export function segmentAllows(p: Processor, segment: Segment, offset: bigint, size: number, write: boolean): boolean {
  const { attributes } = segment;
  // An access that leaves a segment of 4 GiB at its top wraps; whether that faults is the processor's choice.
  const last = segment.limit === 0xffff_ffff ? Number(offset) : Number(offset) + size - 1;
  if (!p.protectedMode || p.v86) return last <= segment.limit;
  if ((attributes & (AR_UNUSABLE | AR_P)) !== AR_P) return false;
  const type = attributes & 15;
  const code = (type & 8) !== 0;
  if (write ? code || (type & 2) === 0 : code && (type & 2) === 0) return false;
  if ((type & 12) !== 4) return last <= segment.limit;
  return Number(offset) > segment.limit && last <= (attributes & AR_DB ? 0xffff_ffff : 0xffff);
}

/**
 * Linear address of `size` bytes at `offset` of segment register `n`; undefined with #GP(0) or #SS(0) raised
 * where the segment (in 64-bit mode: the canonical form) forbids it.
 *
 * @param p the processor
 * @param n ES to GS
 * @param offset already cut to the address size
 * @param size in bytes, at least 1
 * @param write whether the access writes
 */
export function linearOf(p: Processor, n: number, offset: bigint, size: number, write: boolean): bigint | undefined {
  const segment = p.segments[n]!;
  if (p.mode64) {
    const linear = n >= 4 ? BigInt.asUintN(64, segment.base + offset) : offset;
    if (isCanonical(p, linear) && isCanonical(p, BigInt.asUintN(64, linear + BigInt(size - 1)))) return linear;
  } else if (segmentAllows(p, segment, offset, size, write)) {
    return BigInt.asUintN(32, segment.base + offset);
  }
  p.raise(n === SS ? SS_FAULT : GP, 0);
  return undefined;
}

/** Linear address of the instruction's memory operand of `size` bytes, checked; undefined with a fault raised. */
export function memoryAddress(p: Processor, insn: Insn, size: number, write: boolean): bigint | undefined {
  const { segment } = insn.memory!;
  return linearOf(p, segment, effectiveAddress(p, insn), size, write);
}

function readRegister(p: Processor, { file, register, width, high }: Operand): bigint {
  if (file === 'segment') {
    if (register < ES || register > GS) throw new RangeError(`no segment register ${register}`);
    return BigInt(p.segments[register]!.selector);
  }
  if (file !== 'gpr') throw new TypeError(`readOperand knows no ${file} register`);
  return BigInt.asUintN(width, high ? p.gpr(register) >> 8n : p.gpr(register));
}

/** Value of operand `n`, zero-extended (immediates: cut to the operand's width). Undefined with p.outcome set if the access failed. */
export function readOperand(p: Processor, insn: Insn, n: number): bigint | undefined {
  const operand = insn.operands[n]!;
  switch (operand.place) {
    case 'memory': {
      const size = operand.width / 8;
      const linear = memoryAddress(p, insn, size, operand.access !== 'r');
      return linear === undefined ? undefined : loadLinear(p, linear, size as 1 | 2 | 4 | 8);
    }
    case 'immediate':
    case 'immediate64':
      return BigInt.asUintN(operand.width, insn.immediate);
    case 'relative':
      return BigInt.asUintN(insn.mode === 64 ? 64 : insn.operandSize, p.rip + BigInt(insn.displacement));
    case 'far':
      return insn.immediate;
    default:
      return readRegister(p, operand);
  }
}

/** Writes a GPR of 8 to 64 bits with the upper-half rules: 32-bit writes clear it, narrower ones keep it. */
export function writeGpr(p: Processor, register: number, width: number, value: bigint, high = false): void {
  if (width >= 32) {
    p.setGpr(register, BigInt.asUintN(width, value));
    return;
  }
  const shift = high ? 8n : 0n;
  const mask = ((1n << BigInt(width)) - 1n) << shift;
  p.setGpr(register, (p.gpr(register) & ~mask) | ((value << shift) & mask));
}

/** Writes operand `n` (register or memory); the value is cut to the operand's width. */
export function writeOperand(p: Processor, insn: Insn, n: number, value: bigint): Outcome {
  const operand = insn.operands[n]!;
  const { width } = operand;
  if (operand.place === 'memory') {
    const linear = memoryAddress(p, insn, width / 8, true);
    if (linear === undefined) return FAULT;
    return storeLinear(p, linear, (width / 8) as 1 | 2 | 4 | 8, BigInt.asUintN(width, value));
  }
  if (operand.file !== 'gpr') throw new TypeError(`writeOperand knows no ${operand.file} register`);
  writeGpr(p, operand.register, width, value, operand.high);
  return DONE;
}
