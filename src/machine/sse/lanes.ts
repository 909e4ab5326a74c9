/** Operands of SSE handlers as lanes: arrays of unsigned integers of one width, lowest first. */
import { FPR, FS, FTAG, FTOP, XMM } from '../engine/layout.ts';
import type { Insn } from '../isa/insn.ts';
import { loadLinear, loadLinearBytes } from '../mmu/access.ts';
import { GP, type Outcome } from '../outcome.ts';
import { effectiveAddress, memoryAddress, readOperand } from '../processor/operands.ts';
import type { Processor } from '../processor.ts';

export type LaneWidth = 8 | 16 | 32 | 64;

/** Cuts bytes into lanes. */
export function lanesOf(bytes: Uint8Array, width: LaneWidth): bigint[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const lanes: bigint[] = [];
  for (let at = 0; at < bytes.length; at += width / 8) {
    lanes.push(
      width === 64
        ? view.getBigUint64(at, true)
        : BigInt(width === 32 ? view.getUint32(at, true) : width === 16 ? view.getUint16(at, true) : bytes[at]!),
    );
  }
  return lanes;
}

/**
 * All bytes of a vector operand; undefined with p.outcome set where memory cannot be read.
 * @param aligned whether a 16-byte memory operand must be aligned
 */
export function readBytes(p: Processor, insn: Insn, n: number, aligned = true): Uint8Array | undefined {
  const { place, file, register, width } = insn.operands[n]!;
  const size = width / 8;
  if (place === 'memory') {
    const { segment } = insn.memory!;
    const linear = p.mode64
      ? effectiveAddress(p, insn) + (segment < FS ? 0n : p.segments[segment]!.base)
      : memoryAddress(p, insn, size, false);
    if (linear === undefined) return undefined;
    // In 64-bit mode alignment goes before the canonical form, and is #GP for the stack, too.
    if (aligned && size === 16 && linear & 15n) {
      p.raise(GP, 0);
      return undefined;
    }
    const from = p.mode64 ? memoryAddress(p, insn, size, false) : linear;
    return from === undefined ? undefined : loadLinearBytes(p, from, size);
  }
  return (file === 'mmx' ? p.fpr(register) : p.xmm(register)).slice(0, size);
}

/** The lanes of an operand in an XMM or MMX register or memory; undefined with p.outcome set where memory cannot be read. */
export function readLanes(p: Processor, insn: Insn, n: number, width: LaneWidth): bigint[] | undefined {
  const operand = insn.operands[n]!;
  if (operand.width === width) {
    // perf: scalars are the most of what comes here
    if (operand.place === 'memory') {
      const linear = memoryAddress(p, insn, width / 8, false);
      const value = linear === undefined ? undefined : loadLinear(p, linear, width / 8);
      return value === undefined ? undefined : [value];
    }
    if (operand.file === 'gpr') return [readOperand(p, insn, n)!];
    const at = (operand.file === 'mmx' ? FPR : XMM) + operand.register * 16;
    return [width === 64 ? p.read64(at) : BigInt(p.read32(at))];
  }
  const bytes = readBytes(p, insn, n);
  return bytes === undefined ? undefined : lanesOf(bytes, width);
}

/** Writes lanes into the low part of an XMM or MMX register operand. */
export function writeLanes(p: Processor, insn: Insn, n: number, width: LaneWidth, lanes: readonly bigint[]): void {
  const { file, register } = insn.operands[n]!;
  const bytes = file === 'mmx' ? p.fpr(register) : p.xmm(register);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  lanes.forEach((value, i) => {
    if (width === 64) view.setBigUint64(i * 8, BigInt.asUintN(64, value), true);
    else if (width === 32) view.setUint32(i * 4, Number(BigInt.asUintN(32, value)), true);
    else if (width === 16) view.setUint16(i * 2, Number(BigInt.asUintN(16, value)), true);
    else bytes[i] = Number(BigInt.asUintN(8, value));
  });
  if (file === 'mmx') bytes[8] = bytes[9] = 0xff;
}

/** What every MMX instruction does to the x87 state: all registers valid, TOP 0. */
export function touchMmx(p: Processor): void {
  p.write8(FTOP, 0);
  p.write8(FTAG, 0xff);
}

/** Reads operands 0 and 1, computes, writes operand 0; nothing is written unless both can be read. */
export function twoOperands(
  p: Processor,
  insn: Insn,
  width: LaneWidth,
  compute: (a: readonly bigint[], b: readonly bigint[]) => Outcome,
): Outcome {
  const a = readLanes(p, insn, 0, width);
  if (a === undefined) return p.outcome;
  const b = readLanes(p, insn, 1, width);
  return b === undefined ? p.outcome : compute(a, b);
}
