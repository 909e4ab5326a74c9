/**
 * SSE4.2 string comparison. @sdm "Comparison and Aggregation", "PCMPISTRI"
 *
 * The immediate: 1:0 unsigned bytes, unsigned words, signed bytes, signed words; 3:2 equal any, ranges, equal each, equal
 * ordered; 5:4 polarity (bit 4 negates, bit 5 only where the second string is valid); 6 most significant index, or a
 * mask of whole elements.
 */
import { RAX, RCX, RDX } from '../engine/layout.ts';
import type { Insn } from '../isa/insn.ts';
import { DONE, type Outcome } from '../outcome.ts';
import { FLAG_CF, FLAG_OF, FLAG_SF, FLAG_ZF, type Processor } from '../processor.ts';
import { implementBoth, readBytes } from './lanes.ts';

const WORDS = 1;
const SIGNED = 2;
const NEGATE = 0x10;
const VALID_ONLY = 0x20;
const UPPER = 0x40;

function elements(bytes: Uint8Array, format: number): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, 16);
  if (format & WORDS)
    return Array.from({ length: 8 }, (_, i) =>
      format & SIGNED ? view.getInt16(i * 2, true) : view.getUint16(i * 2, true),
    );
  return Array.from({ length: 16 }, (_, i) => (format & SIGNED ? view.getInt8(i) : view.getUint8(i)));
}

/** Length by the terminating zero, or by EAX/EDX (their absolute value, saturated). */
const implicitLength = (list: readonly number[]): number => (list.includes(0) ? list.indexOf(0) : list.length);
function explicitLength(p: Processor, register: number, wide: boolean, most: number): number {
  const value = BigInt.asIntN(wide ? 64 : 32, p.gpr(register));
  const length = value < 0n ? -value : value;
  return length > BigInt(most) ? most : Number(length);
}

/** IntRes1: bit j says what became of element j of the second string. */
function aggregate(a: readonly number[], b: readonly number[], lengthA: number, lengthB: number, mode: number): number {
  const count = a.length;
  let result = 0;
  for (let j = 0; j < count; j++) {
    let hit = false;
    if (mode === 0) {
      for (let i = 0; i < lengthA && j < lengthB; i++) hit ||= a[i] === b[j];
    } else if (mode === 1) {
      for (let i = 0; i + 1 < lengthA && j < lengthB; i += 2) hit ||= a[i]! <= b[j]! && b[j]! <= a[i + 1]!;
    } else if (mode === 2) {
      hit = j < lengthA && j < lengthB ? a[j] === b[j] : j >= lengthA && j >= lengthB;
    } else {
      hit = true;
      // A needle that has ended matches; a haystack that has ended does not.
      for (let i = 0; i + j < count && i < lengthA; i++) hit &&= i + j < lengthB && a[i] === b[i + j];
    }
    if (hit) result |= 1 << j;
  }
  return result;
}

function compare(
  p: Processor,
  insn: Insn,
  explicit: boolean,
  deliver: (result: number, count: number, immediate: number) => void,
): Outcome {
  const second = readBytes(p, insn, 1, false);
  if (second === undefined) return p.outcome;
  const immediate = Number(insn.immediate & 0xffn);
  const a = elements(p.xmm(insn.operands[0]!.register).slice(), immediate),
    b = elements(second, immediate);
  const count = a.length;
  const wide = p.mode64 && (insn.rex & 8) !== 0;
  const lengthA = explicit ? explicitLength(p, RAX, wide, count) : implicitLength(a);
  const lengthB = explicit ? explicitLength(p, RDX, wide, count) : implicitLength(b);
  let result = aggregate(a, b, lengthA, lengthB, (immediate >> 2) & 3);
  if (immediate & NEGATE) result ^= immediate & VALID_ONLY ? (1 << lengthB) - 1 : (1 << count) - 1;
  deliver(result, count, immediate);
  if (insn.row.vex >= 0 && insn.row.operation.mnemonic.endsWith('M')) p.ymmHigh(0).fill(0);
  p.rflags =
    (p.rflags & ~0x8d5) |
    (result !== 0 ? FLAG_CF : 0) |
    (lengthB < count ? FLAG_ZF : 0) |
    (lengthA < count ? FLAG_SF : 0) |
    (result & 1 ? FLAG_OF : 0);
  return DONE;
}

const index =
  (p: Processor) =>
  (result: number, count: number, immediate: number): void => {
    const found =
      result === 0 ? count : immediate & UPPER ? 31 - Math.clz32(result) : 31 - Math.clz32(result & -result);
    p.setGpr32(RCX, found);
  };
const mask =
  (p: Processor) =>
  (result: number, count: number, immediate: number): void => {
    const out = p.xmm(0);
    out.fill(0);
    const size = 16 / count;
    if (immediate & UPPER)
      for (let i = 0; i < count; i++) out.fill(result & (1 << i) ? 0xff : 0, i * size, (i + 1) * size);
    else {
      out[0] = result & 0xff;
      out[1] = result >> 8;
    }
  };
implementBoth('PCMPESTRI', (p, insn) => compare(p, insn, true, index(p)));
implementBoth('PCMPISTRI', (p, insn) => compare(p, insn, false, index(p)));
implementBoth('PCMPESTRM', (p, insn) => compare(p, insn, true, mask(p)));
implementBoth('PCMPISTRM', (p, insn) => compare(p, insn, false, mask(p)));
