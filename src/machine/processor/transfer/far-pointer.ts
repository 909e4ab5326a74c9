/** Far pointers as operands: ptr16:16, ptr16:32, m16:16, m16:32 and m16:64. */
import type { Insn } from '../../isa/insn.ts';
import { loadLinear } from '../../mmu/access.ts';
import type { Processor } from '../../processor.ts';
import { memoryAddress } from '../operands.ts';

export interface FarPointer {
  readonly selector: number;
  /** As wide as the operand size. */
  readonly offset: bigint;
}

/** The far pointer that the instruction's memory operand holds: offset first. Undefined with p.outcome set. */
export function loadFarPointer(p: Processor, insn: Insn): FarPointer | undefined {
  const size = (insn.operandSize / 8) as 2 | 4 | 8;
  const linear = memoryAddress(p, insn, size + 2, false);
  if (linear === undefined) return undefined;
  const offset = loadLinear(p, linear, size);
  if (offset === undefined) return undefined;
  const selector = loadLinear(p, BigInt.asUintN(p.mode64 ? 64 : 32, linear + BigInt(size)), 2);
  if (selector === undefined) return undefined;
  return { selector: Number(selector), offset };
}

/** The pointer of a far JMP or CALL, in the instruction or in memory. Undefined with p.outcome set. */
export function farPointerOf(p: Processor, insn: Insn): FarPointer | undefined {
  if (insn.memory !== null) return loadFarPointer(p, insn);
  return { selector: insn.immediate2, offset: BigInt.asUintN(insn.operandSize, insn.immediate) };
}
