/**
 * Memory operands: ModRM, SIB, displacement; and the absolute offsets of MOV.
 * @sdm "ModR/M and SIB Bytes", "64-Bit Mode Displacement", "VSIB Memory Addressing"
 */

import type { MemoryOperand } from '../insn.ts';
import type { Row } from '../row.ts';
import type { Encoding } from './encoding.ts';

const SS = 2,
  DS = 3;
const RSP = 4,
  RBP = 5;

/** Reads the memory operand that ModRM names, if it names one. @returns false if the bytes are no instruction */
export function readMemory(e: Encoding, row: Row): boolean {
  if (!row.hasModrm || row.modrm >= 0 || e.modrm >= 0xc0) return true;
  // ModRM.mod is ignored where the operand is always a register.
  if (row.operands.some((o) => o.letter === 'R' || o.letter === 'C' || o.letter === 'D')) return true;
  const vsib = e.vex && row.operands.some((o) => o.letter === 'K');
  if (vsib && (e.addressSize === 16 || (e.modrm & 7) !== 4)) return false;
  e.memory = e.addressSize === 16 ? memory16(e) : memory32(e, vsib);
  return true;
}

function memory32(e: Encoding, vsib: boolean): MemoryOperand {
  const mod = e.modrm >> 6;
  let base = e.rm,
    index = -1,
    scale = 0,
    ripRelative = false;
  if ((e.modrm & 7) === 4) {
    const sib = e.u8();
    index = ((sib >> 3) & 7) | ((e.rex & 2) << 2);
    if (index === 4 && !vsib) index = -1;
    if (index >= 0) scale = sib >> 6;
    base = (sib & 7) | ((e.rex & 1) << 3);
    if ((sib & 7) === 5 && mod === 0) base = -1;
  } else if ((e.modrm & 7) === 5 && mod === 0) {
    base = -1;
    ripRelative = e.mode === 64;
  }
  const disp = mod === 1 ? e.i8() : mod === 2 || base < 0 ? e.i32() : 0;
  const segment = e.segmentOr(base === RSP || base === RBP ? SS : DS);
  const operand = { base, index, scale, disp, ripRelative, segment };
  return vsib ? { ...operand, vectorIndex: true } : operand;
}

const BASE16 = [3, 3, 5, 5, 6, 7, 5, 3];
const INDEX16 = [6, 7, 6, 7, -1, -1, -1, -1];

function memory16(e: Encoding): MemoryOperand {
  const mod = e.modrm >> 6,
    rm = e.modrm & 7;
  const absolute = mod === 0 && rm === 6;
  const base = absolute ? -1 : BASE16[rm]!;
  const disp = mod === 1 ? e.i8() : mod === 2 || absolute ? e.i16() : 0;
  const segment = e.segmentOr(base === RBP ? SS : DS);
  return { base, index: INDEX16[rm]!, scale: 0, disp, ripRelative: false, segment };
}

/** Reads an offset as wide as an address. Beyond 32 bits it travels as an immediate. */
export function readOffset(e: Encoding): void {
  const low = (e.addressSize === 16 ? e.u16() : e.i32()) >>> 0;
  const wide = e.addressSize === 64 ? (BigInt(e.i32()) << 32n) | BigInt(low) : undefined;
  if (wide !== undefined) e.immediate = wide;
  const disp = wide === undefined ? low : Number(wide);
  e.memory = { base: -1, index: -1, scale: 0, disp, ripRelative: false, segment: e.segmentOr(DS) };
}
