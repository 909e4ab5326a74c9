/**
 * CMPS in TypeScript, one iteration, for operands that have no TLB entries: it is the only operation that reads two
 * places, and two one-shot entries of one array can get into each other's way.
 * @sdm "CMPS/CMPSB/CMPSW/CMPSD/CMPSQ"
 */
import { ES, RCX, RDI, RSI } from '../engine/layout.ts';
import type { Insn } from '../isa/insn.ts';
import { JUMPED, type Outcome } from '../outcome.ts';
import { linearOf, writeGpr } from '../processor/operands.ts';
import { advanceRip } from '../processor/rip.ts';
import { FLAG_AF, FLAG_CF, FLAG_DF, FLAG_OF, FLAG_PF, FLAG_SF, FLAG_ZF, type Processor } from '../processor.ts';
import { type AccessSize, loadLinear } from './access.ts';

export const isCompareStrings = (insn: Insn): boolean =>
  insn.row.operation.string && insn.row.operation.mnemonic.startsWith('CMPS');

export function compareStrings(p: Processor, insn: Insn): Outcome {
  const size = (insn.row.operation.mnemonic === 'CMPSB' ? 1 : insn.operandSize / 8) as AccessSize;
  const { addressSize } = insn;
  const register = (n: number): bigint => BigInt.asUintN(addressSize, p.gpr(n));
  const right = load(p, ES, register(RDI), size);
  if (right === undefined) return p.outcome;
  const left = load(p, insn.segment, register(RSI), size);
  if (left === undefined) return p.outcome;

  // all checks passed
  const flags = flagsOfDifference(left, right, size * 8);
  const step = BigInt(p.flagsRest & FLAG_DF ? -size : size);
  for (const n of [RSI, RDI]) writeGpr(p, n, addressSize, BigInt.asUintN(addressSize, register(n) + step));
  let again = false;
  if (insn.rep !== 'none') {
    const count = BigInt.asUintN(addressSize, register(RCX) - 1n);
    writeGpr(p, RCX, addressSize, count);
    again = count !== 0n && ((flags & FLAG_ZF) !== 0) === (insn.rep === 'rep');
  }
  if (!again) {
    p.machine.engine.setStatusFlags(p.block, flags);
    advanceRip(p, insn);
  }
  return JUMPED;
}

function load(p: Processor, segment: number, offset: bigint, size: AccessSize): bigint | undefined {
  const linear = linearOf(p, segment, offset, size, false);
  return linear === undefined ? undefined : loadLinear(p, linear, size);
}

/** Status flags of left - right. */
function flagsOfDifference(left: bigint, right: bigint, width: number): number {
  const result = BigInt.asUintN(width, left - right);
  const sign = (v: bigint): boolean => v >> BigInt(width - 1) !== 0n;
  let flags = 0;
  if (left < right) flags |= FLAG_CF;
  if ((left & 15n) < (right & 15n)) flags |= FLAG_AF;
  if (result === 0n) flags |= FLAG_ZF;
  if (sign(result)) flags |= FLAG_SF;
  if (sign(left) !== sign(right) && sign(result) !== sign(left)) flags |= FLAG_OF;
  let parity = Number(result & 0xffn);
  parity ^= parity >> 4;
  parity ^= parity >> 2;
  parity ^= parity >> 1;
  if ((parity & 1) === 0) flags |= FLAG_PF;
  return flags;
}
