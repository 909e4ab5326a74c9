/** Operands of SSE handlers as lanes: arrays of unsigned integers of one width, lowest first. */
import { FPR, FS, FTAG, FTOP, XMM } from '../engine/layout.ts';
import { type Handler, implement } from '../isa/handlers.ts';
import type { Insn } from '../isa/insn.ts';
import { loadLinear, loadLinearBytes } from '../mmu/access.ts';
import { naturalAlignment } from '../mmu/alignment.ts';
import { GP, type Outcome } from '../outcome.ts';
import { effectiveAddress, memoryAddress, readOperand } from '../processor/operands.ts';
import type { Processor } from '../processor.ts';

export type LaneWidth = 8 | 16 | 32 | 64;

/** Registers the handler of an instruction and of its VEX forms. */
export function implementBoth(mnemonic: string, handler: Handler): void {
  implement(mnemonic, handler);
  implement(`V${mnemonic}`, handler);
}

/** Number of the first of two sources: VEX instructions have a destination of their own. */
export const firstSource = ({ row }: Insn): number =>
  row.vex >= 0 && row.operands.filter(({ letter }) => letter !== 'I').length === 3 ? 1 : 0;
/** Number of the last source, the only one of some. */
export const lastSource = (insn: Insn): number => firstSource(insn) + 1;

/** All bytes of a vector register, live views of its halves joined as a copy. */
function registerBytes(p: Processor, register: number, size: number): Uint8Array {
  const bytes = new Uint8Array(32);
  bytes.set(p.xmm(register));
  if (size > 16) bytes.set(p.ymmHigh(register), 16);
  return bytes.subarray(0, size);
}

/** Writes up to 32 bytes to a vector register as VEX instructions do: what is above them is cleared. */
export function writeVexRegister(p: Processor, register: number, bytes: Uint8Array): void {
  const all = new Uint8Array(32);
  all.set(bytes);
  p.xmm(register).set(all.subarray(0, 16));
  p.ymmHigh(register).set(all.subarray(16));
}

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
 * @param aligned whether a 16-byte memory operand must be aligned; that of a VEX instruction need not
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
    if (aligned && insn.row.vex < 0 && size === 16 && linear & 15n) {
      p.raise(GP, 0);
      return undefined;
    }
    const from = p.mode64 ? memoryAddress(p, insn, size, false) : linear;
    return from === undefined ? undefined : loadLinearBytes(p, from, size, false, false, naturalAlignment(size));
  }
  return file === 'mmx' ? p.fpr(register).slice(0, size) : registerBytes(p, register, size);
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

/**
 * Writes lanes into the low part of an XMM or MMX register operand. Of a VEX instruction with two sources, the rest of the
 * low 128 bits comes from the first.
 */
export function writeLanes(p: Processor, insn: Insn, n: number, width: LaneWidth, lanes: readonly bigint[]): void {
  const { file, register } = insn.operands[n]!;
  if (insn.row.vex >= 0) {
    const first = firstSource(insn);
    const all = registerBytes(p, first === 1 ? insn.operands[1]!.register : register, 32);
    all.fill(0, first === 1 ? 16 : 0);
    put(all, width, lanes);
    writeVexRegister(p, register, all);
    return;
  }
  const bytes = file === 'mmx' ? p.fpr(register) : p.xmm(register);
  put(bytes, width, lanes);
  if (file === 'mmx') bytes[8] = bytes[9] = 0xff;
}

/** Writes lanes into the low part of operand 0 of a VEX instruction that keeps the rest of its low 128 bits (FMA scalars). */
export function writeDestination(p: Processor, insn: Insn, width: LaneWidth, lanes: readonly bigint[]): void {
  const { register } = insn.operands[0]!;
  const all = registerBytes(p, register, 32);
  all.fill(0, 16);
  put(all, width, lanes);
  writeVexRegister(p, register, all);
}

function put(bytes: Uint8Array, width: LaneWidth, lanes: readonly bigint[]): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  lanes.forEach((value, i) => {
    if (width === 64) view.setBigUint64(i * 8, BigInt.asUintN(64, value), true);
    else if (width === 32) view.setUint32(i * 4, Number(BigInt.asUintN(32, value)), true);
    else if (width === 16) view.setUint16(i * 2, Number(BigInt.asUintN(16, value)), true);
    else bytes[i] = Number(BigInt.asUintN(8, value));
  });
}

/** What every MMX instruction does to the x87 state: all registers valid, TOP 0. */
export function touchMmx(p: Processor): void {
  p.write8(FTOP, 0);
  p.write8(FTAG, 0xff);
}

/** Reads both sources (of most instructions operand 0 is the first), computes, writes operand 0; nothing is written unless both can be read. */
export function twoOperands(
  p: Processor,
  insn: Insn,
  width: LaneWidth,
  compute: (a: readonly bigint[], b: readonly bigint[]) => Outcome,
): Outcome {
  const first = firstSource(insn);
  const a = readLanes(p, insn, first, width);
  if (a === undefined) return p.outcome;
  const b = readLanes(p, insn, first + 1, width);
  return b === undefined ? p.outcome : compute(a, b);
}
